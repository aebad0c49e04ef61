//! Python literals (`ast.literal_eval`) and numbers (`int()`, `float()`) in text.

use serde_json::{Map, Number, Value};

/// Deepest nesting that is taken.
const MAX_DEPTH: usize = 64;

/// `int(text, base)`: blanks around, a sign, single underscores between digits, a prefix only with its base.
pub(crate) fn python_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixed = |prefix: &str| lower.strip_prefix(prefix).map(str::to_owned);
    let (base, digits) = match base {
        16 => (16, prefixed("0x").unwrap_or(lower)),
        8 => (8, prefixed("0o").unwrap_or(lower)),
        2 => (2, prefixed("0b").unwrap_or(lower)),
        0 => [("0x", 16), ("0o", 8), ("0b", 2)]
            .into_iter()
            .find_map(|(prefix, base)| prefixed(prefix).map(|rest| (base, rest)))
            .unwrap_or((10, lower.clone())),
        3..=36 => (base, lower),
        _ => return None,
    };
    let magnitude = i128::from_str_radix(&plain_digits(&digits)?, base).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// Digits without their underscores, which may stand only between digits.
fn plain_digits(text: &str) -> Option<String> {
    let well_placed = !text.is_empty() && !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    (well_placed && text.starts_with(|c: char| c.is_ascii_alphanumeric())).then(|| text.replace('_', ""))
}

/// `float(text)`.
pub(crate) fn python_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let between = |at: usize| {
        let bytes = text.as_bytes();
        at > 0 && bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    if text.match_indices('_').any(|(at, _)| !between(at)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// `ast.literal_eval` as far as its values exist in JSON: tuples become lists, keys their text.
pub(super) fn parse_literal(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    let parsed = parser.tuple_or_value().filter(|_| parser.rest.is_empty());
    match parsed {
        Some(value) => Ok(value),
        None if text.trim().is_empty() => Err("invalid syntax (<unknown>, line 0)".to_owned()),
        None => Err(format!("malformed node or string: {text}")),
    }
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, sign: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                self.skip();
                true
            }
            None => false,
        }
    }

    /// A value; several with commas are a tuple even without parentheses.
    fn tuple_or_value(&mut self) -> Option<Value> {
        let first = self.value()?;
        if !self.take(',') {
            return Some(first);
        }
        let mut items = vec![first];
        while !self.rest.is_empty() {
            items.push(self.value()?);
            if !self.take(',') {
                break;
            }
        }
        Some(Value::Array(items))
    }

    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        self.skip();
        let value = match self.rest.chars().next()? {
            '[' => self.items('[', ']').map(|(items, _)| Value::Array(items)),
            '(' => self.parenthesis(),
            '{' => self.braces(),
            '\'' | '"' => self.strings().map(Value::String),
            '-' | '+' | '.' | '0'..='9' => self.number(),
            _ => self.word(),
        };
        self.depth -= 1;
        self.skip();
        value
    }

    /// Elements up to the closing sign, and whether a comma was seen.
    fn items(&mut self, open: char, close: char) -> Option<(Vec<Value>, bool)> {
        self.take(open);
        let (mut items, mut comma) = (Vec::new(), false);
        loop {
            if self.take(close) {
                return Some((items, comma));
            }
            items.push(self.value()?);
            if self.take(',') {
                comma = true;
            } else if !self.rest.starts_with(close) {
                return None;
            }
        }
    }

    fn parenthesis(&mut self) -> Option<Value> {
        let (mut items, comma) = self.items('(', ')')?;
        if items.len() == 1 && !comma { items.pop() } else { Some(Value::Array(items)) }
    }

    /// A dictionary, or a set (which becomes a list).
    fn braces(&mut self) -> Option<Value> {
        let before = self.rest;
        self.take('{');
        let mut fields = Map::new();
        loop {
            if self.take('}') {
                return Some(Value::Object(fields));
            }
            let key = self.value()?;
            if !self.take(':') {
                self.rest = before;
                return if fields.is_empty() {
                    self.items('{', '}').map(|(items, _)| Value::Array(items))
                } else {
                    None
                };
            }
            let name = match key {
                Value::String(name) => name,
                Value::Array(_) | Value::Object(_) => return None,
                Value::Null => "null".to_owned(),
                other => other.to_string(),
            };
            fields.insert(name, self.value()?);
            if !self.take(',') && !self.rest.starts_with('}') {
                return None;
            }
        }
    }

    /// Adjacent texts are one.
    fn strings(&mut self) -> Option<String> {
        let mut text = String::new();
        while self.rest.starts_with(['\'', '"']) {
            text.push_str(&self.string()?);
            self.skip();
        }
        Some(text)
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let triple: String = std::iter::repeat_n(quote, 3).collect();
        let end = if self.rest.starts_with(&triple) { triple } else { quote.to_string() };
        self.rest = &self.rest[end.len()..];
        let mut text = String::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix(end.as_str()) {
                self.rest = rest;
                return Some(text);
            }
            let c = self.rest.chars().next()?;
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '\\' => self.escape(&mut text)?,
                '\n' if end.len() == 1 => return None,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => text.push(c),
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            'x' => text.push(self.code(2)?),
            'u' => text.push(self.code(4)?),
            'U' => text.push(self.code(8)?),
            '0'..='7' => {
                let more = self.rest.chars().take(2).take_while(|c| matches!(c, '0'..='7')).count();
                let digits = format!("{c}{}", &self.rest[..more]);
                self.rest = &self.rest[more..];
                text.push(char::from_u32(u32::from_str_radix(&digits, 8).ok()?)?);
            }
            other => {
                text.push('\\');
                text.push(other);
            }
        }
        Some(())
    }

    fn code(&mut self, length: usize) -> Option<char> {
        let digits = self.rest.get(..length)?;
        self.rest = &self.rest[length..];
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    fn number(&mut self) -> Option<Value> {
        let signed = self.rest.starts_with(['-', '+']);
        let body = &self.rest[usize::from(signed)..];
        let mut length = 0;
        let bytes = body.as_bytes();
        while let Some(c) = bytes.get(length) {
            let exponent_sign = matches!(c, b'+' | b'-')
                && length > 0
                && matches!(bytes[length - 1], b'e' | b'E')
                && !body.starts_with("0x");
            if !(c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_') || exponent_sign) {
                break;
            }
            length += 1;
        }
        let (text, rest) = self.rest.split_at(length + usize::from(signed));
        self.rest = rest;
        if let Some(integer) = python_int(text, 0) {
            let leading_zero =
                body.starts_with('0') && integer != 0 && body[..length].bytes().all(|c| c.is_ascii_digit());
            if leading_zero {
                return None;
            }
            return i64::try_from(integer).map(Value::from).or_else(|_| u64::try_from(integer).map(Value::from)).ok();
        }
        let looks_float = body.starts_with(|c: char| c == '.' || c.is_ascii_digit());
        python_float(text).filter(|_| looks_float).and_then(Number::from_f64).map(Value::Number)
    }

    fn word(&mut self) -> Option<Value> {
        let length = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        match word {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            _ => None,
        }
    }
}
