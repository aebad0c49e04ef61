//! Shapes of request bodies, checked with the texts of Python's jsonschema (spec/api.md §2).
//!
//! The hot path checks bodies with these tables instead of compiling a JSON Schema.

use serde_json::Value;

use super::error::ApiError;
use model::Object;
use model::python::repr;

/// JSON type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    Object,
    Array,
    /// Array of strings.
    Texts,
    Any,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array | Self::Texts => "array",
            Self::Any => "any",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array | Self::Texts => value.is_array(),
            Self::Any => true,
        }
    }
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
}

/// A field that may be left out, or be null.
pub const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

/// A field that must be there.
pub const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

/// An object's fields, and whether others are refused.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub fields: &'static [Field],
    pub closed: bool,
}

impl Shape {
    /// The body as an object that has this shape.
    pub fn check(&self, body: Value) -> Result<Object, ApiError> {
        let Value::Object(object) = body else {
            return Err(ApiError::bad_request(format!("{} is not of type 'object'", repr(&body))));
        };
        if self.closed {
            let unknown: Vec<String> = object
                .keys()
                .filter(|name| self.fields.iter().all(|field| field.name != name.as_str()))
                .map(|name| repr(&Value::from(name.as_str())))
                .collect();
            if !unknown.is_empty() {
                let verb = if unknown.len() == 1 { "was" } else { "were" };
                return Err(ApiError::bad_request(format!(
                    "Additional properties are not allowed ({} {verb} unexpected)",
                    unknown.join(", ")
                )));
            }
        }
        for field in self.fields {
            check_field(field, object.get(field.name))?;
        }
        Ok(object)
    }
}

fn check_field(field: &Field, value: Option<&Value>) -> Result<(), ApiError> {
    let Some(value) = value else {
        if field.required {
            return Err(ApiError::bad_request(format!("'{}' is a required property", field.name)));
        }
        return Ok(());
    };
    if value.is_null() && !field.required {
        return Ok(());
    }
    if !field.kind.fits(value) {
        return Err(ApiError::bad_request(format!("{} is not of type '{}'", repr(value), field.kind.name())));
    }
    if let (Kind::Texts, Some(items)) = (field.kind, value.as_array())
        && let Some(item) = items.iter().find(|item| !item.is_string())
    {
        return Err(ApiError::bad_request(format!("{} is not of type 'string'", repr(item))));
    }
    Ok(())
}

/// Takes fields out of a checked body.
pub trait Take {
    /// Null and absent are `None`.
    fn take_text(&mut self, name: &str) -> Option<String>;
    fn take_object(&mut self, name: &str) -> Option<Object>;
    fn take_bool(&mut self, name: &str) -> Option<bool>;
    fn take_unsigned(&mut self, name: &str) -> Option<u64>;
    fn take_texts(&mut self, name: &str) -> Option<Vec<String>>;
}

impl Take for Object {
    fn take_text(&mut self, name: &str) -> Option<String> {
        match self.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn take_object(&mut self, name: &str) -> Option<Object> {
        match self.get_mut(name).map(Value::take) {
            Some(Value::Object(object)) => Some(object),
            _ => None,
        }
    }

    fn take_bool(&mut self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    fn take_unsigned(&mut self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    fn take_texts(&mut self, name: &str) -> Option<Vec<String>> {
        let items = self.get(name)?.as_array()?;
        Some(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHAPE: Shape = Shape { fields: &[must("name", Kind::Text), may("n", Kind::Integer)], closed: true };

    fn fault(body: Value) -> String {
        SHAPE.check(body).unwrap_err().fault
    }

    #[test]
    fn texts_of_jsonschema() {
        assert_eq!(fault(json!({})), "'name' is a required property");
        assert_eq!(fault(json!([1])), "[1] is not of type 'object'");
        assert_eq!(fault(json!({"name": 5})), "5 is not of type 'string'");
        assert_eq!(fault(json!({"name": "x", "n": "y"})), "'y' is not of type 'integer'");
        assert_eq!(
            fault(json!({"name": "x", "zzz": 1})),
            "Additional properties are not allowed ('zzz' was unexpected)"
        );
        assert!(SHAPE.check(json!({"name": "x", "n": null})).is_ok());
    }
}
