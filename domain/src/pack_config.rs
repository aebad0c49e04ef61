//! A pack's configuration as its actions and sensors see it (spec/datastore.md §6).

use futures::future::BoxFuture;
use model::Object;
use serde_json::Value;

use crate::{DomainError, Services, rendering};

/// A pack's configuration for `user`: values with their templates rendered and secrets revealed, then the schema's
/// defaults. A template that fails is [`DomainError::Invalid`] and names its key.
pub async fn pack_config(services: &Services, pack: &str, user: &str) -> Result<Object, DomainError> {
    let config = services.catalog.config(pack).await?;
    let schema = services.catalog.config_schema(pack).await?;
    let attributes = schema.map(|schema| schema.attributes.clone()).unwrap_or_default();
    let values = config.map(|config| config.values.clone()).unwrap_or_default();
    let at = Place { services, pack, user };
    let mut rendered = Object::new();
    for (name, value) in values {
        let schema = attributes.get(&name).cloned().unwrap_or(Value::Null);
        rendered.insert(name.clone(), render(&at, name, value, schema).await?);
    }
    fill_defaults(&mut rendered, &attributes);
    Ok(rendered)
}

struct Place<'a> {
    services: &'a Services,
    pack: &'a str,
    user: &'a str,
}

fn render<'a>(
    at: &'a Place<'a>,
    path: String,
    value: Value,
    schema: Value,
) -> BoxFuture<'a, Result<Value, DomainError>> {
    Box::pin(async move {
        match value {
            Value::Object(object) => {
                let mut rendered = Object::new();
                for (name, value) in object {
                    let child = property_schema(&schema, &name);
                    let value = render(at, format!("{path}.{name}"), value, child).await?;
                    rendered.insert(name, value);
                }
                Ok(Value::Object(rendered))
            }
            Value::Array(items) => {
                let mut rendered = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let child = item_schema(&schema, index);
                    rendered.push(render(at, format!("{path}.{index}"), item, child).await?);
                }
                Ok(Value::Array(rendered))
            }
            Value::String(text) if text.contains("{{") || text.contains("{%") => leaf(at, &path, &text, &schema).await,
            other => Ok(other),
        }
    })
}

async fn leaf(at: &Place<'_>, path: &str, template: &str, schema: &Value) -> Result<Value, DomainError> {
    let failed = |reason: String| {
        DomainError::Invalid(format!(
            "Failed to render dynamic configuration value for key \"{path}\" with value \"{template}\" for pack \
             \"{}\" config: {reason}",
            at.pack
        ))
    };
    let vars = Object::new();
    let rendered =
        rendering::with_keys(at.services, at.user, &vars, |context| expr::render_text(template, context)).await?;
    let text = rendered.map_err(|error| failed(error.to_string()))?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    if schema.get("secret") != Some(&Value::Bool(true)) {
        return Ok(text.into());
    }
    let crypto = at.services.crypto.as_ref().ok_or_else(|| failed("no crypto key is configured".to_owned()))?;
    crypto.decrypt(&text).map(Value::from).map_err(|error| failed(error.to_string()))
}

/// `properties`, else every `patternProperties` that is found in the name, else `additionalProperties`.
fn property_schema(schema: &Value, name: &str) -> Value {
    if let Some(found) = schema.pointer("/properties").and_then(|properties| properties.get(name)) {
        return found.clone();
    }
    let mut merged = Object::new();
    if let Some(Value::Object(patterns)) = schema.get("patternProperties") {
        for (pattern, child) in patterns {
            let matches = regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(name));
            if let (true, Value::Object(child)) = (matches, child) {
                merged.extend(child.clone());
            }
        }
    }
    if !merged.is_empty() {
        return Value::Object(merged);
    }
    schema.get("additionalProperties").filter(|additional| additional.is_object()).cloned().unwrap_or(Value::Null)
}

fn item_schema(schema: &Value, index: usize) -> Value {
    match schema.get("items") {
        Some(Value::Array(positional)) => positional
            .get(index)
            .or_else(|| schema.get("additionalItems").filter(|additional| additional.is_object()))
            .cloned()
            .unwrap_or(Value::Null),
        Some(all) => all.clone(),
        None => Value::Null,
    }
}

/// Fills missing keys only: an explicit null stays.
fn fill_defaults(values: &mut Object, schemas: &Object) {
    for (name, schema) in schemas {
        if !values.contains_key(name)
            && let Some(default) = schema.get("default")
        {
            values.insert(name.clone(), default.clone());
        }
        let nested = schema.get("properties").and_then(Value::as_object);
        let Some(nested) = nested else { continue };
        match values.get_mut(name) {
            Some(Value::Object(object)) => fill_defaults(object, nested),
            Some(_) => {}
            None => {
                let mut object = Object::new();
                fill_defaults(&mut object, nested);
                if !object.is_empty() {
                    values.insert(name.clone(), Value::Object(object));
                }
            }
        }
    }
}
