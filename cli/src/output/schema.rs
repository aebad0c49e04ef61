//! `--with-schema`: an output schema guessed from a result.

use serde_json::{Map, Value, json};

use super::{table, yaml};

/// The framed suggestion printed below an execution.
pub fn suggestion(result: &Value) -> String {
    let schema = json!({ "output_schema": properties(result) });
    let text = yaml::dump(&schema, yaml::EMBEDDED);
    let heading = "Based on the action output the following inferred schema was built:";
    let lines: Vec<&str> = [heading, ""].into_iter().chain(text.lines()).chain([""]).collect();
    let inner = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let rule = table::note("", &format!("+{}+", "-".repeat(inner + 2)));
    let rule = rule.lines().next().unwrap_or_default();
    let body: Vec<String> = lines.iter().map(|line| format!("| {line:<inner$} |")).collect();
    format!("{rule}\n{}\n{rule}", body.join("\n"))
}

fn properties(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), schema(value))).collect::<Map<_, _>>().into(),
        other => schema(other),
    }
}

fn schema(value: &Value) -> Value {
    match value {
        Value::Null => json!({"type": "null"}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(_) => json!({"type": "array"}),
        Value::Object(_) => json!({"type": "object", "parameters": properties(value)}),
    }
}
