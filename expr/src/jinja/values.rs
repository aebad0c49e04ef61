//! Values between JSON and the engine, and their text as Python prints it.

use std::fmt::Write as _;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value as Jinja};
use model::python;
use serde_json::{Map, Number, Value};

/// Nesting beyond this is refused when values leave the engine.
const MAX_DEPTH: usize = 128;

/// The engine's form of a JSON value.
pub(crate) fn to_jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(flag) => Jinja::from(*flag),
        Value::Number(number) => {
            if let Some(integer) = number.as_i64() {
                Jinja::from(integer)
            } else if let Some(integer) = number.as_u64() {
                Jinja::from(integer)
            } else {
                Jinja::from(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        Value::String(text) => Jinja::from(text.as_str()),
        Value::Array(items) => Jinja::from(items.iter().map(to_jinja).collect::<Vec<_>>()),
        Value::Object(fields) => {
            Jinja::from_pairs(fields.iter().map(|(name, field)| (Jinja::from(name.as_str()), to_jinja(field))))
        }
    }
}

/// The JSON form of an engine's value; tuples and iterables become arrays, keys become text as `json.dumps` makes it.
pub(crate) fn from_jinja(value: &Jinja) -> Result<Value, Error> {
    convert(value, 0)
}

fn convert(value: &Jinja, depth: usize) -> Result<Value, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "the value is nested too deeply"));
    }
    Ok(match value.kind() {
        ValueKind::None => Value::Null,
        ValueKind::Undefined => return Err(undefined(value)),
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => number(value),
        ValueKind::String => Value::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Bytes => Value::String(value.to_string()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(|item| convert(&item, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut fields = Map::new();
            for key in value.try_iter()? {
                let field = convert(&value.get_item(&key)?, depth + 1)?;
                fields.insert(key_text(&key), field);
            }
            Value::Object(fields)
        }
        // Datastore nodes stand for their text.
        ValueKind::Plain => Value::String(value.to_string()),
        _ => return Err(not_serializable("function")),
    })
}

/// The engine's own error for using an undefined value, which knows its name.
fn undefined(value: &Jinja) -> Error {
    match value.get_attr("value") {
        Err(error) => error,
        Ok(_) => not_serializable("StrictUndefined"),
    }
}

/// [`text`] for filters: an undefined value is an error.
pub(crate) fn input(value: &Jinja) -> Result<String, Error> {
    if value.is_undefined() { Err(undefined(value)) } else { Ok(text(value)) }
}

fn not_serializable(type_name: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("Object of type {type_name} is not JSON serializable"))
}

fn key_text(key: &Jinja) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        _ => text(key),
    }
}

fn number(value: &Jinja) -> Value {
    if value.is_integer() {
        if let Some(integer) = value.as_i64() {
            return integer.into();
        }
        if let Ok(integer) = u64::try_from(value.clone()) {
            return integer.into();
        }
    }
    f64::try_from(value.clone()).ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}

/// Python's `str()`.
pub(crate) fn text(value: &Jinja) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let mut out = String::new();
    write_repr(&mut out, value, 0);
    out
}

/// Python's `repr()`, except that a string at the top is for [`text`].
fn write_repr(out: &mut String, value: &Jinja, depth: usize) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match value.kind() {
        ValueKind::String => python::write_str_repr(out, value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&python::float_repr(f64::try_from(value.clone()).unwrap_or(f64::NAN)));
        }
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            let count = write_items(out, value, open, depth);
            if value.is_tuple() && count == 1 {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Iterable if value.len().is_some() => {
            write_items(out, value, '[', depth);
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key, depth + 1);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1);
            }
            out.push('}');
        }
        ValueKind::Plain if depth > 0 => python::write_str_repr(out, &value.to_string()),
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

fn write_items(out: &mut String, value: &Jinja, open: char, depth: usize) -> usize {
    out.push(open);
    let mut count = 0;
    for item in value.try_iter().into_iter().flatten() {
        if count > 0 {
            out.push_str(", ");
        }
        write_repr(out, &item, depth + 1);
        count += 1;
    }
    count
}

/// Name of the Python type, as Jinja names it in messages.
pub(crate) fn type_name(value: &Jinja) -> &'static str {
    match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool => "bool object",
        ValueKind::Number if value.is_integer() => "int object",
        ValueKind::Number => "float object",
        ValueKind::String => "str object",
        ValueKind::Bytes => "bytes object",
        ValueKind::Seq if value.is_tuple() => "tuple object",
        ValueKind::Seq | ValueKind::Iterable => "list object",
        _ => "dict object",
    }
}
