//! Methods of Python's texts and lists that the engine's compatibility layer lacks.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::failed;
use crate::jinja::values::text;

/// Widest result of the padding methods.
const MAX_WIDTH: usize = 1 << 16;

/// Calls a method that the engine doesn't know.
pub(crate) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let ours = match value.as_str() {
        Some(text) => string_method(text, method, args)?,
        // In Python both change the value in place; values of templates don't change, only the result is the same.
        None if method == "sort" && value.kind() == ValueKind::Seq => Some(Value::from(())),
        None if method == "index" && value.try_iter().is_ok() && value.as_object().is_some() => {
            let wanted = args.first().cloned().unwrap_or_default();
            let place = value.try_iter()?.position(|item| item == wanted);
            Some(Value::from(place.ok_or_else(|| failed(format!("{} is not in list", text(&wanted))))?))
        }
        None => None,
    };
    match ours {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let first = args.first();
    let word = || first.and_then(Value::as_str).ok_or_else(|| Error::from(ErrorKind::MissingArgument));
    let result = match method {
        "rsplit" => Value::from(rsplit(text, first.and_then(Value::as_str), args.get(1).and_then(Value::as_i64))),
        "index" => {
            let found = text.find(word()?).ok_or_else(|| failed("substring not found"))?;
            Value::from(text[..found].chars().count())
        }
        "zfill" => {
            let missing = width(first)?.saturating_sub(text.chars().count());
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            Value::from(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        "rjust" | "ljust" | "center" => Value::from(padded(text, method, args)?),
        "swapcase" => {
            let swapped = text.chars().flat_map(|c| -> Vec<char> {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
            });
            Value::from(swapped.collect::<String>())
        }
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss")),
        "partition" => parts(text.split_once(word()?), word()?, text, false),
        "rpartition" => parts(text.rsplit_once(word()?), word()?, text, true),
        "removeprefix" => Value::from(text.strip_prefix(word()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(word()?).unwrap_or(text)),
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn width(value: Option<&Value>) -> Result<usize, Error> {
    let width = value.and_then(Value::as_i64).ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    let width = usize::try_from(width).unwrap_or(0);
    if width > MAX_WIDTH { Err(failed(format!("width is more than {MAX_WIDTH}"))) } else { Ok(width) }
}

fn padded(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let width = width(args.first())?;
    let fill = args.get(1).and_then(Value::as_str).unwrap_or(" ");
    let missing = width.saturating_sub(text.chars().count());
    let left = match method {
        "rjust" => missing,
        "ljust" => 0,
        // Python puts the odd blank to the left when the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

fn rsplit(text: &str, separator: Option<&str>, limit: Option<i64>) -> Vec<String> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut parts: Vec<String> = match separator {
        Some(separator) if !separator.is_empty() => text.rsplitn(limit, separator).map(str::to_owned).collect(),
        _ if limit == usize::MAX => return text.split_whitespace().map(str::to_owned).collect(),
        _ => text.trim_end().rsplitn(limit, char::is_whitespace).map(|part| part.trim_end().to_owned()).collect(),
    };
    parts.reverse();
    parts
}

fn parts(found: Option<(&str, &str)>, separator: &str, text: &str, from_end: bool) -> Value {
    let three = match found {
        Some((before, after)) => [before, separator, after],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Value::from(Tuple::from(three.map(Value::from).to_vec()))
}

/// Methods of texts, lists and mappings that can be called, here or in the engine's compatibility layer.
const METHODS: [(ValueKind, &[&str]); 3] = [
    (
        ValueKind::String,
        &[
            "capitalize",
            "casefold",
            "center",
            "count",
            "endswith",
            "find",
            "format",
            "index",
            "isalnum",
            "isalpha",
            "isascii",
            "isdigit",
            "islower",
            "isnumeric",
            "isspace",
            "isupper",
            "join",
            "ljust",
            "lower",
            "lstrip",
            "partition",
            "removeprefix",
            "removesuffix",
            "replace",
            "rfind",
            "rjust",
            "rpartition",
            "rsplit",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "swapcase",
            "title",
            "upper",
            "zfill",
        ],
    ),
    (ValueKind::Seq, &["count", "index", "sort"]),
    (ValueKind::Map, &["get", "items", "keys", "values"]),
];

/// Whether a value has such a method.
pub(super) fn is_method(value: &Value, name: &str) -> bool {
    METHODS.iter().any(|(kind, names)| *kind == value.kind() && names.contains(&name))
}
