//! Tokens of a path.

use super::PathError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A bare or quoted name.
    Name(String),
    /// Between backquotes: `this`, `parent`.
    Operator(String),
    Number(i64),
    Where,
    DoubleDot,
    /// One of `* . [ ] ( ) $ , : | &`.
    Sign(char),
}

pub(super) fn tokens(path: &str) -> Result<Vec<Token>, PathError> {
    let chars: Vec<char> = path.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        match c {
            ' ' | '\t' | '\n' => at += 1,
            '.' if chars.get(at + 1) == Some(&'.') => {
                tokens.push(Token::DoubleDot);
                at += 2;
            }
            '*' | '.' | '[' | ']' | '(' | ')' | '$' | ',' | ':' | '|' | '&' => {
                tokens.push(Token::Sign(c));
                at += 1;
            }
            '\'' | '"' | '`' => {
                let (text, end) = quoted(&chars, at)?;
                tokens.push(if c == '`' { Token::Operator(text) } else { Token::Name(text) });
                at = end;
            }
            '-' | '0'..='9' => {
                let end = run(&chars, at + 1, |c| c.is_ascii_digit());
                let text: String = chars[at..end].iter().collect();
                let number = text.parse().map_err(|_| unexpected(path, c))?;
                tokens.push(Token::Number(number));
                at = end;
            }
            c if is_name_start(c) => {
                let end = run(&chars, at, |c| is_name_start(c) || c.is_ascii_digit() || c == '-');
                let word: String = chars[at..end].iter().collect();
                tokens.push(if word == "where" { Token::Where } else { Token::Name(word) });
                at = end;
            }
            other => return Err(unexpected(path, other)),
        }
    }
    Ok(tokens)
}

const fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '@'
}

fn run(chars: &[char], from: usize, takes: impl Fn(char) -> bool) -> usize {
    from + chars[from..].iter().take_while(|c| takes(**c)).count()
}

fn quoted(chars: &[char], start: usize) -> Result<(String, usize), PathError> {
    let quote = chars[start];
    let mut text = String::new();
    let mut at = start + 1;
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => {
                text.extend(chars.get(at + 1));
                at += 2;
            }
            c if c == quote => return Ok((text, at + 1)),
            c => {
                text.push(c);
                at += 1;
            }
        }
    }
    Err(PathError(format!("Unexpected EOF in string literal or identifier at column {start}")))
}

fn unexpected(path: &str, c: char) -> PathError {
    PathError(format!("Unexpected character: {c} in {path}"))
}
