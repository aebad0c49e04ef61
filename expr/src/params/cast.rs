//! Casting of rendered values by the type that their schema names (spec/rules.md §14, the cast table).

use model::python;
use serde_json::{Number, Value};

use super::literal::{parse_literal, python_float, python_int};
use crate::filters::MAGIC_NONE;

/// Casts `value` to `kind`; an unknown kind leaves it. Errors are the texts of the Python functions behind it.
pub fn cast(value: Value, kind: Option<&str>) -> Result<Value, String> {
    if value.is_null() {
        return Ok(value);
    }
    match kind {
        Some("array" | "object") => container(value),
        Some("boolean") => boolean(value),
        Some("integer") => integer(&value),
        Some("number") => number(&value),
        Some("string") => string(value),
        _ => Ok(value),
    }
}

fn is_magic(value: &Value) -> bool {
    value.as_str() == Some(MAGIC_NONE)
}

fn container(value: Value) -> Result<Value, String> {
    match value {
        Value::String(text) if text == MAGIC_NONE => Ok(Value::Null),
        Value::String(text) => serde_json::from_str(&text).or_else(|_| parse_literal(&text)),
        other => Ok(other),
    }
}

fn boolean(value: Value) -> Result<Value, String> {
    match value {
        Value::String(text) if text == MAGIC_NONE => Ok(Value::Null),
        Value::String(text) => parse_literal(&capitalized(&text)),
        other => Ok(other),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect())
}

fn integer(value: &Value) -> Result<Value, String> {
    if is_magic(value) {
        return Err(wrong_argument("int()", "string, a bytes-like object or", &Value::Null));
    }
    match value {
        Value::Bool(flag) => Ok(i64::from(*flag).into()),
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.abs() < 9.2e18 { Ok((float.trunc() as i64).into()) } else { Ok(value.clone()) }
        }
        Value::Number(_) => Ok(value.clone()),
        Value::String(text) => match python_int(text, 10) {
            Some(integer) => match i64::try_from(integer) {
                Ok(integer) => Ok(integer.into()),
                Err(_) => u64::try_from(integer).map(Value::from).map_err(|_| "int too large to convert".to_owned()),
            },
            None => Err(format!("invalid literal for int() with base 10: {}", python::repr(value))),
        },
        other => Err(wrong_argument("int()", "string, a bytes-like object or", other)),
    }
}

fn number(value: &Value) -> Result<Value, String> {
    if is_magic(value) {
        return Err(wrong_argument("float()", "string or", &Value::Null));
    }
    let float = match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        Value::String(text) => {
            python_float(text).ok_or_else(|| format!("could not convert string to float: {}", python::repr(value)))?
        }
        other => return Err(wrong_argument("float()", "string or", other)),
    };
    // JSON has no infinity and no NaN; they stay what they were.
    Ok(Number::from_f64(float).map_or_else(|| value.clone(), Value::Number))
}

fn wrong_argument(function: &str, wanted: &str, value: &Value) -> String {
    format!("{function} argument must be a {wanted} a real number, not '{}'", python::type_name(value))
}

fn string(value: Value) -> Result<Value, String> {
    match value {
        Value::String(text) if text == MAGIC_NONE => Ok(Value::Null),
        Value::String(text) => Ok(Value::String(text)),
        other => Err(format!(
            "Value \"{}\" must either be a string or None. Got \"{}\".",
            python::text(&other),
            python::type_name(&other)
        )),
    }
}
