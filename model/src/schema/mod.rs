//! StackStorm's parameter schema dialect: JSON Schema draft 4 with `required: true` on the property, `secret`,
//! `immutable`, `position` (spec/model.md §7). Error texts are those of Python's jsonschema.
//!
//! * [`validate_parameters`] and [`validate`] check values. Checking a value that fits makes no copy of the schema
//!   and compiles nothing, so callers need no compiled form of it.
//! * [`check_parameter_schemas`] and [`check_overrides`] check definitions at registration;
//!   [`effective_parameters`] merges those of runner and action.
//! * [`mask`] hides secrets.

mod defaults;
mod definitions;
mod keywords;
mod mask;
mod validator;

use serde_json::{Value, json};

use crate::resource::Object;
use validator::{Found, Validator, best_match};

pub use definitions::{check_overrides, check_parameter_schemas, effective_parameters};
pub use mask::{MASK, mask};

/// A value does not fit its schema; the text is what the API answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(pub String);

/// Checks `parameters` against name → schema, with defaults filled in for the check, nulls of optional parameters
/// taken, and unknown names refused unless `allow_additional`. Returns the parameters with defaults filled in.
///
/// As in StackStorm, nothing at all is checked when `schemas` is empty: an action that declares no parameters takes
/// any (golden/executions/110).
pub fn validate_parameters(
    schemas: &Object,
    parameters: &Object,
    allow_additional: bool,
) -> Result<Object, SchemaError> {
    let mut filled = parameters.clone();
    if schemas.is_empty() {
        return Ok(filled);
    }
    defaults::assign(schemas, None, &mut filled);
    let known = |name: &String| allow_additional || schemas.contains_key(name);
    let fits = filled.keys().all(known) && schemas.iter().all(|(name, schema)| field_fits(schema, filled.get(name)));
    if fits {
        return Ok(filled);
    }
    let properties: Object = schemas.iter().map(|(name, schema)| (name.clone(), normalized(schema))).collect();
    let schema = json!({"type": "object", "properties": properties, "additionalProperties": allow_additional});
    let filled = Value::Object(filled);
    match first_error(&defaults::allowing_null_properties(&schema), &filled) {
        Some(error) => Err(error),
        None => Ok(if let Value::Object(filled) = filled { filled } else { Object::new() }),
    }
}

/// Checks any value against a whole schema in the same dialect; defaults count as given.
pub fn validate(schema: &Value, value: &Value) -> Result<(), SchemaError> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
    let filled = match (properties, value) {
        (Some(properties), Value::Object(fields)) if is_object => {
            let mut filled = fields.clone();
            let dependencies = schema.get("dependencies").and_then(Value::as_object);
            defaults::assign(properties, dependencies, &mut filled);
            std::borrow::Cow::Owned(Value::Object(filled))
        }
        _ => std::borrow::Cow::Borrowed(value),
    };
    if Validator::new(schema).is_valid(schema, &filled) {
        return Ok(());
    }
    let relaxed = defaults::allowing_null_properties(schema);
    first_error(&relaxed, &filled).map_or(Ok(()), Err)
}

/// Whether a parameter fits, without the text of what is wrong: a "no" is only a reason to look closer.
fn field_fits(schema: &Value, value: Option<&Value>) -> bool {
    let required = schema.get("required") == Some(&Value::Bool(true));
    match value {
        None => !required,
        Some(Value::Null) if !required && schema.get("default").is_none_or(Value::is_null) => true,
        Some(Value::Null) if is_empty(schema) => false,
        Some(value) => Validator::new(schema).is_valid(schema, value),
    }
}

fn is_empty(schema: &Value) -> bool {
    schema.is_null() || schema.as_object().is_some_and(Object::is_empty)
}

/// An empty definition means any type but null (spec/runners.md §3.1).
fn normalized(schema: &Value) -> Value {
    if !is_empty(schema) {
        return schema.clone();
    }
    json!({"anyOf": [
        {"type": "array"}, {"type": "boolean"}, {"type": "integer"},
        {"type": "number"}, {"type": "object"}, {"type": "string"},
    ]})
}

fn first_error(schema: &Value, value: &Value) -> Option<SchemaError> {
    let mut found = Found::new();
    Validator::new(schema).check(schema, value, &mut found);
    best_match(found).map(|violation| SchemaError(violation.message))
}

#[cfg(test)]
mod tests;
