//! Block YAML as PyYAML's safe dumper prints it: sorted keys, ASCII only, chosen indentation and line width.
//!
//! `model::yaml::dump` has one fixed layout; the command line needs two (indent 4 for `-y`, indent 2 without folding
//! for executions), hence this printer. It also quotes exactly where PyYAML does.

use std::fmt::Write as _;

use serde_json::Value;

/// How to lay out a document.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Columns per level.
    pub indent: usize,
    /// Scalars are folded behind this column.
    pub width: usize,
}

/// `-y`.
pub const DOCUMENT: Layout = Layout { indent: 4, width: 80 };
/// Values inside an execution's listing.
pub const EMBEDDED: Layout = Layout { indent: 2, width: usize::MAX };

/// Prints one document, ending in a line feed.
pub fn dump(value: &Value, layout: Layout) -> String {
    let mut emitter = Emitter { out: String::new(), column: 0, layout };
    emitter.node(value, 0, Place::Root);
    if emitter.column > 0 || emitter.out.is_empty() {
        emitter.out.push('\n');
    }
    if matches!(value, Value::Null | Value::Bool(_) | Value::Number(_)) || is_plain_scalar(value) {
        emitter.out.push_str("...\n");
    }
    emitter.out
}

fn is_plain_scalar(value: &Value) -> bool {
    matches!(value, Value::String(text) if analyse(text).plain)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// Behind `key:`.
    Value,
    /// Behind `-`.
    Item,
}

struct Emitter {
    out: String,
    column: usize,
    layout: Layout,
}

impl Emitter {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.column = 0;
        self.put(&" ".repeat(indent));
    }

    /// Writes a node whose children stand at `indent` columns.
    fn node(&mut self, value: &Value, indent: usize, place: Place) {
        match value {
            Value::Array(items) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    self.begin(index, indent, place);
                    self.put("-");
                    let inner = indent + self.layout.indent;
                    if matches!(item, Value::Object(map) if !map.is_empty())
                        || matches!(item, Value::Array(items) if !items.is_empty())
                    {
                        let gap = inner - self.column;
                        self.put(&" ".repeat(gap));
                    } else {
                        self.put(" ");
                    }
                    self.node(item, inner, Place::Item);
                }
            }
            Value::Object(map) if !map.is_empty() => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (index, (key, item)) in entries.into_iter().enumerate() {
                    self.begin(index, indent, place);
                    self.entry(key, item, indent);
                }
            }
            Value::Array(_) => self.put("[]"),
            Value::Object(_) => self.put("{}"),
            Value::Null => self.put("null"),
            Value::Bool(flag) => self.put(if *flag { "true" } else { "false" }),
            Value::Number(number) => {
                let text = super::python::repr(&Value::Number(number.clone()));
                self.put(&text);
            }
            // a scalar's own continuation lines are indented as a child of its parent
            Value::String(text) => self.scalar(text, if place == Place::Root { self.layout.indent } else { indent }),
        }
    }

    /// The first child of an item or of the document stands on the line that is there already.
    fn begin(&mut self, index: usize, indent: usize, place: Place) {
        if index > 0 || place == Place::Value {
            self.line(indent);
        }
    }

    fn entry(&mut self, key: &str, item: &Value, indent: usize) {
        let simple = key.chars().count() < 128 && !key.contains('\n');
        if simple {
            self.scalar_key(key, indent);
            self.put(":");
        } else {
            self.put("? ");
            self.scalar(key, indent + self.layout.indent);
            self.line(indent);
            self.put(":");
        }
        match item {
            // a sequence within a mapping isn't indented
            Value::Array(items) if !items.is_empty() => self.node(item, indent, Place::Value),
            Value::Object(map) if !map.is_empty() => self.node(item, indent + self.layout.indent, Place::Value),
            _ => {
                self.put(" ");
                self.node(item, indent + self.layout.indent, Place::Item);
            }
        }
    }

    fn scalar_key(&mut self, key: &str, indent: usize) {
        let width = std::mem::replace(&mut self.layout.width, usize::MAX);
        self.scalar(key, indent);
        self.layout.width = width;
    }

    fn scalar(&mut self, text: &str, indent: usize) {
        let analysis = analyse(text);
        if analysis.plain {
            self.folded(text, indent, "", |text| text.to_owned());
        } else if analysis.single {
            self.put("'");
            self.folded(text, indent, "'", |text| text.replace('\'', "''"));
            self.put("'");
        } else {
            self.double(text, indent);
        }
    }

    /// Plain and single quoted text: folded at single spaces, every line feed doubled.
    fn folded(&mut self, text: &str, indent: usize, quote: &str, escape: impl Fn(&str) -> String) {
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let start = at;
            if chars[at] == ' ' {
                while at < chars.len() && chars[at] == ' ' {
                    at += 1;
                }
                let inside = quote.is_empty() || (start != 0 && at != chars.len());
                if at - start == 1 && self.column > self.layout.width && inside {
                    self.line(indent);
                } else {
                    self.put(&" ".repeat(at - start));
                }
            } else if chars[at] == '\n' {
                while at < chars.len() && chars[at] == '\n' {
                    at += 1;
                }
                self.out.push('\n');
                for _ in start..at {
                    self.out.push('\n');
                }
                self.column = 0;
                self.put(&" ".repeat(indent));
            } else {
                while at < chars.len() && chars[at] != ' ' && chars[at] != '\n' {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                self.put(&escape(&word));
            }
        }
    }

    fn double(&mut self, text: &str, indent: usize) {
        self.put("\"");
        let chars: Vec<char> = text.chars().collect();
        let mut start = 0;
        for end in 0..=chars.len() {
            let c = chars.get(end).copied();
            if c.is_none_or(|c| !is_bare_in_double(c)) {
                if start < end {
                    let run: String = chars[start..end].iter().collect();
                    self.put(&run);
                    start = end;
                }
                if let Some(c) = c {
                    self.put(&escape(c));
                    start = end + 1;
                }
            }
            let breakable = c == Some(' ') || start >= end;
            let pending = end.saturating_sub(start);
            if 0 < end && end + 1 < chars.len() && breakable && self.column + pending > self.layout.width {
                let run: String = chars[start.min(end)..end].iter().collect();
                self.put(&run);
                self.put("\\");
                start = start.max(end);
                self.line(indent);
                if chars[start] == ' ' {
                    self.put("\\");
                }
            }
        }
        self.put("\"");
    }
}

fn is_bare_in_double(c: char) -> bool {
    (' '..='~').contains(&c) && c != '"' && c != '\\'
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        other => {
            let code = other as u32;
            let mut text = String::new();
            let _ = match code {
                0..=0xff => write!(text, "\\x{code:02X}"),
                0x100..=0xffff => write!(text, "\\u{code:04X}"),
                _ => write!(text, "\\U{code:08X}"),
            };
            return text;
        }
    };
    format!("\\{short}")
}

struct Analysis {
    plain: bool,
    single: bool,
}

/// Which styles may show a text so that it reads back as the same text.
fn analyse(text: &str) -> Analysis {
    if text.is_empty() {
        return Analysis { plain: false, single: true };
    }
    let chars: Vec<char> = text.chars().collect();
    let special = chars.iter().any(|c| !matches!(c, '\n' | ' '..='~'));
    let breaks = text.contains('\n');
    let space_break = text.contains(" \n");
    let leading = matches!(chars[0], ' ' | '\n');
    let trailing = matches!(chars[chars.len() - 1], ' ' | '\n');
    let spaced = |index: usize| chars.get(index).is_none_or(|c| matches!(c, ' ' | '\n' | '\t' | '\r'));
    let mut indicator = text.starts_with("---") || text.starts_with("...");
    for (index, c) in chars.iter().enumerate() {
        indicator |= match c {
            '#' if index > 0 => spaced(index - 1),
            ':' => spaced(index + 1),
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                index == 0
            }
            '?' | '-' if index == 0 => spaced(1),
            _ => false,
        };
    }
    Analysis {
        plain: !(special || breaks || leading || trailing || indicator) && reads_as_text(text),
        single: !special && !space_break,
    }
}

/// Whether YAML 1.1's resolver leaves a plain text a text.
fn reads_as_text(text: &str) -> bool {
    let words = [
        "yes", "Yes", "YES", "no", "No", "NO", "true", "True", "TRUE", "false", "False", "FALSE", "on", "On", "ON",
        "off", "Off", "OFF", "~", "null", "Null", "NULL", "<<", "=",
    ];
    !(words.contains(&text) || is_integer(text) || is_float(text) || is_timestamp(text))
}

fn is_integer(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let all = |text: &str, good: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| b == b'_' || good(&b));
    if let Some(bits) = body.strip_prefix("0b") {
        return all(bits, |b| matches!(b, b'0' | b'1'));
    }
    if let Some(hex) = body.strip_prefix("0x") {
        return all(hex, u8::is_ascii_hexdigit);
    }
    if body == "0" || body.strip_prefix('0').is_some_and(|octal| all(octal, |b| matches!(b, b'0'..=b'7'))) {
        return true;
    }
    if !body.starts_with(|c: char| matches!(c, '1'..='9')) {
        return false;
    }
    let mut parts = body.split(':');
    all(parts.next().unwrap_or(""), u8::is_ascii_digit) && parts.all(is_sixtieth)
}

fn is_sixtieth(part: &str) -> bool {
    match part.as_bytes() {
        [digit] => digit.is_ascii_digit(),
        [tens, digit] => matches!(tens, b'0'..=b'5') && digit.is_ascii_digit(),
        _ => false,
    }
}

fn is_float(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if [".inf", ".Inf", ".INF"].contains(&body) || [".nan", ".NaN", ".NAN"].contains(&text) {
        return true;
    }
    let Some((whole, rest)) = body.split_once('.') else { return false };
    let digits = |text: &str| text.bytes().all(|b| b == b'_' || b.is_ascii_digit());
    if whole.contains(':') {
        let mut parts = whole.split(':');
        let first = parts.next().unwrap_or("");
        return first.starts_with(|c: char| c.is_ascii_digit())
            && digits(first)
            && parts.all(is_sixtieth)
            && digits(rest);
    }
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let exponent = exponent.is_none_or(|text| {
        text.strip_prefix(['-', '+']).is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
    });
    let start = if whole.is_empty() { fraction } else { whole };
    let started = start.starts_with(|c: char| c.is_ascii_digit() || (whole.is_empty() && c == '_'));
    started && digits(whole) && digits(fraction) && exponent && !(whole.is_empty() && body.len() != text.len())
}

fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    if bytes.len() == 10 {
        return digits(0..4) && bytes[4] == b'-' && digits(5..7) && bytes[7] == b'-' && digits(8..10);
    }
    let Some(at) = text.find(['T', 't', ' ', '\t']) else { return false };
    let (date, time) = text.split_at(at);
    let short = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let dated = match date.split('-').collect::<Vec<_>>()[..] {
        [year, month, day] => year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()) && short(month) && short(day),
        _ => false,
    };
    dated && is_clock(time.trim_start_matches(['T', 't', ' ', '\t']))
}

/// `H:MM:SS[.f][ ][Z|+H[:MM]]`.
fn is_clock(text: &str) -> bool {
    let (clock, zone) = match text.find(['Z', '+', '-', ' ', '\t']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut parts = clock.splitn(3, ':');
    let number = |part: Option<&str>, len: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|part| len.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
    };
    if !number(parts.next(), 1..=2) || !number(parts.next(), 2..=2) {
        return false;
    }
    let (seconds, fraction) = match parts.next().map(|part| part.split_once('.').unwrap_or((part, ""))) {
        Some(pair) => pair,
        None => return false,
    };
    let zone = zone.trim_start_matches([' ', '\t']);
    let zoned = zone.is_empty()
        || zone == "Z"
        || zone.strip_prefix(['+', '-']).is_some_and(|zone| match zone.split_once(':') {
            Some((hours, minutes)) => number(Some(hours), 1..=2) && number(Some(minutes), 2..=2),
            None => number(Some(zone), 1..=2),
        });
    number(Some(seconds), 2..=2) && fraction.bytes().all(|b| b.is_ascii_digit()) && zoned
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_have_the_layout_of_the_recordings() {
        let value = json!({"result": {"list": [1, 2.5, null, true], "n": {}, "s": ""}, "log": [{"t": "2026-11-23T01:45:42.216569Z", "a": "x"}]});
        let expected = "log:\n-   a: x\n    t: '2026-11-23T01:45:42.216569Z'\nresult:\n    list:\n    - 1\n    - 2.5\n    - null\n    - true\n    n: {}\n    s: ''\n";
        assert_eq!(dump(&value, DOCUMENT), expected);
    }

    #[test]
    fn texts_are_quoted_where_they_would_read_as_something_else() {
        for (text, expected) in [
            ("plain", "a: plain\n"),
            ("yes", "a: 'yes'\n"),
            ("1", "a: '1'\n"),
            ("1_000", "a: '1_000'\n"),
            ("12:30:45", "a: '12:30:45'\n"),
            ("0o7", "a: 0o7\n"),
            ("1.5", "a: '1.5'\n"),
            ("1e5", "a: 1e5\n"),
            ("2026-01-01", "a: '2026-01-01'\n"),
            ("a: b", "a: 'a: b'\n"),
            ("- x", "a: '- x'\n"),
            ("-x", "a: -x\n"),
            ("it's", "a: it's\n"),
            ("a\nb\n", "a: 'a\n\n  b\n\n  '\n"),
            ("h\u{e9}", "a: \"h\\xE9\"\n"),
            ("tab\there", "a: \"tab\\there\"\n"),
            ("x \ny", "a: \"x \\ny\"\n"),
            ("", "a: ''\n"),
        ] {
            assert_eq!(dump(&json!({ "a": text }), EMBEDDED), expected, "{text:?}");
        }
    }
}
