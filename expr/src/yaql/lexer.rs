//! Tokens of YAQL (spec/orquesta.md §26.1).

use std::sync::Arc;

use crate::workflow::Fault;

/// One token and where it starts, in characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    True,
    False,
    Null,
    /// A bare word, which stands for itself as a text.
    Word(Arc<str>),
    /// A word with its `(`.
    Call(Arc<str>),
    /// `$name`, without the dollar.
    Variable(Arc<str>),
    /// Operators, words among them, and brackets.
    Symbol(&'static str),
}

const SYMBOLS: [&str; 24] = [
    "?.", "=~", "!~", ">=", "<=", "!=", "->", "=>", ".", "[", "]", "{", "}", "(", ")", ",", "+", "-", "*", "/", ">",
    "<", "=", "\u{0}",
];
const WORDS: [&str; 5] = ["and", "or", "not", "in", "mod"];

impl Token {
    /// As error messages show it.
    pub(super) fn shown(&self) -> String {
        match &self.kind {
            Kind::Int(number) => number.to_string(),
            Kind::Float(number) => model::python::float_repr(*number),
            Kind::Text(text) | Kind::Word(text) | Kind::Call(text) => text.to_string(),
            Kind::True => "True".to_owned(),
            Kind::False => "False".to_owned(),
            Kind::Null => "None".to_owned(),
            Kind::Variable(name) => format!("${name}"),
            Kind::Symbol(symbol) => (*symbol).to_owned(),
        }
    }
}

fn illegal(c: char, at: usize) -> Fault {
    Fault::new("YaqlLexicalException", format!("Lexical error: illegal character '{c}' at position {at}"))
}

/// The tokens of a text, up to the first that is none, and what is wrong with that one: the parser may find a mistake
/// before it gets there.
pub(super) fn tokens(text: &str) -> (Vec<Token>, Option<Fault>) {
    let mut tokens = Vec::new();
    let wrong = scan(text, &mut tokens).err();
    (tokens, wrong)
}

fn scan(text: &str, tokens: &mut Vec<Token>) -> Result<(), Fault> {
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            at += 1;
            continue;
        }
        let (kind, end) = match c {
            '0'..='9' => number(&chars, at)?,
            '\'' | '"' | '`' => quoted(&chars, at)?,
            '$' => {
                let end = word_end(&chars, at + 1);
                (Kind::Variable(chars[at + 1..end].iter().collect::<String>().into()), end)
            }
            _ if c.is_alphabetic() || c == '_' => word(&chars, at)?,
            _ => symbol(&chars, at)?,
        };
        tokens.push(Token { kind, at });
        at = end;
    }
    Ok(())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_end(chars: &[char], from: usize) -> usize {
    from + chars[from..].iter().take_while(|c| is_word(**c)).count()
}

fn number(chars: &[char], at: usize) -> Result<(Kind, usize), Fault> {
    let digits = |from: usize| from + chars[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let mut end = digits(at);
    let mut is_float = false;
    if chars.get(end) == Some(&'.') && chars.get(end + 1).is_some_and(char::is_ascii_digit) {
        end = digits(end + 1);
        is_float = true;
    }
    // A number ends at a word's boundary.
    let glued_before = at > 0 && is_word(chars[at - 1]);
    if glued_before || chars.get(end).is_some_and(|c| is_word(*c)) {
        return Err(illegal(chars[at], at));
    }
    let text: String = chars[at..end].iter().collect();
    if is_float {
        return text.parse().map(|number| (Kind::Float(number), end)).map_err(|_| illegal(chars[at], at));
    }
    match text.parse() {
        Ok(number) => Ok((Kind::Int(number), end)),
        Err(_) => Err(Fault::limit("an integer is too large")),
    }
}

fn word(chars: &[char], at: usize) -> Result<(Kind, usize), Fault> {
    let end = word_end(chars, at);
    let text: String = chars[at..end].iter().collect();
    if text.starts_with("__") {
        return Err(illegal('_', at));
    }
    if let Some(operator) = WORDS.into_iter().find(|word| *word == text) {
        return Ok((Kind::Symbol(operator), end));
    }
    if chars.get(end) == Some(&'(') {
        return Ok((Kind::Call(text.into()), end + 1));
    }
    let kind = match text.as_str() {
        "true" => Kind::True,
        "false" => Kind::False,
        "null" => Kind::Null,
        _ => Kind::Word(text.into()),
    };
    Ok((kind, end))
}

fn symbol(chars: &[char], at: usize) -> Result<(Kind, usize), Fault> {
    let matches = |symbol: &&str| symbol.chars().enumerate().all(|(offset, c)| chars.get(at + offset) == Some(&c));
    match SYMBOLS.into_iter().find(matches) {
        Some(symbol) if symbol != "\u{0}" => Ok((Kind::Symbol(symbol), at + symbol.chars().count())),
        _ => Err(illegal(chars[at], at)),
    }
}

/// `'…'` and `"…"` with escapes, `` `…` `` without.
fn quoted(chars: &[char], at: usize) -> Result<(Kind, usize), Fault> {
    let quote = chars[at];
    let mut text = String::new();
    let mut next = at + 1;
    loop {
        let c = *chars.get(next).ok_or_else(|| illegal(quote, at))?;
        next += 1;
        if c == quote {
            return Ok((Kind::Text(text.into()), next));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let escaped = *chars.get(next).ok_or_else(|| illegal(quote, at))?;
        next += 1;
        if quote == '`' {
            if escaped != '`' {
                text.push('\\');
            }
            text.push(escaped);
            continue;
        }
        next = escape(chars, escaped, next, &mut text);
    }
}

/// Adds what a backslash and `escaped` stand for; gives where the text goes on.
fn escape(chars: &[char], escaped: char, next: usize, text: &mut String) -> usize {
    let simple = match escaped {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        '\\' | '\'' | '"' => escaped,
        _ => '\0',
    };
    if simple != '\0' {
        text.push(simple);
        return next;
    }
    let (digits, radix, from) = match escaped {
        'x' => (2, 16, next),
        'u' => (4, 16, next),
        'U' => (8, 16, next),
        '0'..='7' => (3, 8, next - 1),
        _ => (0, 10, next),
    };
    let run: String = chars[from..].iter().take(digits).take_while(|c| c.is_digit(radix)).collect();
    let complete = if radix == 8 { !run.is_empty() } else { digits > 0 && run.len() == digits };
    match u32::from_str_radix(&run, radix).ok().filter(|_| complete).and_then(char::from_u32) {
        Some(c) => {
            text.push(c);
            from + run.len()
        }
        None => {
            text.push('\\');
            text.push(escaped);
            next
        }
    }
}
