//! Types of plain scalars by YAML 1.1's type repository, in PyYAML's reading of it.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Number, Value};

/// The patterns are constants that a test compiles.
#[allow(clippy::unwrap_used)]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap() // constant, compiled by every test of this module
}

static FLOAT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)$"));
static FLOAT60: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*$"));
static INT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)$"));
static INT60: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+$"));
static DATE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([0-9]{4})-([0-9]{2})-([0-9]{2})$"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?",
        r"(?:[ \t]*(Z|([-+])([0-9]{1,2})(?::([0-9]{2}))?))?$"
    ))
});

/// The value of a plain scalar.
pub fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Value::Bool(false),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.') {
        if let Some(number) = integer(text).or_else(|| float(text)) {
            return number;
        }
        if let Some(time) = timestamp(text) {
            return Value::String(time);
        }
    }
    Value::String(text.to_owned())
}

/// Whether a plain scalar of this text would not be read as a string.
pub fn is_special(text: &str) -> bool {
    !matches!(plain(text), Value::String(_)) || timestamp(text).is_some() || matches!(text, "=" | "<<")
}

/// An integer in any of YAML 1.1's bases. One too large for JSON's integers becomes the nearest float.
pub fn integer(text: &str) -> Option<Value> {
    if INT60.is_match(text) {
        return sexagesimal(text).map(|value| number(value as i128));
    }
    if !INT.is_match(text) {
        return None;
    }
    let (negative, digits) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = digits.replace('_', "");
    let parsed = if let Some(binary) = digits.strip_prefix("0b") {
        i128::from_str_radix(binary, 2)
    } else if let Some(hex) = digits.strip_prefix("0x") {
        i128::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits, 8)
    } else {
        digits.parse::<i128>()
    };
    match parsed {
        Ok(value) => Some(number(if negative { -value } else { value })),
        Err(_) => digits.parse::<f64>().ok().and_then(|value| from_float(if negative { -value } else { value })),
    }
}

fn number(value: i128) -> Value {
    if let Ok(small) = i64::try_from(value) {
        return Value::from(small);
    }
    u64::try_from(value).map_or_else(|_| from_float(value as f64).unwrap_or(Value::Null), Value::from)
}

fn sexagesimal(text: &str) -> Option<f64> {
    let negative = text.starts_with('-');
    let mut value = 0.0;
    for part in text.trim_start_matches(['-', '+']).replace('_', "").split(':') {
        value = value * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(if negative { -value } else { value })
}

pub fn float(text: &str) -> Option<Value> {
    // JSON has no infinities and no NaN: they stay the text that they are.
    if FLOAT60.is_match(text) {
        return sexagesimal(text).and_then(from_float);
    }
    if !FLOAT.is_match(text) {
        return None;
    }
    text.replace('_', "").parse::<f64>().ok().and_then(from_float)
}

fn from_float(value: f64) -> Option<Value> {
    Number::from_f64(value).map(Value::Number)
}

/// A date as it is, a time as Python's `isoformat` writes it, in UTC when it has an offset.
fn timestamp(text: &str) -> Option<String> {
    if let Some(date) = DATE.captures(text) {
        let part = |index: usize| date[index].parse::<u32>().ok();
        let year = date[1].parse::<i32>().ok()?;
        return chrono::NaiveDate::from_ymd_opt(year, part(2)?, part(3)?).map(|_| text.to_owned());
    }
    let found = TIME.captures(text)?;
    let part = |index: usize| found.get(index).and_then(|part| part.as_str().parse::<u32>().ok());
    let date = chrono::NaiveDate::from_ymd_opt(found[1].parse().ok()?, part(2)?, part(3)?)?;
    let fraction: String =
        found.get(7).map_or("", |part| part.as_str()).chars().chain("000000".chars()).take(6).collect();
    let time = date.and_hms_micro_opt(part(4)?, part(5)?, part(6)?, fraction.parse().ok()?)?;
    let form = if fraction == "000000" { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
    let Some(zone) = found.get(8) else {
        return Some(time.format(form).to_string());
    };
    if zone.as_str() == "Z" {
        return Some(format!("{}+00:00", time.format(form)));
    }
    let (hours, minutes) = (part(10)?, part(11).unwrap_or(0));
    Some(format!("{}{}{hours:02}:{minutes:02}", time.format(form), &found[9]))
}
