//! The engine's errors in Jinja2's words where users know them: undefined names, attributes and elements.

use std::error::Error as _;

use minijinja::{Error, ErrorKind, Value as Jinja};
use model::python;

use super::{RenderError, values};

/// A template that can't be compiled.
pub(crate) fn syntax(error: &Error) -> RenderError {
    RenderError::Syntax(message(error, |_| None))
}

/// The text of `error`; `evaluate` gives values of expressions in the same context.
pub(crate) fn message(error: &Error, evaluate: impl Fn(&str) -> Option<Jinja>) -> String {
    let detail = error.detail().unwrap_or_default();
    if let Some(expression) = undefined_expression(detail) {
        return undefined(expression, evaluate);
    }
    match error.kind() {
        ErrorKind::UnknownFilter => {
            if let Some(name) = detail.split_whitespace().nth(1) {
                return format!("No filter named '{name}'.");
            }
        }
        ErrorKind::UnknownTest => {
            if let Some(name) = detail.split_whitespace().nth(1) {
                return format!("No test named '{name}'.");
            }
        }
        ErrorKind::UnknownFunction => {
            if let Some(name) = detail.strip_suffix(" is unknown") {
                return format!("'{name}' is undefined");
            }
        }
        ErrorKind::UnknownMethod => {
            if let Some((owner, name)) = detail.split_once(" has no method named ") {
                let owner = match owner {
                    "string" => "str",
                    "sequence" => "list",
                    "number" => "int",
                    "map" => "dict",
                    other => other,
                };
                return format!("'{owner} object' has no attribute '{name}'");
            }
        }
        _ => {}
    }
    let text = if detail.is_empty() { error.kind().to_string() } else { detail.to_owned() };
    match error.source() {
        Some(source) if detail.is_empty() => format!("{text}: {source}"),
        _ => text,
    }
}

/// The engine says "`a.b` is undefined", alone or in parentheses after what it was doing.
fn undefined_expression(detail: &str) -> Option<&str> {
    let end = detail.rfind("` is undefined")?;
    let start = detail[..end].rfind('`')?;
    Some(&detail[start + 1..end])
}

fn undefined(expression: &str, evaluate: impl Fn(&str) -> Option<Jinja>) -> String {
    let Some((base, element, is_attribute)) = split_last(expression) else {
        return format!("'{expression}' is undefined");
    };
    let owner = evaluate(base).map_or("dict object", |value| values::type_name(&value));
    if is_attribute {
        format!("'{owner}' has no attribute {element}")
    } else {
        format!("{owner} has no element {element}")
    }
}

/// Base, last element as Python prints it, and whether it is an attribute (or a text used as one).
fn split_last(expression: &str) -> Option<(&str, String, bool)> {
    if let Some(rest) = expression.strip_suffix(']') {
        let open = rest.rfind('[')?;
        let key = &rest[open + 1..];
        let quoted = key.starts_with('\'') || key.starts_with('"');
        return Some((&rest[..open], key.to_owned(), quoted));
    }
    let dot = expression.rfind('.')?;
    let mut name = String::new();
    python::write_str_repr(&mut name, &expression[dot + 1..]);
    Some((&expression[..dot], name, true))
}

/// Python's words for a division by zero, of which the engine says `unable to calculate 1 / 0`.
pub(crate) fn zero_division(message: &str) -> Option<&'static str> {
    let (calculation, divisor) = message.strip_prefix("unable to calculate ")?.rsplit_once(' ')?;
    let (dividend, operator) = calculation.rsplit_once(' ')?;
    if divisor.parse::<f64>().ok()? != 0.0 {
        return None;
    }
    let float = divisor.contains('.') || dividend.contains('.');
    Some(match (operator, float) {
        ("/", false) => "division by zero",
        ("/", true) => "float division by zero",
        ("//", false) => "integer division or modulo by zero",
        ("//", true) => "float floor division by zero",
        ("%", false) => "integer modulo by zero",
        ("%", true) => "float modulo",
        _ => return None,
    })
}
