//! `st2 run ACTION -h`: what an action's parameters are.

use serde_json::{Map, Value};

use super::{python, wrap};

const WIDTH: usize = 78;

/// The action's description and its parameters, required ones first; immutable ones can't be given and aren't shown.
pub fn action(action: &Value, runner: &Map<String, Value>) -> String {
    let empty = Map::new();
    let own = action.get("parameters").and_then(Value::as_object).unwrap_or(&empty);
    let mut all = runner.clone();
    for (name, schema) in own {
        let merged = match (all.remove(name), schema) {
            (Some(Value::Object(mut base)), Value::Object(over)) => {
                base.extend(over.clone());
                Value::Object(base)
            }
            (_, schema) => schema.clone(),
        };
        all.insert(name.clone(), merged);
    }
    let flag = |schema: &Value, key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let mut shown: Vec<(&String, &Value)> = all.iter().filter(|(_, schema)| !flag(schema, "immutable")).collect();
    shown.sort_by_key(|(name, schema)| {
        (schema.get("position").and_then(Value::as_i64).unwrap_or(i64::MAX), (*name).clone())
    });
    let mut out = String::from("\n");
    let description = action.get("description").and_then(Value::as_str).unwrap_or_default();
    if !description.is_empty() {
        out.push_str(&format!("{description}\n\n"));
    }
    for (title, required) in [("Required Parameters:", true), ("Optional Parameters:", false)] {
        let part: Vec<_> = shown.iter().filter(|(_, schema)| flag(schema, "required") == required).collect();
        if part.is_empty() {
            continue;
        }
        out.push_str(&format!("{title}\n"));
        for (name, schema) in part {
            out.push_str(&format!("    {name}\n{}\n", details(schema)));
        }
    }
    out.trim_end_matches('\n').to_owned() + "\n"
}

fn details(schema: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(text) = schema.get("description").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        lines.extend(wrap::wrap(text, WIDTH - 8));
    }
    if let Some(kind) = schema.get("type") {
        lines.push(format!("Type: {}", python::text(kind)));
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        lines.push(format!("Enum: {}", choices.iter().map(python::text).collect::<Vec<_>>().join(", ")));
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        lines.push(format!("Default: {}", python::text(default)));
    }
    lines.iter().map(|line| format!("        {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_listed_by_position_and_name() {
        let runner =
            json!({"timeout": {"type": "integer", "default": 60}, "sudo": {"type": "boolean", "default": false}});
        let described = json!({
            "description": "D",
            "parameters": {"cmd": {"required": true, "type": "string"}, "sudo": {"immutable": true}, "a": {"type": "array", "default": [1], "position": 0}},
        });
        let text = action(&described, runner.as_object().unwrap());
        let expected = "\nD\n\nRequired Parameters:\n    cmd\n        Type: string\n\nOptional Parameters:\n    a\n        Type: array\n        Default: [1]\n\n    timeout\n        Type: integer\n        Default: 60\n";
        assert_eq!(text, expected);
    }
}
