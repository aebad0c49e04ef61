//! Reads a Python or JSON literal out of a text: actions print both.

use serde_json::{Map, Number, Value};

/// The value that a text spells, if the whole text spells one.
pub fn parse(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut reader = Reader { chars: text.chars().collect(), at: 0, depth: 0 };
    let value = reader.value()?;
    reader.space();
    (reader.at == reader.chars.len()).then_some(value)
}

/// Deeper nesting isn't read.
const DEEPEST: usize = 100;

struct Reader {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn space(&mut self) {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let there = self.chars.get(self.at) == Some(&c);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self) -> Option<Value> {
        self.space();
        match self.chars.get(self.at)? {
            '{' => self.nested(Reader::object),
            '[' => self.nested(|reader| reader.items(']')),
            '(' => self.nested(|reader| reader.items(')')),
            '\'' | '"' => self.string().map(Value::String),
            'u' | 'b' if matches!(self.chars.get(self.at + 1), Some('\'' | '"')) => {
                self.at += 1;
                self.string().map(Value::String)
            }
            _ => self.word(),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Reader) -> Option<Value>) -> Option<Value> {
        if self.depth == DEEPEST {
            return None;
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn items(&mut self, close: char) -> Option<Value> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.value()?);
            if !self.eat(',') {
                return self.eat(close).then_some(Value::Array(items));
            }
        }
        Some(Value::Array(items))
    }

    fn object(&mut self) -> Option<Value> {
        let mut map = Map::new();
        while !self.eat('}') {
            let key = super::python::text(&self.value()?);
            if !self.eat(':') {
                return None;
            }
            map.insert(key, self.value()?);
            if !self.eat(',') {
                return self.eat('}').then_some(Value::Object(map));
            }
        }
        Some(Value::Object(map))
    }

    fn string(&mut self) -> Option<String> {
        let quote = *self.chars.get(self.at)?;
        self.at += 1;
        let mut out = String::new();
        loop {
            let c = *self.chars.get(self.at)?;
            self.at += 1;
            match c {
                c if c == quote => return Some(out),
                '\\' => out.push(self.escape()?),
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let c = *self.chars.get(self.at)?;
        self.at += 1;
        let digits = match c {
            'n' => return Some('\n'),
            't' => return Some('\t'),
            'r' => return Some('\r'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            c => return Some(c),
        };
        let hex: String = self.chars.get(self.at..self.at + digits)?.iter().collect();
        self.at += digits;
        char::from_u32(u32::from_str_radix(&hex, 16).ok()?)
    }

    fn word(&mut self) -> Option<Value> {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|c| c.is_alphanumeric() || "+-._".contains(*c)) {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        match word.as_str() {
            "None" | "null" => Some(Value::Null),
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            word => {
                let whole = word.parse::<i64>().ok().map(Value::from);
                whole.or_else(|| word.parse().ok().and_then(Number::from_f64).map(Value::Number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_notations_are_read() {
        assert_eq!(
            parse("{'a': 1, 'b': [True, None, \"x\\n\"], 'c': (1.5,)}"),
            Some(json!({"a": 1, "b": [true, null, "x\n"], "c": [1.5]}))
        );
        assert_eq!(parse("[\"a\"]"), Some(json!(["a"])));
        assert_eq!(parse("{bad"), None);
        assert_eq!(parse(&"[".repeat(10_000)), None);
    }

    proptest! {
        #[test]
        fn what_repr_writes_is_read_back(text in "[ -~\n\t\u{e9}]{0,20}", number in any::<i32>()) {
            let value = json!({"k": [text, number, null]});
            prop_assert_eq!(parse(&super::super::python::repr(&value)), Some(value));
        }
    }
}
