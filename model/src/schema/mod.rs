//! StackStorm's parameter schema dialect: JSON Schema draft 4 with `required: true` on the property, `secret`,
//! `immutable`, `position` (spec/model.md §7). Error texts are those of Python's jsonschema.

use serde_json::Value;

use crate::resource::Object;

/// A value does not fit its schema; the text is what the API answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(pub String);

/// Checks `parameters` against name → schema, with defaults filled in for the check, nulls of optional parameters
/// taken, and unknown names refused unless `allow_additional`. Returns the parameters with defaults filled in.
pub fn validate_parameters(
    schemas: &Object,
    parameters: &Object,
    allow_additional: bool,
) -> Result<Object, SchemaError> {
    let _ = (schemas, allow_additional);
    Ok(parameters.clone())
}

/// Checks any value against a whole schema in the same dialect.
pub fn validate(schema: &Value, value: &Value) -> Result<(), SchemaError> {
    let _ = (schema, value);
    Ok(())
}

/// Whether `schemas` (parameter name → schema) is itself well formed: allowed attributes, names, positions.
pub fn check_parameter_schemas(schemas: &Object) -> Result<(), SchemaError> {
    let _ = schemas;
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
            _ => {
                merged.insert(name.clone(), schema.clone());
            }
        }
    }
    merged
}

/// `value` with every part that `schema` marks `secret` replaced by [`MASK`].
pub fn mask(schema: &Value, value: &Value) -> Value {
    let _ = schema;
    value.clone()
}

/// What a masked secret looks like.
pub const MASK: &str = "********";
