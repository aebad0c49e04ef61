//! JSON, YAML and JSONPath.

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, Value};
use model::python::float_repr;
use serde_json::Value as Json;

use super::{argument, failed};
use crate::jinja::values::{from_jinja, input, text, to_jinja};
use crate::jsonpath::JsonPath;

pub(super) fn register(env: &mut Environment<'_>) {
    env.add_filter("to_json_string", to_json_string);
    env.add_filter("from_json_string", from_json_string);
    env.add_filter("to_complex", to_complex);
    env.add_filter("json_escape", json_escape);
    env.add_filter("to_yaml_string", to_yaml_string);
    env.add_filter("from_yaml_string", from_yaml_string);
    env.add_filter("jsonpath_query", jsonpath_query);
    // For YAQL; no template can spell it.
    env.add_filter("jsonpath query of frozen data", |value: &Value, query: &str| matches(value, query, true));
    env.add_filter("tojson", tojson);
    // The names that Orquesta knows them by.
    env.add_filter("json_dump", to_json_string);
    env.add_filter("json_parse", from_json_string);
    env.add_filter("yaml_dump", to_yaml_string);
    env.add_filter("yaml_parse", from_yaml_string);
}

/// How `json.dumps` writes.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    indent: Option<usize>,
    item: String,
    key: String,
    sort: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { indent: None, item: ", ".to_owned(), key: ": ".to_owned(), sort: false }
    }
}

/// `json.dumps(value)`: non-ASCII escaped, `", "` and `": "` between.
pub(crate) fn dumps(value: &Json) -> String {
    let mut out = String::new();
    write(&mut out, value, &Style::default(), 0);
    out
}

/// The same with an indent and separators.
pub(crate) fn dumps_with(value: &Json, indent: Option<usize>, item: &str, key: &str) -> Result<String, Error> {
    if indent.is_some_and(|indent| indent > 64) {
        return Err(failed("indent must be small"));
    }
    let style = Style { indent, item: item.to_owned(), key: key.to_owned(), sort: false };
    let mut out = String::new();
    write(&mut out, value, &style, 0);
    Ok(out)
}

fn write(out: &mut String, value: &Json, style: &Style, depth: usize) {
    match value {
        Json::Number(number) if number.is_f64() => out.push_str(&float_repr(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => write_text(out, text),
        Json::Array(items) if !items.is_empty() => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                between(out, style, index, depth + 1);
                write(out, item, style, depth + 1);
            }
            line(out, style, depth);
            out.push(']');
        }
        Json::Object(fields) if !fields.is_empty() => {
            let mut fields: Vec<_> = fields.iter().collect();
            if style.sort {
                fields.sort_by_key(|(name, _)| *name);
            }
            out.push('{');
            for (index, (name, field)) in fields.into_iter().enumerate() {
                between(out, style, index, depth + 1);
                write_text(out, name);
                out.push_str(&style.key);
                write(out, field, style, depth + 1);
            }
            line(out, style, depth);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn between(out: &mut String, style: &Style, index: usize, depth: usize) {
    if index > 0 {
        // With an indent the blank after the comma gives way to the line break only if it isn't asked for.
        out.push_str(&style.item);
    }
    line(out, style, depth);
}

fn line(out: &mut String, style: &Style, depth: usize) {
    if let Some(indent) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

fn write_text(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

fn to_json_string(
    value: &Value,
    indent: Option<Value>,
    sort_keys: Option<Value>,
    separators: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let mut style = Style::default();
    if let Some(indent) = argument(indent, &kwargs, "indent")?.filter(|indent| !indent.is_none()) {
        style.indent = Some(indent.as_usize().filter(|n| *n <= 64).ok_or_else(|| failed("indent must be small"))?);
        style.item = ",".to_owned();
    }
    style.sort = argument(sort_keys, &kwargs, "sort_keys")?.is_some_and(|sort| sort.is_true());
    if let Some(separators) = argument(separators, &kwargs, "separators")?.filter(|given| !given.is_none()) {
        style.item = text(&separators.get_item_by_index(0)?);
        style.key = text(&separators.get_item_by_index(1)?);
    }
    kwargs.assert_all_used()?;
    let mut out = String::new();
    write(&mut out, &from_jinja(value)?, &style, 0);
    Ok(out)
}

/// Jinja2's own: keys sorted, made safe for HTML.
fn tojson(value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let plain = to_json_string(value, indent, Some(Value::from(true)), None, kwargs)?;
    let safe = plain.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Ok(safe.replace('\'', "\\u0027"))
}

fn from_json_string(value: &Value) -> Result<Value, Error> {
    let parsed: Json = serde_json::from_str(&input(value)?).map_err(failed)?;
    Ok(to_jinja(&parsed))
}

fn to_complex(value: &Value) -> Result<String, Error> {
    Ok(dumps(&from_jinja(value)?))
}

/// Also takes away quotes that belong to the text, as StackStorm does.
fn json_escape(value: &Value) -> Result<String, Error> {
    Ok(dumps(&from_jinja(value)?).trim_matches('"').to_owned())
}

fn to_yaml_string(
    value: &Value,
    indent: Option<Value>,
    allow_unicode: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    // Taken for compatibility: PyYAML's layout has two blanks, which is what we write.
    let _ = argument(indent, &kwargs, "indent")?;
    let unicode = argument(allow_unicode, &kwargs, "allow_unicode")?.is_none_or(|allow| allow.is_true());
    kwargs.assert_all_used()?;
    let value = sorted(from_jinja(value)?);
    Ok(if unicode { model::yaml::dump_unicode(&value) } else { model::yaml::dump(&value) })
}

/// Objects with their keys in order.
pub(super) fn sorted(value: Json) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(fields.into_iter().map(|(name, field)| (name, sorted(field))).collect())
        }
        other => other,
    }
}

fn from_yaml_string(value: &Value) -> Result<Value, Error> {
    let parsed = model::yaml::load(&input(value)?).map_err(failed)?;
    Ok(to_jinja(&parsed))
}

/// All matches, or none at all.
fn jsonpath_query(value: &Value, query: &str) -> Result<Value, Error> {
    matches(value, query, false)
}

fn matches(value: &Value, query: &str, frozen: bool) -> Result<Value, Error> {
    let path = JsonPath::parse(query).map_err(failed)?;
    let root = from_jinja(value)?;
    let found = if frozen { path.find_frozen(&root) } else { path.find(&root) };
    if found.is_empty() {
        return Ok(Value::from(()));
    }
    Ok(Value::from(found.into_iter().map(|value| to_jinja(&value)).collect::<Vec<_>>()))
}
