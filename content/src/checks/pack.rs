//! Manifests, configuration schemas and configurations.

use model::schema::{check_parameter_schemas, validate, validate_parameters};
use model::{Id, Object, Pack, Timestamp};
use serde_json::Value;

use super::{object, schemas, text, texts};
use crate::error::ContentError;
use crate::pack_dir::{PackDir, is_pack_ref};

fn invalid(text: impl Into<String>) -> ContentError {
    ContentError::Invalid(text.into())
}

/// The row of a pack from its manifest. Numbers as version are taken as their text.
pub fn pack(source: &Object, dir: &PackDir, files: Vec<String>, now: Timestamp) -> Result<Pack, ContentError> {
    let mut source = source.clone();
    if let Some(Value::Number(version)) = source.get("version") {
        let version = version.to_string();
        source.insert("version".to_owned(), version.into());
    }
    source.retain(|_, value| !value.is_null());
    validate(&schemas::PACK, &Value::Object(source.clone()))?;
    let name = text(&source, "name").unwrap_or_default();
    let reference = pack_ref(&source, &dir.name, &name)?;
    let version = text(&source, "version").unwrap_or_default();
    if semver::Version::parse(&version).is_err() {
        return Err(invalid(format!(
            "Pack version \"{version}\" doesn't follow a valid semver format. Valid versions and formats include: \
             0.1.0, 0.2.1, 1.1.0, etc."
        )));
    }
    let email = text(&source, "email").filter(|email| !email.is_empty());
    if let Some(email) = &email
        && !email.contains('@')
    {
        return Err(invalid(format!("'{email}' is not a 'email'")));
    }
    let python_versions = source.contains_key("python_versions").then(|| texts(&source, "python_versions"));
    Ok(Pack {
        id: Id::fresh(now),
        uid: format!("pack:{reference}"),
        reference,
        name,
        description: text(&source, "description").unwrap_or_default(),
        version,
        author: text(&source, "author").unwrap_or_default(),
        email,
        keywords: texts(&source, "keywords"),
        contributors: texts(&source, "contributors"),
        files,
        dependencies: texts(&source, "dependencies"),
        stackstorm_version: text(&source, "stackstorm_version"),
        python_versions,
        system: object(&source, "system"),
        path: Some(dir.path.display().to_string()),
        rest: Object::new(),
    })
}

/// `ref`, else the directory's name, else the pack's name: the first that can be one.
fn pack_ref(source: &Object, dir: &str, name: &str) -> Result<String, ContentError> {
    if let Some(reference) = text(source, "ref") {
        if !is_pack_ref(&reference) {
            return Err(invalid(format!("'{reference}' does not match '^[a-z0-9_]+$'")));
        }
        return Ok(reference);
    }
    [dir, name].into_iter().find(|candidate| is_pack_ref(candidate)).map(str::to_owned).ok_or_else(|| {
        invalid(format!(
            "Pack name \"{name}\" contains invalid characters and \"ref\" attribute is not available. You either need \
             to add \"ref\" attribute which contains only word characters to the pack metadata file or update name \
             attribute to contain onlyword characters."
        ))
    })
}

/// `config.schema.yaml`: attribute → parameter schema.
pub fn config_schema(source: &Object) -> Result<Object, ContentError> {
    check_parameter_schemas(source)?;
    Ok(source.clone())
}

/// Values of `configs/<pack>.yaml` or of a request, with the schema's defaults filled in.
pub fn config_values(schema: &Object, values: &Object, pack: &str, file: &str) -> Result<Object, ContentError> {
    for (name, attribute) in schema {
        let secret = attribute.get("secret") == Some(&Value::Bool(true));
        let decrypts = values.get(name).and_then(Value::as_str).is_some_and(|text| text.contains("decrypt_kv"));
        if secret && decrypts {
            return Err(invalid(format!(
                "Failed validating attribute \"{name}\" in config for pack \"{pack}\" ({file}): values specified as \
                 \"secret: True\" in config schema are automatically decrypted by default. Use of \"decrypt_kv\" \
                 jinja filter is not allowed for such values."
            )));
        }
    }
    // Templates are checked when they are rendered.
    let mut checked = schema.clone();
    for (name, attribute) in checked.iter_mut() {
        let template = values.get(name).and_then(Value::as_str).is_some_and(|text| text.contains("{{"));
        if template && let Value::Object(attribute) = attribute {
            attribute.remove("type");
            attribute.remove("enum");
        }
    }
    validate_parameters(&checked, values, true).map_err(|error| {
        let (attribute, reason) = first_bad(&checked, values).unwrap_or_else(|| ("*".to_owned(), error.0));
        invalid(format!("Failed validating attribute \"{attribute}\" in config for pack \"{pack}\" ({file}): {reason}"))
    })
}

/// The first attribute that doesn't fit, as `a.b`, and why.
fn first_bad(schema: &Object, values: &Object) -> Option<(String, String)> {
    schema.iter().find_map(|(name, attribute)| {
        let alone = |object: &Object| object.get_key_value(name).map(|(name, value)| (name.clone(), value.clone()));
        let (one, given): (Object, Object) = (alone(schema).into_iter().collect(), alone(values).into_iter().collect());
        let error = validate_parameters(&one, &given, true).err()?;
        let within = match (attribute.get("properties"), values.get(name)) {
            (Some(Value::Object(schema)), Some(Value::Object(values))) => first_bad(schema, values),
            _ => None,
        };
        Some(match within {
            Some((inner, reason)) => (format!("{name}.{inner}"), reason),
            None => (name.clone(), error.0),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn errors_of_configurations_name_the_attribute() {
        let schema = object(
            r#"{"token": {"type": "string", "required": true}, "retries": {"type": "integer", "default": 3},
                "nested": {"type": "object", "properties": {"port": {"type": "integer"}}}}"#,
        );
        for (values, expected) in [
            (r#"{"retries": 1}"#, "\"token\" in config for pack \"p\" (f): 'token' is a required property"),
            (r#"{"token": "t", "retries": "many"}"#, "\"retries\" in config for pack \"p\" (f): 'many' is not of type"),
            (r#"{"token": "t", "nested": {"port": "x"}}"#, "\"nested.port\" in config for pack \"p\" (f): 'x' is not"),
        ] {
            let error = config_values(&schema, &object(values), "p", "f").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let filled = config_values(&schema, &object(r#"{"token": "t"}"#), "p", "f").unwrap();
        assert_eq!(filled["retries"], 3);
    }
}
