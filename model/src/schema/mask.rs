//! Masking of secrets by schema (spec/model.md §5.1, spec/runners.md §14, §15).

use regex::Regex;
use serde_json::Value;

/// What a masked secret looks like.
pub const MASK: &str = "********";

/// `value` with every part that `schema` marks `secret` replaced by [`MASK`], nulls included: through `properties`,
/// `patternProperties`, `additionalProperties`, `items` and `additionalItems`. A secret container is masked whole.
pub fn mask(schema: &Value, value: &Value) -> Value {
    if schema.get("secret") == Some(&Value::Bool(true)) {
        return MASK.into();
    }
    match value {
        Value::Object(fields) => {
            let masked = fields.iter().map(|(name, field)| (name.clone(), mask_field(schema, name, field)));
            Value::Object(masked.collect())
        }
        Value::Array(items) => {
            let masked = items.iter().enumerate().map(|(index, item)| match item_schema(schema, index) {
                Some(schema) => mask(schema, item),
                None => item.clone(),
            });
            Value::Array(masked.collect())
        }
        other => other.clone(),
    }
}

fn mask_field(schema: &Value, name: &str, field: &Value) -> Value {
    if let Some(property) = schema.get("properties").and_then(|properties| properties.get(name)) {
        return mask(property, field);
    }
    let mut matched = false;
    let mut masked = field.clone();
    if let Some(patterns) = schema.get("patternProperties").and_then(Value::as_object) {
        for (pattern, property) in patterns {
            if Regex::new(pattern).is_ok_and(|regex| regex.is_match(name)) {
                matched = true;
                masked = mask(property, &masked);
            }
        }
    }
    match schema.get("additionalProperties") {
        Some(additional) if !matched && additional.is_object() => mask(additional, field),
        _ => masked,
    }
}

fn item_schema(schema: &Value, index: usize) -> Option<&Value> {
    match schema.get("items") {
        Some(Value::Array(positional)) => positional.get(index).or_else(|| schema.get("additionalItems")),
        Some(items) => Some(items),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_at_any_depth() {
        let schema = json!({"type": "object", "properties": {
            "plain": {"type": "string"},
            "pass": {"type": "string", "secret": true},
            "opts": {"type": "object", "properties": {"key": {"secret": true}}, "additionalProperties": {"secret": true}},
            "all": {"type": "object", "secret": true},
            "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"secret": true}}}},
            "pair": {"type": "array", "items": [{"type": "string"}], "additionalItems": {"secret": true}},
        }, "patternProperties": {"^x_": {"secret": true}}});
        let value = json!({"plain": "a", "pass": null, "opts": {"key": 1, "n": 2}, "all": {"a": 1},
            "list": [{"p": 1, "q": 2}], "pair": ["a", "b"], "x_1": "s", "other": 1});
        let expected = json!({"plain": "a", "pass": MASK, "opts": {"key": MASK, "n": MASK}, "all": MASK,
            "list": [{"p": MASK, "q": 2}], "pair": ["a", MASK], "x_1": MASK, "other": 1});
        assert_eq!(mask(&schema, &value), expected);
    }
}
