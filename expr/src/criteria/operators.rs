//! The operators of criteria (spec/rules.md §9, §10), with Python's idea of equality, order and membership.

use std::cmp::Ordering;

use model::{Timestamp, python};
use serde_json::Value;

use super::dates;
use crate::params::python_float;
use crate::pyregex::{Flags, PyRegex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    MatchWildcard,
    MatchRegex,
    Regex,
    IRegex,
    Equals,
    NotEquals,
    IEquals,
    Contains,
    IContains,
    NotContains,
    INotContains,
    StartsWith,
    IStartsWith,
    EndsWith,
    IEndsWith,
    LessThan,
    GreaterThan,
    TimeDiffLess,
    TimeDiffGreater,
    Exists,
    NotExists,
    Inside,
    NotInside,
    Search,
}

/// The operator's answer, or the text of what it raised.
type Answer = Result<bool, String>;

impl Operator {
    /// In the order of the API's message.
    pub(super) const NAMES: [&'static str; 33] = [
        "matchwildcard",
        "matchregex",
        "regex",
        "iregex",
        "eq",
        "equals",
        "neq",
        "nequals",
        "ieq",
        "iequals",
        "contains",
        "icontains",
        "ncontains",
        "incontains",
        "startswith",
        "istartswith",
        "endswith",
        "iendswith",
        "lt",
        "lessthan",
        "gt",
        "greaterthan",
        "td_lt",
        "timediff_lt",
        "td_gt",
        "timediff_gt",
        "exists",
        "nexists",
        "inside",
        "in",
        "ninside",
        "nin",
        "search",
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "matchwildcard" => Self::MatchWildcard,
            "matchregex" => Self::MatchRegex,
            "regex" => Self::Regex,
            "iregex" => Self::IRegex,
            "eq" | "equals" => Self::Equals,
            "neq" | "nequals" => Self::NotEquals,
            "ieq" | "iequals" => Self::IEquals,
            "contains" => Self::Contains,
            "icontains" => Self::IContains,
            "ncontains" => Self::NotContains,
            "incontains" => Self::INotContains,
            "startswith" => Self::StartsWith,
            "istartswith" => Self::IStartsWith,
            "endswith" => Self::EndsWith,
            "iendswith" => Self::IEndsWith,
            "lt" | "lessthan" => Self::LessThan,
            "gt" | "greaterthan" => Self::GreaterThan,
            "td_lt" | "timediff_lt" => Self::TimeDiffLess,
            "td_gt" | "timediff_gt" => Self::TimeDiffGreater,
            "exists" => Self::Exists,
            "nexists" => Self::NotExists,
            "in" | "inside" => Self::Inside,
            "nin" | "ninside" => Self::NotInside,
            "search" => Self::Search,
            _ => return None,
        })
    }

    /// `value` is the payload's, `pattern` the rule's.
    pub(super) fn apply(self, value: &Value, pattern: &Value, now: Timestamp) -> Answer {
        match self {
            Self::Exists => return Ok(!value.is_null()),
            Self::NotExists => return Ok(value.is_null()),
            Self::NotEquals => return Ok(!equal(value, pattern)),
            Self::Search => return Err("search has no plain pattern".to_owned()),
            // A pattern of null never matches.
            _ if pattern.is_null() => return Ok(false),
            _ => {}
        }
        match self {
            Self::Equals => Ok(equal(value, pattern)),
            Self::IEquals => Ok(lower(value)? == lower(pattern)?),
            Self::Contains => is_in(pattern, value),
            Self::NotContains => is_in(pattern, value).map(|found| !found),
            Self::IContains => icontains(value, pattern),
            Self::INotContains => icontains(value, pattern).map(|found| !found),
            Self::Inside => is_in(value, pattern),
            Self::NotInside => is_in(value, pattern).map(|found| !found),
            Self::StartsWith | Self::EndsWith => self.affix(value, pattern, false),
            Self::IStartsWith | Self::IEndsWith => self.affix(value, pattern, true),
            Self::LessThan => order(value, pattern, "<").map(|order| order == Some(Ordering::Less)),
            Self::GreaterThan => order(value, pattern, ">").map(|order| order == Some(Ordering::Greater)),
            Self::MatchWildcard => wildcard(value, pattern),
            Self::MatchRegex => {
                let flags = Flags { dot_all: true, ..Flags::default() };
                let (regex, text) = regex(value, pattern, flags)?;
                regex.matches_start(text).map_err(|error| error.to_string())
            }
            Self::Regex | Self::IRegex => {
                let flags = Flags { ignore_case: self == Self::IRegex, ..Flags::default() };
                let (regex, text) = regex(value, pattern, flags)?;
                regex.search(text).map_err(|error| error.to_string())
            }
            Self::TimeDiffLess => Ok(seconds_since(value, now)? < float(pattern)?),
            Self::TimeDiffGreater => Ok(seconds_since(value, now)? > float(pattern)?),
            Self::Exists | Self::NotExists | Self::NotEquals | Self::Search => Ok(false),
        }
    }

    fn affix(self, value: &Value, pattern: &Value, ignore_case: bool) -> Answer {
        let starts = matches!(self, Self::StartsWith | Self::IStartsWith);
        let method = if starts { "startswith" } else { "endswith" };
        let check =
            |value: &str, pattern: &str| if starts { value.starts_with(pattern) } else { value.ends_with(pattern) };
        if ignore_case {
            return Ok(check(&lower(value)?, &lower(pattern)?));
        }
        let Some(text) = value.as_str() else { return Err(no_method(value, method)) };
        match pattern.as_str() {
            Some(pattern) => Ok(check(text, pattern)),
            None => {
                Err(format!("{method} first arg must be str or a tuple of str, not {}", python::type_name(pattern)))
            }
        }
    }
}

fn no_method(value: &Value, method: &str) -> String {
    format!("'{}' object has no attribute '{method}'", python::type_name(value))
}

fn lower(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_lowercase).ok_or_else(|| no_method(value, "lower"))
}

fn icontains(value: &Value, pattern: &Value) -> Answer {
    Ok(lower(value)?.contains(&lower(pattern)?))
}

/// A number or a boolean as Python compares them.
fn numeric(value: &Value) -> Option<serde_json::Number> {
    match value {
        Value::Bool(flag) => Some(u8::from(*flag).into()),
        Value::Number(number) => Some(number.clone()),
        _ => None,
    }
}

fn compare_numbers(a: &serde_json::Number, b: &serde_json::Number) -> Option<Ordering> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// Python's `==`: booleans are 0 and 1, numbers of any kind compare by value.
fn equal(a: &Value, b: &Value) -> bool {
    if let (Some(a), Some(b)) = (numeric(a), numeric(b)) {
        return compare_numbers(&a, &b) == Some(Ordering::Equal);
    }
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// Python's `<` and `>`: numbers, texts, lists by their first difference.
fn order(a: &Value, b: &Value, sign: &str) -> Result<Option<Ordering>, String> {
    if let (Some(a), Some(b)) = (numeric(a), numeric(b)) {
        return Ok(compare_numbers(&a, &b));
    }
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        (Value::Array(a), Value::Array(b)) => match a.iter().zip(b).find(|(a, b)| !equal(a, b)) {
            Some((a, b)) => order(a, b, sign),
            None => Ok(Some(a.len().cmp(&b.len()))),
        },
        _ => Err(format!(
            "'{sign}' not supported between instances of '{}' and '{}'",
            python::type_name(a),
            python::type_name(b)
        )),
    }
}

/// Python's `element in container`.
fn is_in(element: &Value, container: &Value) -> Answer {
    match container {
        Value::String(text) => match element.as_str() {
            Some(part) => Ok(text.contains(part)),
            None => Err(format!("'in <string>' requires string as left operand, not {}", python::type_name(element))),
        },
        Value::Array(items) => Ok(items.iter().any(|item| equal(item, element))),
        Value::Object(fields) => match element {
            Value::String(name) => Ok(fields.contains_key(name)),
            Value::Array(_) | Value::Object(_) => Err(format!("unhashable type: '{}'", python::type_name(element))),
            _ => Ok(false),
        },
        other => Err(format!("argument of type '{}' is not iterable", python::type_name(other))),
    }
}

fn regex<'v>(value: &'v Value, pattern: &Value, flags: Flags) -> Result<(PyRegex, &'v str), String> {
    let Some(source) = pattern.as_str() else {
        return Err("first argument must be string or compiled pattern".to_owned());
    };
    let regex = PyRegex::new(source, flags).map_err(|error| error.to_string())?;
    let Some(text) = value.as_str() else {
        return Err(format!("expected string or bytes-like object, got '{}'", python::type_name(value)));
    };
    Ok((regex, text))
}

/// `fnmatch`: over the whole text, case-sensitive, `*` crosses everything.
fn wildcard(value: &Value, pattern: &Value) -> Answer {
    let (Some(text), Some(pattern)) = (value.as_str(), pattern.as_str()) else {
        let wrong = if value.is_string() { pattern } else { value };
        return Err(format!("expected str, bytes or os.PathLike object, not {}", python::type_name(wrong)));
    };
    let flags = Flags { dot_all: true, ..Flags::default() };
    let regex = PyRegex::new(&wildcard_regex(pattern), flags).map_err(|error| error.to_string())?;
    regex.matches_start(text).map_err(|error| error.to_string())
}

fn wildcard_regex(pattern: &str) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::from("(?:");
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        at += 1;
        match c {
            '*' => {
                if !out.ends_with(".*") {
                    out.push_str(".*");
                }
            }
            '?' => out.push('.'),
            '[' => match set_end(&chars, at) {
                Some(end) => {
                    push_set(&mut out, &chars[at..end]);
                    at = end + 1;
                }
                None => out.push_str("\\["),
            },
            c if c.is_alphanumeric() || c == '_' || !c.is_ascii() => out.push(c),
            c => {
                out.push('\\');
                out.push(c);
            }
        }
    }
    out.push_str(")\\Z");
    out
}

/// Where the `]` of a set lies; one right at its start stands for itself.
fn set_end(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    if chars.get(at) == Some(&'!') {
        at += 1;
    }
    if chars.get(at) == Some(&']') {
        at += 1;
    }
    (at..chars.len()).find(|at| chars[*at] == ']')
}

fn push_set(out: &mut String, set: &[char]) {
    out.push('[');
    for (index, c) in set.iter().enumerate() {
        match c {
            '!' if index == 0 => out.push('^'),
            '\\' | '^' | '[' | ']' => {
                out.push('\\');
                out.push(*c);
            }
            c => out.push(*c),
        }
    }
    out.push(']');
}

fn seconds_since(value: &Value, now: Timestamp) -> Result<f64, String> {
    let Some(text) = value.as_str() else {
        return Err(match value {
            Value::Null => "None".to_owned(),
            other => format!("Parser must be a string or character stream, not {}", python::type_name(other)),
        });
    };
    let then = dates::parse(text, now).ok_or_else(|| format!("Unknown string format: {text}"))?;
    Ok((now.micros() - then.micros()) as f64 / 1e6)
}

fn float(pattern: &Value) -> Result<f64, String> {
    match pattern {
        Value::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => {
            python_float(text).ok_or_else(|| format!("could not convert string to float: {}", python::repr(pattern)))
        }
        other => Err(format!("float() argument must be a string or a real number, not '{}'", python::type_name(other))),
    }
}
