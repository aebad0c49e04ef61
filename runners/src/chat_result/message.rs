//! What is said where no alias says how: a few lines about the execution, then its result.

use model::Object;
use serde_json::Value;

/// Keys that are shown of the results of a runner; all if none are named.
fn keys_of(runner: &str) -> &'static [&'static str] {
    match runner {
        "python-script" => &["result", "stdout", "stderr", "exit_code"],
        "local-shell-cmd" | "local-shell-script" | "run-local" | "run-local-script" => {
            &["stdout", "stderr", "return_code", "error"]
        }
        "remote-shell-cmd" | "remote-shell-script" | "run-remote" | "run-remote-script" => {
            &["stdout", "stderr", "return_code", "error"]
        }
        _ => &[],
    }
}

/// The message for an execution in the shape of the API.
pub fn of(execution: &Object) -> String {
    let value = Value::Object(execution.clone());
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut lines = vec![
        format!("Action {} completed.", text("/action/ref")),
        format!("status : {}", text("/status")),
        format!("execution: {}", text("/id")),
    ];
    if !text("/web_url").is_empty() {
        lines.push(format!("web_url: {}", text("/web_url")));
    }
    let seconds = value.pointer("/elapsed_seconds").and_then(Value::as_f64).unwrap_or_default();
    lines.push(format!("Took {} to complete.", human(seconds)));
    lines.push("result :".to_owned());
    lines.push("--------".to_owned());
    let runner = text("/action/runner_type");
    match execution.get("result") {
        Some(Value::Object(result)) if runner.starts_with("remote-") || runner.starts_with("run-remote") => {
            for (host, result) in result {
                lines.push(format!("{host} :"));
                if let Value::Object(result) = result {
                    put_all(result, keys_of(runner), 1, &mut lines);
                }
            }
        }
        Some(Value::Object(result)) => put_all(result, keys_of(runner), 0, &mut lines),
        Some(other) => lines.push(plain(other)),
        None => {}
    }
    lines.join("\n")
}

/// As a clock would say it: what is zero in front is left out.
fn human(seconds: f64) -> String {
    if seconds < 1.0 {
        return "less than a second".to_owned();
    }
    // At most as many as an execution can take.
    let whole = seconds as u64;
    let parts = [(whole / 3_600, "h"), (whole / 60 % 60, "m"), (whole % 60, "s")];
    let shown: Vec<String> =
        parts.iter().skip_while(|(number, _)| *number == 0).map(|(number, unit)| format!("{number}{unit}")).collect();
    shown.concat()
}

fn put_all(fields: &Object, keys: &[&str], depth: usize, lines: &mut Vec<String>) {
    if keys.is_empty() {
        for (key, value) in fields {
            put(key, value, depth, lines);
        }
    }
    for key in keys {
        if let Some(value) = fields.get(*key) {
            put(key, value, depth, lines);
        }
    }
}

fn put(key: &str, value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            lines.push(format!("{indent}{key} :"));
            put_all(fields, &[], depth + 1, lines);
        }
        value if is_falsy(value) => {}
        Value::String(text) if text.contains('\n') => {
            lines.push(format!("{indent}{key} :"));
            lines.extend(text.trim_end_matches('\n').lines().map(|line| format!("{indent}{line}")));
        }
        value => lines.push(format!("{indent}{key} : {}", plain(value))),
    }
}

fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(runner: &str, result: Value) -> String {
        let execution = json!({
            "id": "e1", "status": "failed", "action": {"ref": "p.a", "runner_type": runner}, "result": result,
            "elapsed_seconds": 61.4, "web_url": "https://x/e1",
        });
        of(execution.as_object().unwrap())
    }

    #[test]
    fn by_runner() {
        let head = "Action p.a completed.\nstatus : failed\nexecution: e1\nweb_url: https://x/e1\nTook 1m1s to complete.\n\
                    result :\n--------\n";
        let local =
            said("local-shell-cmd", json!({"stdout": "a\nb\n", "stderr": "", "return_code": 3, "failed": true}));
        assert_eq!(local, format!("{head}stdout :\na\nb\nreturn_code : 3"));
        let python =
            said("python-script", json!({"result": {"a": {"b": [1]}, "n": null}, "exit_code": 0, "stdout": "x"}));
        assert_eq!(python, format!("{head}result :\n  a :\n    b : [1]\nstdout : x"));
        let remote = said("remote-shell-cmd", json!({"h1": {"stdout": "up", "succeeded": true}}));
        assert_eq!(remote, format!("{head}h1 :\n  stdout : up"));
        let other = said("orquesta", json!({"output": {"x": 1}, "errors": []}));
        assert_eq!(other, format!("{head}output :\n  x : 1"));
    }

    #[test]
    fn times() {
        let texts = [0.2, 1.9, 60.0, 3_661.0].map(human);
        assert_eq!(texts, ["less than a second", "1s", "1m0s", "1h1m1s"]);
    }
}
