//! What StackStorm does to value and schema before it validates: defaults go in, nulls of optional properties pass.

use std::borrow::Cow;

use serde_json::Value;

use crate::resource::Object;

/// Fills in the defaults of `properties` for names that are missing or null, down into objects and arrays of
/// objects that are there.
pub(super) fn assign(properties: &Object, dependencies: Option<&Object>, fields: &mut Object) {
    for (name, schema) in properties {
        if let Some(default) = schema.get("default")
            && fields.get(name).is_none_or(Value::is_null)
            && dependencies_met(dependencies, name, fields)
        {
            fields.insert(name.clone(), default.clone());
        }
        match fields.get_mut(name) {
            Some(Value::Object(inner)) if has_type(schema, "object") => {
                if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                    assign(properties, dependencies_of(schema), inner);
                }
            }
            Some(Value::Array(items)) if has_type(schema, "array") => {
                let item_schema = schema.get("items");
                let properties = item_schema.and_then(|items| items.get("properties")).and_then(Value::as_object);
                if let (Some(properties), Some(item_schema)) = (properties, item_schema) {
                    for item in items.iter_mut().filter_map(Value::as_object_mut) {
                        assign(properties, dependencies_of(item_schema), item);
                    }
                }
            }
            _ => {}
        }
    }
}

fn dependencies_of(schema: &Value) -> Option<&Object> {
    schema.get("dependencies").and_then(Value::as_object)
}

/// A default is left out when the property depends on others that are missing.
fn dependencies_met(dependencies: Option<&Object>, name: &str, fields: &Object) -> bool {
    let needed = dependencies.and_then(|dependencies| dependencies.get(name)).and_then(Value::as_array);
    needed.is_none_or(|needed| {
        needed.iter().filter_map(Value::as_str).all(|needed| fields.get(needed).is_some_and(|v| !v.is_null()))
    })
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

/// [`allowing_null`] for the properties of a whole schema; the schema itself gains nothing.
pub(super) fn allowing_null_properties(schema: &Value) -> Value {
    let mut relaxed = schema.clone();
    if let Some(Value::Object(properties)) = relaxed.get_mut("properties") {
        for property in properties.values_mut() {
            if let Cow::Owned(changed) = allowing_null(property) {
                *property = changed;
            }
        }
    }
    relaxed
}

/// `schema` of a property as it is used for checking: null passes too when the property is optional and its default
/// is null or missing.
pub(super) fn allowing_null(schema: &Value) -> Cow<'_, Value> {
    let Some(fields) = schema.as_object() else { return Cow::Borrowed(schema) };
    let mut result = Cow::Borrowed(schema);
    let required = fields.get("required") == Some(&Value::Bool(true));
    let default = fields.get("default");
    if (default.is_some() || !required)
        && default.is_none_or(Value::is_null)
        && let Some(fields) = result.to_mut().as_object_mut()
    {
        add_null(fields);
    }
    if let Some(properties) = fields.get("properties").and_then(Value::as_object)
        && has_type(schema, "object")
    {
        let relaxed = properties.iter().map(|(n, s)| (n.clone(), allowing_null(s).into_owned())).collect();
        if let Some(fields) = result.to_mut().as_object_mut() {
            fields.insert("properties".to_owned(), Value::Object(relaxed));
        }
    }
    let items = fields.get("items").filter(|items| items.get("properties").is_some());
    if let (Some(items), Some(fields)) = (items, result.to_mut().as_object_mut())
        && let Some(properties) = items.get("properties").and_then(Value::as_object)
    {
        let relaxed = properties.iter().map(|(n, s)| (n.clone(), allowing_null(s).into_owned())).collect();
        if let Some(items) = fields.get_mut("items").and_then(Value::as_object_mut) {
            items.insert("properties".to_owned(), Value::Object(relaxed));
        }
    }
    result
}

fn add_null(fields: &mut Object) {
    for alternatives in ["anyOf", "oneOf"] {
        if let Some(Value::Array(several)) = fields.get_mut(alternatives) {
            several.push(serde_json::json!({"type": "null"}));
            return;
        }
    }
    match fields.get_mut("type") {
        Some(Value::Array(several)) if several.iter().any(|one| one == "null") => {}
        Some(Value::Array(several)) => several.push("null".into()),
        Some(one) => *one = serde_json::json!([one.take(), "null"]),
        None => {}
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}
