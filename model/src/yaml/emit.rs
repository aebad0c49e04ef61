//! Block style as PyYAML's safe dumper writes it (`default_flow_style=False`).

use std::ops::{Deref, DerefMut};

use serde_json::{Number, Value};

use super::resolve;

/// Lines longer than this are folded at blanks.
const WIDTH: usize = 80;

pub fn dump(value: &Value) -> String {
    document(value, false)
}

/// Unicode that can be printed is kept.
pub fn dump_unicode(value: &Value) -> String {
    document(value, true)
}

/// The text so far.
struct Out {
    text: String,
    /// Whether other characters than ASCII's are kept.
    unicode: bool,
}

impl Deref for Out {
    type Target = String;

    fn deref(&self) -> &String {
        &self.text
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut String {
        &mut self.text
    }
}

impl Out {
    /// PyYAML escapes what is not ASCII unless it is told to allow Unicode.
    const fn needs_escape(&self, c: char) -> bool {
        let kept = matches!(c, '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
            || matches!(c, '\u{10000}'..='\u{10fffe}');
        !(matches!(c, '\n' | '\u{20}'..='\u{7e}') || self.unicode && kept)
    }

    /// Within double quotes also what lies beyond the first plane.
    const fn keeps_quoted(&self, c: char) -> bool {
        !self.needs_escape(c) && (c as u32) >= 0xa0 && (c as u32) < 0x1_0000
    }
}

fn document(value: &Value, unicode: bool) -> String {
    let mut out = Out { text: String::new(), unicode };
    match value {
        Value::Object(object) if !object.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        _ => {
            let simple = write_scalar(value, 0, 0, &mut out);
            out.push('\n');
            // A document that is one plain scalar is closed by an explicit end.
            if simple {
                out.push_str("...\n");
            }
        }
    }
    out.text
}

fn block(value: &Value, indent: usize, out: &mut Out) {
    match value {
        Value::Object(object) => {
            for (index, (name, value)) in object.iter().enumerate() {
                if index > 0 || !at_item_start(out) {
                    pad(indent, out);
                }
                let begin = column(out);
                write_string(name, indent, begin, true, out);
                out.push(':');
                child(value, indent, false, out);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || !at_item_start(out) {
                    pad(indent, out);
                }
                out.push('-');
                child(item, indent, true, out);
            }
        }
        _ => {}
    }
}

/// What stands after `name:` or `-`.
fn child(value: &Value, indent: usize, in_sequence: bool, out: &mut Out) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            if in_sequence {
                out.push(' ');
            } else {
                out.push('\n');
            }
            block(value, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            if in_sequence {
                out.push(' ');
                block(value, indent + 2, out);
            } else {
                // Sequences inside mappings are not indented.
                out.push('\n');
                block(value, indent, out);
            }
        }
        _ => {
            out.push(' ');
            let begin = column(out);
            write_scalar(value, indent + 2, begin, out);
            out.push('\n');
        }
    }
}

fn at_item_start(out: &str) -> bool {
    out.ends_with("- ")
}

fn column(out: &str) -> usize {
    out.rsplit('\n').next().map_or(0, |line| line.chars().count())
}

fn pad(indent: usize, out: &mut Out) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// True if it was written plain.
fn write_scalar(value: &Value, indent: usize, begin: usize, out: &mut Out) -> bool {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::String(text) => return write_string(text, indent, begin, false, out),
        Value::Array(_) => {
            out.push_str("[]");
            return false;
        }
        Value::Object(_) => {
            out.push_str("{}");
            return false;
        }
    }
    true
}

/// Python's `repr` of a float, with the point that YAML 1.1 wants before an exponent.
fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let exponent = if float == 0.0 { 0 } else { float.abs().log10().floor() as i32 };
    if (-4..16).contains(&exponent) {
        let text = format!("{float}");
        return if text.contains('.') { text } else { format!("{text}.0") };
    }
    let text = format!("{float:e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.to_owned() } else { format!("{mantissa}.0") };
    let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// True if it was written plain.
fn write_string(text: &str, indent: usize, begin: usize, is_key: bool, out: &mut Out) -> bool {
    if text.is_empty() {
        out.push_str("''");
        return false;
    }
    if text.chars().any(|c| out.needs_escape(c)) || (is_key && text.contains('\n')) {
        double_quoted(text, indent, begin, !is_key, out);
        return false;
    }
    let multiline = text.contains('\n');
    if !multiline && plain_allowed(text) && !resolve::is_special(text) {
        folded_words(text, indent, begin, !is_key, out);
        return true;
    }
    // Blanks beside line breaks, or at an end of several lines, would be lost in single quotes.
    let lossy = multiline && (text.contains(" \n") || text.contains("\n ") || text.starts_with(' '));
    if lossy {
        double_quoted(text, indent, begin, !is_key, out);
    } else {
        single_quoted(text, indent, begin, !is_key, out);
    }
    false
}

fn plain_allowed(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return false };
    let second_blank = chars.next().is_none_or(|c| c == ' ');
    if matches!(first, '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`') {
        return false;
    }
    if matches!(first, '?' | ':' | '-') && second_blank {
        return false;
    }
    if text.starts_with(' ') || text.ends_with(' ') || text.ends_with(':') {
        return false;
    }
    !text.contains(": ") && !text.contains(" #")
}

/// Words with breaks where a line gets longer than [`WIDTH`]; single blanks only can be broken at.
fn folded_words(text: &str, indent: usize, begin: usize, split: bool, out: &mut Out) {
    let mut column = begin;
    let chars: Vec<char> = text.chars().collect();
    let mut start = 0;
    let mut index = 0;
    while index <= chars.len() {
        let blank = index < chars.len() && chars[index] == ' ';
        if !blank && index < chars.len() {
            index += 1;
            continue;
        }
        // A word ends here.
        let word: String = chars[start..index].iter().collect();
        column += index - start;
        out.push_str(&word);
        let run = chars[index..].iter().take_while(|c| **c == ' ').count();
        let last = index + run >= chars.len();
        if run == 1 && split && column > WIDTH && !last && index > 0 {
            out.push('\n');
            pad(indent, out);
            column = indent;
        } else {
            pad(run, out);
            column += run;
        }
        index += run;
        start = index;
        if index >= chars.len() {
            break;
        }
    }
}

fn single_quoted(text: &str, indent: usize, begin: usize, split: bool, out: &mut Out) {
    out.push('\'');
    let lines: Vec<&str> = text.split('\n').collect();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            // One break is a blank when read, so a break takes two.
            out.push('\n');
            let previous_empty = lines[index - 1].is_empty();
            if index == 1 || !previous_empty {
                out.push('\n');
            }
            if !line.is_empty() || index + 1 == lines.len() {
                pad(indent, out);
            }
        }
        let at = if index == 0 { begin + 1 } else { indent };
        folded_words(&line.replace('\'', "''"), indent, at, split, out);
    }
    out.push('\'');
}

fn double_quoted(text: &str, indent: usize, begin: usize, split: bool, out: &mut Out) {
    out.push('"');
    let mut column = begin + 1;
    let chars: Vec<char> = text.chars().collect();
    for (index, c) in chars.iter().copied().enumerate() {
        if c == ' ' && split && index > 0 && index + 1 < chars.len() && column > WIDTH {
            out.push_str("\\\n");
            pad(indent, out);
            column = indent;
            if chars.get(index) == Some(&' ') {
                out.push('\\');
                column += 1;
            }
        }
        let piece = if out.keeps_quoted(c) { c.to_string() } else { escaped(c) };
        column += piece.chars().count();
        out.push_str(&piece);
    }
    out.push('"');
}

fn escaped(c: char) -> String {
    match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\r' => "\\r".to_owned(),
        '\0' => "\\0".to_owned(),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\u{1b}' => "\\e".to_owned(),
        '\u{85}' => "\\N".to_owned(),
        '\u{a0}' => "\\_".to_owned(),
        '\u{2028}' => "\\L".to_owned(),
        '\u{2029}' => "\\P".to_owned(),
        ' '..='~' => c.to_string(),
        c if (c as u32) < 0x100 => format!("\\x{:02X}", c as u32),
        c if (c as u32) < 0x1_0000 => format!("\\u{:04X}", c as u32),
        c => format!("\\U{:08X}", c as u32),
    }
}
