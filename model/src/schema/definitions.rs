//! Parameter definitions of actions and runners: their own form, and how the action's refine the runner's
//! (spec/model.md §7, spec/runners.md §3.1).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::SchemaError;
use super::validator::{Found, Validator};
use crate::python::{repr, write_str_repr};
use crate::resource::Object;

/// Attributes of a runner's parameter that an action may change.
const OVERRIDABLE: &[&str] = &["default", "description", "enum", "immutable", "required"];

/// Whether `schemas` (parameter name → schema) is itself well formed: allowed attributes, names, positions.
pub fn check_parameter_schemas(schemas: &Object) -> Result<(), SchemaError> {
    for (name, schema) in schemas {
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            let mut quoted = String::new();
            write_str_repr(&mut quoted, name);
            return Err(SchemaError(format!("{quoted} does not match any of the regexes: '^\\\\w+$'")));
        }
        // An empty definition (also written as nothing at all) means any type.
        if !schema.is_null() {
            check_definition(schema)?;
        }
    }
    check_positions(schemas)
}

fn check_definition(schema: &Value) -> Result<(), SchemaError> {
    let mut found = Found::new();
    Validator::new(&DEFINITION).check(&DEFINITION, schema, &mut found);
    // The first violation counts here, not the best match.
    found.into_iter().next().map_or(Ok(()), |violation| Err(SchemaError(violation.message)))
}

fn check_positions(schemas: &Object) -> Result<(), SchemaError> {
    let mut taken: BTreeMap<i64, &str> = BTreeMap::new();
    for (name, schema) in schemas {
        let Some(position) = schema.get("position").and_then(Value::as_i64) else { continue };
        if let Some(other) = taken.insert(position, name) {
            let text = format!(
                "Parameters {name} and {other} have same position {position}. Position values have to be unique."
            );
            return Err(SchemaError(text));
        }
    }
    let contiguous = taken.keys().zip(taken.keys().skip(1)).all(|(a, b)| b - a == 1);
    if !contiguous {
        let positions = repr(&taken.keys().copied().collect::<Value>());
        return Err(SchemaError(format!("Positions supplied {positions} for parameters are not contiguous.")));
    }
    Ok(())
}

/// Whether the parameters of the action `reference` may refine the runner's as they do. `registering` adds the rules
/// on `immutable`, which are not repeated at every request.
pub fn check_overrides(
    reference: &str,
    runner: &Object,
    action: &Object,
    registering: bool,
) -> Result<(), SchemaError> {
    for (name, schema) in action {
        let Some(fields) = schema.as_object() else { continue };
        let base = runner.get(name);
        if let Some(base) = base {
            for (attribute, value) in fields {
                let same = base.get(attribute).unwrap_or(&Value::Null) == value;
                if !same && !OVERRIDABLE.contains(&attribute.as_str()) {
                    return Err(SchemaError(format!(
                        "The attribute \"{attribute}\" for the runner parameter \"{name}\" in action \
                         \"{reference}\" cannot be overridden."
                    )));
                }
            }
        }
        if registering && fields.contains_key("immutable") {
            check_immutable(name, base, fields)?;
        }
    }
    Ok(())
}

fn check_immutable(name: &str, base: Option<&Value>, fields: &Object) -> Result<(), SchemaError> {
    if base.is_some_and(|base| base.get("immutable").is_some()) {
        let text = format!("Param {name} is declared immutable in runner. Cannot override in action.");
        return Err(SchemaError(text));
    }
    let has_default = fields.contains_key("default") || base.is_some_and(|base| base.get("default").is_some());
    if fields.get("immutable") == Some(&Value::Bool(true)) && !has_default {
        return Err(SchemaError(format!("Immutable param {name} requires a default value.")));
    }
    Ok(())
}

/// Runner parameters updated by the action's: the effective schema of an action's parameters.
pub fn effective_parameters(runner: &Object, action: &Object) -> Object {
    let mut merged = runner.clone();
    for (name, schema) in action {
        match (merged.get_mut(name), schema) {
            (Some(Value::Object(base)), Value::Object(over)) => {
                base.extend(over.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            // Nothing to say about it leaves the runner's definition.
            (Some(_), Value::Null) => {}
            _ => {
                merged.insert(name.clone(), schema.clone());
            }
        }
    }
    merged
}

/// Draft 4's schema of schemas with StackStorm's additions, closed, and with one single type at the top level.
static DEFINITION: LazyLock<Value> = LazyLock::new(|| {
    let mut top = json!({
        "type": "object",
        "properties": attributes(&json!({"$ref": "#/definitions/schema"})),
        "additionalProperties": false,
        "dependencies": {"exclusiveMaximum": ["maximum"], "exclusiveMinimum": ["minimum"]},
    });
    let mut nested = top.clone();
    let types = json!({"enum": ["array", "boolean", "integer", "null", "number", "object", "string"]});
    top["properties"]["type"] = json!({"anyOf": [types]});
    nested["properties"]["type"] =
        json!({"anyOf": [types, {"type": "array", "items": types, "minItems": 1, "uniqueItems": true}]});
    // Inside, draft 4's list form of `required` is taken too, and unknown attributes are left alone.
    nested["properties"]["required"] = json!({"type": ["boolean", "array"]});
    nested["additionalProperties"] = Value::Bool(true);
    top["definitions"] = json!({"schema": nested});
    top
});

fn attributes(schema: &Value) -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    let map = json!({"type": "object", "additionalProperties": schema});
    let several = json!({"type": "array", "minItems": 1, "items": schema});
    json!({
        "id": {"type": "string"},
        "$schema": {"type": "string"},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "default": {},
        "multipleOf": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
        "maximum": {"type": "number"},
        "exclusiveMaximum": {"type": "boolean"},
        "minimum": {"type": "number"},
        "exclusiveMinimum": {"type": "boolean"},
        "maxLength": count,
        "minLength": count,
        "pattern": {"type": "string"},
        "additionalItems": {"anyOf": [{"type": "boolean"}, schema]},
        "items": {"anyOf": [schema, several]},
        "maxItems": count,
        "minItems": count,
        "uniqueItems": {"type": "boolean"},
        "maxProperties": count,
        "minProperties": count,
        "required": {"type": "boolean"},
        "secret": {"type": "boolean"},
        "additionalProperties": {"anyOf": [{"type": "boolean"}, schema]},
        "definitions": map,
        "properties": map,
        "patternProperties": map,
        "dependencies": {
            "type": "object",
            "additionalProperties": {"anyOf": [schema, {"type": "array", "items": {"type": "string"}}]},
        },
        "enum": {"type": "array", "minItems": 1, "uniqueItems": true},
        "type": {},
        "position": count,
        "immutable": {"type": "boolean"},
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": schema,
    })
}
