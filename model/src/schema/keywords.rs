//! Keywords that look at one value only.

use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Number, Value};

use super::validator::{Found, Violation};
use crate::python::repr;

/// `type`: one name or several.
pub(super) fn types(argument: &Value, value: &Value, found: &mut Found) {
    let names = match argument {
        Value::Array(names) => Cow::Borrowed(names),
        one => Cow::Owned(vec![one.clone()]),
    };
    if let Value::String(name) = argument
        && is_type(name, value)
    {
        return;
    }
    if !names.iter().filter_map(Value::as_str).any(|name| is_type(name, value)) {
        let names = names.iter().map(repr).collect::<Vec<_>>().join(", ");
        found.push(Violation::new(format!("{} is not of type {names}", repr(value))));
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_number().is_some_and(|number| !number.is_f64()),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        "any" => true,
        _ => false,
    }
}

/// `enum`.
pub(super) fn one_of_values(argument: &Value, value: &Value, found: &mut Found) {
    let allowed = argument.as_array().map(Vec::as_slice).unwrap_or_default();
    if !allowed.iter().any(|each| equal(each, value)) {
        found.push(Violation::new(format!("{} is not one of {}", repr(value), repr(argument))));
    }
}

/// `required` in its list form.
pub(super) fn required(argument: &Value, value: &Value, found: &mut Found) {
    let (Some(names), Some(fields)) = (argument.as_array(), value.as_object()) else { return };
    for name in names {
        if !name.as_str().is_some_and(|name| fields.contains_key(name)) {
            found.push(Violation::new(format!("{} is a required property", repr(name))));
        }
    }
}

/// Bounds, lengths, patterns, counts.
pub(super) fn simple(keyword: &str, argument: &Value, schema: &Map<String, Value>, value: &Value, found: &mut Found) {
    let message = match (keyword, value) {
        ("minimum", Value::Number(number)) => {
            let exclusive = schema.get("exclusiveMinimum") == Some(&Value::Bool(true));
            bound(number, argument, exclusive, Ordering::Less)
        }
        ("maximum", Value::Number(number)) => {
            let exclusive = schema.get("exclusiveMaximum") == Some(&Value::Bool(true));
            bound(number, argument, exclusive, Ordering::Greater)
        }
        ("multipleOf", Value::Number(number)) if !is_multiple(number, argument) => {
            Some(format!("{number} is not a multiple of {}", repr(argument)))
        }
        ("minLength", Value::String(text)) => too_short(text.chars().count(), argument, value),
        ("maxLength", Value::String(text)) => too_long(text.chars().count(), argument, value),
        ("minItems", Value::Array(items)) => too_short(items.len(), argument, value),
        ("maxItems", Value::Array(items)) => too_long(items.len(), argument, value),
        ("uniqueItems", Value::Array(items)) if argument == &Value::Bool(true) && !unique(items) => {
            Some(format!("{} has non-unique elements", repr(value)))
        }
        ("minProperties", Value::Object(fields)) if below(fields.len(), argument) => {
            Some(format!("{} does not have enough properties", repr(value)))
        }
        ("maxProperties", Value::Object(fields)) if above(fields.len(), argument) => {
            Some(format!("{} has too many properties", repr(value)))
        }
        ("pattern", Value::String(text)) => match argument.as_str() {
            Some(pattern) if !search(pattern, text) => {
                Some(format!("{} does not match {}", repr(value), repr(argument)))
            }
            _ => None,
        },
        _ => None,
    };
    found.extend(message.map(Violation::new));
}

fn bound(number: &Number, limit: &Value, exclusive: bool, wrong: Ordering) -> Option<String> {
    let limit_number = limit.as_number()?;
    let order = compare(number, limit_number)?;
    if order != wrong && !(exclusive && order == Ordering::Equal) {
        return None;
    }
    let (side, which) = if wrong == Ordering::Less { ("less", "minimum") } else { ("greater", "maximum") };
    let or_equal = if exclusive { " or equal to" } else { "" };
    let number = repr(&Value::Number(number.clone()));
    Some(format!("{number} is {side} than{or_equal} the {which} of {}", repr(limit)))
}

fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn is_multiple(number: &Number, of: &Value) -> bool {
    if let (Some(number), Some(of)) = (number.as_i64(), of.as_i64()) {
        return of == 0 || number % of == 0;
    }
    match (number.as_f64(), of.as_f64()) {
        (Some(number), Some(of)) if of != 0.0 && of.is_finite() => {
            if of.fract() != 0.0 {
                (number / of).fract() == 0.0
            } else {
                number % of == 0.0
            }
        }
        _ => true,
    }
}

fn below(count: usize, limit: &Value) -> bool {
    limit.as_f64().is_some_and(|limit| (count as f64) < limit)
}

fn above(count: usize, limit: &Value) -> bool {
    limit.as_f64().is_some_and(|limit| (count as f64) > limit)
}

fn too_short(count: usize, limit: &Value, value: &Value) -> Option<String> {
    below(count, limit).then(|| format!("{} is too short", repr(value)))
}

fn too_long(count: usize, limit: &Value, value: &Value) -> Option<String> {
    above(count, limit).then(|| format!("{} is too long", repr(value)))
}

fn unique(items: &[Value]) -> bool {
    items.iter().enumerate().all(|(index, item)| !items[..index].iter().any(|earlier| equal(earlier, item)))
}

/// Equality of JSON values where `1` equals `1.0` but not `true`.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// How many compiled patterns a thread keeps.
const PATTERNS: usize = 256;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::new(HashMap::new());
}

/// Whether `pattern` occurs in `text`. A pattern that isn't one matches nothing.
pub(super) fn search(pattern: &str, text: &str) -> bool {
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(regex) = compiled.get(pattern) {
            return regex.as_ref().is_some_and(|regex| regex.is_match(text));
        }
        if compiled.len() >= PATTERNS {
            compiled.clear();
        }
        let regex = Regex::new(pattern).ok();
        let matched = regex.as_ref().is_some_and(|regex| regex.is_match(text));
        compiled.insert(pattern.to_owned(), regex);
        matched
    })
}
