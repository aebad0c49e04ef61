//! Action parameters as arguments of a script (spec/runners.md §5).

use model::Object;
use serde_json::Value;

use super::python_text::str_of;

/// Named arguments first, in the order of `parameters`, then positional ones by their position; each quoted.
pub fn script_arguments(schemas: &Object, parameters: &Object, kwarg_op: &str) -> String {
    let mut words = Vec::new();
    for (name, value) in parameters {
        if position(schemas, name).is_none() {
            words.extend(named(kwarg_op, name, value));
        }
    }
    words.extend(positional_texts(schemas, parameters).iter().map(|text| quote(text)));
    words.join(" ")
}

fn position(schemas: &Object, name: &str) -> Option<i64> {
    schemas.get(name)?.get("position")?.as_i64()
}

/// The values of parameters with a position as texts, in its order.
pub fn positional_texts(schemas: &Object, parameters: &Object) -> Vec<String> {
    let mut positional: Vec<_> =
        parameters.iter().filter_map(|(name, value)| Some((position(schemas, name)?, name, value))).collect();
    positional.sort_by_key(|(at, ..)| *at);
    let text = |(_, name, value): (i64, &String, &Value)| {
        let kind = schemas.get(name).and_then(|schema| schema.get("type")).and_then(Value::as_str);
        positional_text(kind, value)
    };
    positional.into_iter().map(text).collect()
}

fn named(kwarg_op: &str, name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Bool(true) => Some(format!("{kwarg_op}{name}")),
        value => Some(format!("{}={}", quote(&format!("{kwarg_op}{name}")), quote(&str_of(value)))),
    }
}

fn positional_text(kind: Option<&str>, value: &Value) -> String {
    match (kind, value) {
        (_, Value::Null) => String::new(),
        (Some("string" | "number" | "float"), value) => str_of(value),
        (Some("boolean"), value) => if is_true(value) { "1" } else { "0" }.to_owned(),
        (Some("array" | "list"), Value::Array(items)) => items.iter().map(str_of).collect::<Vec<_>>().join(","),
        (Some("object"), Value::Object(object)) if object.is_empty() => String::new(),
        (Some("object"), value @ Value::Object(_)) => value.to_string(),
        (Some("null"), _) => String::new(),
        // Integers and unknown types: what Python takes for false is left empty, 0 among it.
        (_, value) => {
            if is_true(value) {
                str_of(value)
            } else {
                String::new()
            }
        }
    }
}

/// Python's truth.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// `text` as one word of a POSIX shell.
pub fn quote(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(is_safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn the_shell_reads_back_what_was_quoted(words in proptest::collection::vec("[^\\x00]*", 1..5)) {
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", &format!("printf '%s\\0' {line}")])
                .output()
                .unwrap();
            let read: Vec<_> = output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            let given: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).chain([Vec::new()]).collect();
            proptest::prop_assert_eq!(read, given);
        }
    }

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_measured_command_line() {
        let schemas = object(json!({
            "p": {"type": "string", "position": 0}, "q": {"type": "string", "position": 1},
            "r": {"type": "boolean", "position": 2},
        }));
        let parameters = object(json!({
            "r": true, "a": "x y", "b": true, "c": false, "d": null, "e": "", "f": 5, "g": [1, "b c"],
            "h": {"k": "v"}, "i": 0, "j": 1.5, "p": "p q", "q": "",
        }));
        assert_eq!(
            script_arguments(&schemas, &parameters, "--"),
            r#"--a='x y' --b --f=5 --g='[1, '"'"'b c'"'"']' --h='{'"'"'k'"'"': '"'"'v'"'"'}' --i=0 --j=1.5 'p q' '' 1"#
        );
    }

    #[test]
    fn positional_values_by_type() {
        for (kind, value, text) in [
            (Some("integer"), json!(0), ""),
            (Some("integer"), json!(7), "7"),
            (Some("number"), json!(0), "0"),
            (Some("boolean"), json!(false), "0"),
            (Some("boolean"), json!(null), ""),
            (Some("array"), json!(["a", 1, null, true]), "a,1,None,True"),
            (Some("array"), json!([]), ""),
            (Some("object"), json!({"a": [1, 2]}), r#"{"a":[1,2]}"#),
            (Some("object"), json!({}), ""),
            (None, json!([1]), "[1]"),
            (None, json!(false), ""),
            (Some("null"), json!(5), ""),
        ] {
            assert_eq!(positional_text(kind, &value), text, "{kind:?} {value}");
        }
    }
}
