//! Values as Python prints them: `str()`, `repr()` and `json.dumps(indent=4)`, which scripts around `st2` parse.

use std::fmt::Write as _;

use serde_json::Value;

/// `json.dumps(value, indent=4)`: ASCII only; `sorted` sorts the keys of every object.
pub fn json(value: &Value, sorted: bool) -> String {
    let mut out = String::new();
    write_json(&mut out, value, sorted, 0);
    out
}

fn write_json(out: &mut String, value: &Value, sorted: bool, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&" ".repeat(4 * depth));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                write_json(out, item, sorted, depth + 1);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            let mut entries: Vec<_> = map.iter().collect();
            if sorted {
                entries.sort_by_key(|(key, _)| *key);
            }
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                json_string(out, key);
                out.push_str(": ");
                write_json(out, item, sorted, depth + 1);
            }
            line(out, depth);
            out.push('}');
        }
        Value::String(text) => json_string(out, text),
        Value::Number(number) => out.push_str(&number_text(number)),
        other => out.push_str(&other.to_string()),
    }
}

fn json_string(out: &mut String, text: &str) {
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
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// `str(value)`: text as it is, everything else as `repr`.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_text(number),
        Value::String(text) => repr_string(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<_> =
                map.iter().map(|(key, item)| format!("{}: {}", repr_string(key), repr(item))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn repr_string(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa0).contains(&(c as u32)) => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_text(float),
        _ => number.to_string(),
    }
}

/// The shortest text that reads back as the same number, with Python's choice of notation.
fn float_text(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// Whether Python takes the value for false: `None`, `False`, `0`, `''`, `[]` and `{}`.
pub fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_has_four_spaces_sorted_keys_and_ascii() {
        let value = json!({"b": [1, {"x": []}], "a": "h\u{e9}llo \u{1f600}\n"});
        let expected = "{\n    \"a\": \"h\\u00e9llo \\ud83d\\ude00\\n\",\n    \"b\": [\n        1,\n        {\n            \"x\": []\n        }\n    ]\n}";
        assert_eq!(json(&value, true), expected);
        assert!(json(&value, false).starts_with("{\n    \"b\""));
    }

    #[test]
    fn repr_is_pythons() {
        let value = json!({"delta": 5, "unit": "it's", "q": "\"'", "n": null, "t": [true, 1.0, 1e20, 1e-7, 0.5]});
        let expected = r#"{'delta': 5, 'unit': "it's", 'q': '"\'', 'n': None, 't': [True, 1.0, 1e+20, 1e-07, 0.5]}"#;
        assert_eq!(repr(&value), expected);
        assert_eq!(text(&json!("a'b")), "a'b");
    }
}
