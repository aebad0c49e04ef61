//! The schema of a definition in long form, and as much of JSON Schema (draft 4) as it needs.

use std::collections::HashMap;
use std::sync::LazyLock;

use parking_lot::Mutex;
use regex::Regex;
use serde_json::{Value, json};

use super::Fault;
use super::python::repr;

/// What `with.items` looks like: an expression, or names and an expression.
const ITEMS: &str = r"^(\s+)?({{.*?}}|<%.*?%>)(\s+)?$|^(\s+)?((\w+,\s?|\s+)+)?(\w+)\s+in\s+({{.*?}}|<%.*?%>)(\s+)?$";

pub static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let text = json!({"type": "string", "minLength": 1});
    let count = json!({"type": "integer", "minimum": 0});
    let text_or_count = json!({"oneOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}]});
    let names = json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": text});
    let one_key = json!({"type": "object", "minProperties": 1, "maxProperties": 1});
    let assignments = json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": one_key});
    let publish = json!({"oneOf": [text, assignments]});
    let transition = json!({
        "type": "object",
        "properties": {"when": text, "publish": publish, "do": {"oneOf": [text, names]}},
        "additionalProperties": false,
    });
    let with = json!({
        "type": "object",
        "properties": {
            "items": {"type": "string", "minLength": 1, "pattern": ITEMS},
            "concurrency": text_or_count,
        },
        "required": ["items"],
        "additionalProperties": false,
    });
    let retry = json!({
        "type": "object",
        "properties": {"when": text, "count": text_or_count, "delay": text_or_count},
        "required": ["count"],
        "additionalProperties": false,
    });
    let task = json!({
        "type": "object",
        "properties": {
            "action": text,
            "input": {"oneOf": [text, {"type": "object", "minProperties": 1}]},
            "with": with,
            "join": {"oneOf": [{"enum": ["all"]}, count]},
            "delay": text_or_count,
            "retry": retry,
            "next": {"type": "array", "items": transition},
        },
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "name": text,
            "version": {"enum": ["1.0", 1.0]},
            "description": text,
            "tags": names,
            "input": {
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": {"oneOf": [text, one_key]},
            },
            "vars": assignments,
            "output": assignments,
            "tasks": {
                "type": "object", "minProperties": 1,
                "patternProperties": {r"^\w+$": task},
                "additionalProperties": false,
            },
        },
        "required": ["tasks"],
        "additionalProperties": false,
    })
});

/// All faults of a value by a schema.
pub fn check(value: &Value, schema: &Value, spec_path: &str, schema_path: &str, faults: &mut Vec<Fault>) {
    let Value::Object(keywords) = schema else { return };
    for (keyword, rule) in keywords {
        let path = join(schema_path, keyword);
        let message = match keyword.as_str() {
            "type" => (!has_type(value, rule)).then(|| format!("{} is not of type {}", repr(value), repr(rule))),
            "enum" => {
                let known = rule.as_array().is_some_and(|known| known.iter().any(|known| equal(known, value)));
                (!known).then(|| format!("{} is not one of {}", repr(value), repr(rule)))
            }
            "oneOf" => {
                let fits = rule.as_array().is_some_and(|rules| rules.iter().any(|rule| is_valid(value, rule)));
                (!fits).then(|| format!("{} is not valid under any of the given schemas", repr(value)))
            }
            "minLength" | "minItems" | "minProperties" => {
                let short = length(value, keyword).is_some_and(|length| length < rule.as_u64().unwrap_or_default());
                short.then(|| format!("{} should be non-empty", repr(value)))
            }
            "maxProperties" => {
                let long = value.as_object().is_some_and(|map| map.len() as u64 > rule.as_u64().unwrap_or(u64::MAX));
                long.then(|| format!("{} has too many properties", repr(value)))
            }
            "minimum" => value
                .as_f64()
                .is_some_and(|number| number < rule.as_f64().unwrap_or_default())
                .then(|| format!("{} is less than the minimum of {}", repr(value), repr(rule))),
            "uniqueItems" => value.as_array().and_then(|items| {
                let double = items.iter().enumerate().any(|(at, item)| items[..at].contains(item));
                double.then(|| format!("{} has non-unique elements", repr(value)))
            }),
            "pattern" => match (value.as_str(), rule.as_str()) {
                (Some(text), Some(pattern)) if !matches(pattern, text) => {
                    Some(format!("{} does not match '{pattern}'", repr(value)))
                }
                _ => None,
            },
            _ => {
                check_parts(value, schema, (keyword, rule), spec_path, &path, faults);
                None
            }
        };
        faults.extend(message.map(|message| Fault::at(message, spec_path, path)));
    }
}

/// Keywords about parts of a value.
fn check_parts(
    value: &Value,
    schema: &Value,
    (keyword, rule): (&str, &Value),
    spec_path: &str,
    path: &str,
    faults: &mut Vec<Fault>,
) {
    match (keyword, value, rule) {
        ("properties", Value::Object(map), Value::Object(rules)) => {
            for (name, rule) in rules {
                if let Some(value) = map.get(name) {
                    check(value, rule, &join(spec_path, name), &join(path, name), faults);
                }
            }
        }
        ("patternProperties", Value::Object(map), Value::Object(rules)) => {
            for (pattern, rule) in rules {
                for (name, value) in map.iter().filter(|(name, _)| matches(pattern, name)) {
                    check(value, rule, &join(spec_path, name), &join(path, pattern), faults);
                }
            }
        }
        ("items", Value::Array(items), rule) => {
            for (at, item) in items.iter().enumerate() {
                check(item, rule, &format!("{spec_path}[{at}]"), path, faults);
            }
        }
        ("required", Value::Object(map), Value::Array(names)) => {
            for name in names.iter().filter(|name| name.as_str().is_some_and(|name| !map.contains_key(name))) {
                faults.push(Fault::at(format!("{} is a required property", repr(name)), spec_path, path));
            }
        }
        ("additionalProperties", Value::Object(map), Value::Bool(false)) => {
            let extra: Vec<&String> = map.keys().filter(|name| !is_known(name, schema)).collect();
            if extra.is_empty() {
                return;
            }
            let shown: Vec<String> = extra.iter().map(|name| repr(&name.as_str().into())).collect();
            let message = match schema.get("patternProperties").and_then(Value::as_object) {
                Some(patterns) => {
                    let patterns: Vec<String> = patterns.keys().map(|pattern| format!("'{pattern}'")).collect();
                    let verb = if extra.len() == 1 { "does" } else { "do" };
                    format!("{} {verb} not match any of the regexes: {}", shown.join(", "), patterns.join(", "))
                }
                None => {
                    let verb = if extra.len() == 1 { "was" } else { "were" };
                    format!("Additional properties are not allowed ({} {verb} unexpected)", shown.join(", "))
                }
            };
            faults.push(Fault::at(message, spec_path, path));
        }
        _ => {}
    }
}

fn is_known(name: &str, schema: &Value) -> bool {
    let has = |keyword: &str| schema.get(keyword).and_then(Value::as_object);
    has("properties").is_some_and(|known| known.contains_key(name))
        || has("patternProperties").is_some_and(|known| known.keys().any(|pattern| matches(pattern, name)))
}

fn is_valid(value: &Value, schema: &Value) -> bool {
    let mut faults = Vec::new();
    check(value, schema, "", "", &mut faults);
    faults.is_empty()
}

fn has_type(value: &Value, rule: &Value) -> bool {
    match rule.as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    }
}

/// As Python compares: 1 and 1.0 are one.
fn equal(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

fn length(value: &Value, keyword: &str) -> Option<u64> {
    let length = match (keyword, value) {
        ("minLength", Value::String(text)) => text.chars().count(),
        ("minItems", Value::Array(items)) => items.len(),
        ("minProperties", Value::Object(map)) => map.len(),
        _ => return None,
    };
    Some(length as u64)
}

/// Compiled once: a definition has as many names as tasks.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock();
    let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| {
        // Python takes a lone brace as it stands.
        Regex::new(&pattern.replace("{{", r"\{\{").replace("}}", r"\}\}")).ok()
    });
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
