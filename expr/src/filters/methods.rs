//! Methods of Python's texts and lists that the engine's compatibility layer lacks.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::failed;
use crate::jinja::values::text;

/// Bytes of the longest text that a method makes.
const MAX_TEXT: usize = 16 << 20;
/// Most that `str.format` pads.
const MAX_FORMATTED: usize = 1 << 20;
/// Methods of longer texts look at the clock: the engine counts a call as one step.
const LARGE: usize = 4_096;
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
        Some(text) if text.len() > LARGE && crate::jinja::is_late() => {
            return Err(failed("the expression takes too much time"));
        }
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
        // Done by the compatibility layer, which would take any width.
        "format" => {
            check_widths(text, args)?;
            return Ok(None);
        }
        "replace" => {
            let places = first.and_then(Value::as_str).map_or(0, |old| text.matches(old).count());
            let new = args.get(1).and_then(Value::as_str).map_or(0, str::len);
            check_length(text.len().saturating_add(places.saturating_mul(new)))?;
            return Ok(None);
        }
        "join" => {
            let items = first.map(|items| items.try_iter()).transpose()?;
            let length = |item: Value| item.as_str().map_or(0, str::len).saturating_add(text.len());
            check_length(items.into_iter().flatten().map(length).fold(0, usize::saturating_add))?;
            return Ok(None);
        }
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

pub(super) fn check_length(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_TEXT { Err(failed(format!("the text is longer than {MAX_TEXT} bytes"))) } else { Ok(()) }
}

/// Widths and precisions that a format of `str.format` asks for, or takes from its arguments, are bounded together.
fn check_widths(format: &str, args: &[Value]) -> Result<(), Error> {
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let written = numbers.map(|digits| digits.parse::<usize>().unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
    let from_args = if format.contains(":{") || format.contains(".{") { widest(args) } else { 0 };
    let fields = format.matches('{').count();
    if written.saturating_add(from_args.saturating_mul(fields)) > MAX_FORMATTED {
        return Err(failed(format!("the widths of a format are more than {MAX_FORMATTED}")));
    }
    Ok(())
}

fn widest(args: &[Value]) -> usize {
    let number = |value: &Value| value.as_i64().map_or(0, |number| usize::try_from(number).unwrap_or(0));
    let within = |value: &Value| match value.kind() {
        ValueKind::Map | ValueKind::Seq => {
            let items = value.try_iter().into_iter().flatten();
            let numbers = items.map(|item| number(&value.get_item(&item).unwrap_or_default()).max(number(&item)));
            numbers.max().unwrap_or(0)
        }
        _ => number(value),
    };
    args.iter().map(within).max().unwrap_or(0)
}
