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
    validate_parameters(&checked, values, true)
        .map_err(|error| invalid(format!("Failed validating config for pack \"{pack}\" ({file}): {}", error.0)))
}
