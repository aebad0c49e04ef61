//! Jinja2's own filters where the engine's differ or are missing.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, Value};

use model::python;

use super::data::sorted;
use super::{argument, failed};
use crate::jinja::values::{from_jinja, input, text};

/// Widest result of `center`.
const MAX_WIDTH: usize = 1 << 16;

pub(super) fn register(env: &mut Environment<'_>) {
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("string", |value: &Value| input(value));
    env.add_filter("center", center);
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("e", escape);
    env.add_filter("escape", escape);
    env.add_filter("forceescape", escape);
    env.add_filter("truncate", truncate);
    env.add_filter("wordwrap", wordwrap);
    env.add_filter("pprint", |value: &Value| from_jinja(value).map(|value| python::repr(&sorted(value))));
    env.add_test("callable", |value: &Value| matches!(value.kind(), ValueKind::Plain));
    env.add_filter("wordcount", |value: &Value| input(value).map(|text| words(&text)));
}

/// Never fails: what isn't a number is the default.
fn int(value: &Value, default: Option<Value>, base: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = argument(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0));
    let base = argument(base, &kwargs, "base")?.and_then(|base| base.as_i64()).unwrap_or(10);
    kwargs.assert_all_used()?;
    let parsed = match value.kind() {
        ValueKind::Undefined => return input(value).map(Value::from),
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(truncated),
        ValueKind::String | ValueKind::Plain => {
            let text = text(value);
            let base = u32::try_from(base).unwrap_or(10);
            crate::params::python_int(&text, base)
                .map(Value::from)
                .or_else(|| crate::params::python_float(&text).and_then(truncated))
        }
        _ => None,
    };
    Ok(parsed.unwrap_or(default))
}

fn truncated(number: f64) -> Option<Value> {
    (number.is_finite() && number.abs() < 1e38).then(|| Value::from(number.trunc() as i128))
}

fn float(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = argument(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0.0));
    kwargs.assert_all_used()?;
    let parsed = match value.kind() {
        ValueKind::Undefined => return input(value).map(Value::from),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String | ValueKind::Plain => crate::params::python_float(&input(value)?),
        _ => None,
    };
    Ok(parsed.map_or(default, Value::from))
}

fn center(value: &Value, width: Option<usize>) -> Result<String, Error> {
    let (text, width) = (input(value)?, width.unwrap_or(80));
    if width > MAX_WIDTH {
        return Err(failed(format!("width is more than {MAX_WIDTH}")));
    }
    let missing = width.saturating_sub(text.chars().count());
    // Python puts the odd blank to the left when the width is odd.
    let left = missing / 2 + (missing & width & 1);
    Ok(format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left)))
}

/// Given by position or as `boolean`.
fn default(value: &Value, other: Option<Value>, boolean: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let other = argument(other, &kwargs, "default_value")?.unwrap_or_else(|| Value::from(""));
    let falsy_too = argument(boolean, &kwargs, "boolean")?.is_some_and(|flag| flag.is_true());
    kwargs.assert_all_used()?;
    Ok(if value.is_undefined() || (falsy_too && !value.is_true()) { other } else { value.clone() })
}

/// Nothing is escaped by itself, so "safe" texts are texts like any other.
fn escape(value: &Value) -> Result<String, Error> {
    input(value).map(|text| escaped(&text))
}

pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

fn truncate(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let text = input(value)?;
    let given = |at: usize, name: &str| argument(args.get(at).cloned(), &kwargs, name);
    let number = |value: Option<Value>, default| value.and_then(|value| value.as_usize()).unwrap_or(default);
    let length = number(given(0, "length")?, 255);
    let kill_words = given(1, "killwords")?.is_some_and(|flag| flag.is_true());
    let end = given(2, "end")?.map_or_else(|| "...".to_owned(), |end| crate::jinja::values::text(&end));
    let leeway = number(given(3, "leeway")?.filter(|leeway| !leeway.is_none()), 5);
    kwargs.assert_all_used()?;
    let end_length = end.chars().count();
    if length < end_length {
        return Err(failed(format!("expected length >= {end_length}, got {length}")));
    }
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let cut: String = text.chars().take(length - end_length).collect();
    let kept = if kill_words { cut.as_str() } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

/// Lines of at most `width` characters; longer words are broken.
fn wordwrap(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let text = input(value)?;
    let given = |at: usize, name: &str| argument(args.get(at).cloned(), &kwargs, name);
    let width = given(0, "width")?.and_then(|width| width.as_usize()).unwrap_or(79).max(1);
    let break_long = given(1, "break_long_words")?.is_none_or(|flag| flag.is_true());
    let separator = given(2, "wrapstring")?.filter(|given| !given.is_none());
    let separator = separator.map_or_else(|| "\n".to_owned(), |separator| crate::jinja::values::text(&separator));
    kwargs.assert_all_used()?;
    let lines: Vec<String> = text.lines().flat_map(|line| wrap_line(line, width, break_long)).collect();
    super::methods::check_length(text.len().saturating_add(lines.len().saturating_mul(separator.len())))?;
    Ok(lines.join(&separator))
}

fn wrap_line(line: &str, width: usize, break_long: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    let mut used = 0;
    for word in line.split(' ') {
        let mut word = word.to_owned();
        let mut length = word.chars().count();
        if used > 0 && used + 1 + length <= width {
            current.push(' ');
            current.push_str(&word);
            used += 1 + length;
            continue;
        }
        if used > 0 {
            lines.push(std::mem::take(&mut current));
        }
        if break_long && length > width {
            let chars: Vec<char> = word.chars().collect();
            // The last part may take more words.
            let parts = length.div_ceil(width) - 1;
            lines.extend(chars[..parts * width].chunks(width).map(String::from_iter));
            word = chars[parts * width..].iter().collect();
            length -= parts * width;
        }
        current = word;
        used = length;
    }
    lines.push(current);
    lines
}

fn words(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}
