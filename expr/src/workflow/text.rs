//! Finding expressions in texts, and putting their values back.

use std::cell::Cell;
use std::sync::LazyLock;

use fancy_regex::Regex;
use serde_json::Value;

use super::{EvalError, Fault, Scope, template};
use crate::yaql;

/// Evaluations of string results within each other.
const MAX_DEPTH: usize = 20;
/// Texts evaluated for one, results that hold expressions among them.
const MAX_TEXTS: usize = 500;
/// Bytes of the longest text that comes out.
const MAX_TEXT: usize = 16 << 20;

/// The language of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    Jinja,
    Yaql,
}

impl Language {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jinja => "jinja",
            Self::Yaql => "yaql",
        }
    }

    pub(super) const fn error_class(self) -> &'static str {
        match self {
            Self::Jinja => "JinjaEvaluationException",
            Self::Yaql => "YaqlEvaluationException",
        }
    }
}

/// Each ends at its first closing delimiter and spans no line break.
#[expect(clippy::expect_used, reason = "constant patterns, compiled by every test")]
static PATTERNS: LazyLock<[Regex; 3]> =
    LazyLock::new(|| [r"<%.*?%>", r"\{\{.*?\}\}", r"\{%.*?%\}"].map(|pattern| Regex::new(pattern).expect("valid")));
#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static RAW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)\{%-?\s*raw\s*-?%\}(.*?)\{%-?\s*endraw\s*-?%\}").expect("valid"));

fn pieces<'t>(pattern: &Regex, text: &'t str) -> Vec<&'t str> {
    let mut found: Vec<&str> = Vec::new();
    for piece in pattern.find_iter(text).flatten() {
        if !found.contains(&piece.as_str()) {
            found.push(piece.as_str());
        }
    }
    found
}

pub(super) fn yaql_pieces(text: &str) -> Vec<&str> {
    if text.contains("<%") { pieces(&PATTERNS[0], text) } else { Vec::new() }
}

pub(super) fn inline_pieces(text: &str) -> Vec<&str> {
    if text.contains("{{") { pieces(&PATTERNS[1], text) } else { Vec::new() }
}

pub(super) fn has_block(text: &str) -> bool {
    text.contains("{%") && PATTERNS[2].is_match(text).unwrap_or(false)
}

/// Which language evaluates a text; Jinja if it holds both.
pub(super) fn language(text: &str) -> Option<Language> {
    if !inline_pieces(text).is_empty() || has_block(text) {
        return Some(Language::Jinja);
    }
    (!yaql_pieces(text).is_empty()).then_some(Language::Yaql)
}

/// Whether a text holds an expression of either language.
pub fn is_expression(text: &str) -> bool {
    language(text).is_some()
}

/// The inside of an expression: any run of the delimiters' characters and then blanks fall off at both ends.
pub(super) fn strip(piece: &str, language: Language) -> &str {
    let delimiters: &[char] = match language {
        Language::Yaql => &['<', '%', '>'],
        Language::Jinja => &['{', '}'],
    };
    piece.trim_matches(delimiters).trim()
}

/// The value of a text, and whether an array in it is a list in the reference's eyes.
pub(super) fn evaluate(text: &str, scope: &Scope<'_>) -> Result<(Value, bool), EvalError> {
    match language(text) {
        None => Ok((Value::String(text.to_owned()), true)),
        Some(Language::Yaql) => yaql_text(text, scope, 0, &Cell::new(0)),
        Some(Language::Jinja) => jinja_text(text, scope, 0, &Cell::new(0)),
    }
}

fn too_deep(depth: usize, done: &Cell<usize>, language: Language, text: &str) -> Result<(), EvalError> {
    done.set(done.get() + 1);
    if depth < MAX_DEPTH && done.get() <= MAX_TEXTS {
        return Ok(());
    }
    Err(worded(Fault::new("RecursionError", "maximum recursion depth exceeded"), language, text))
}

fn yaql_text(text: &str, scope: &Scope<'_>, depth: usize, done: &Cell<usize>) -> Result<(Value, bool), EvalError> {
    let pieces = yaql_pieces(text);
    if pieces.is_empty() {
        return Ok((Value::String(text.to_owned()), true));
    }
    too_deep(depth, done, Language::Yaql, text)?;
    let mut out = text.to_owned();
    for piece in &pieces {
        let result = yaql::evaluate(strip(piece, Language::Yaql), scope, text != *piece);
        let mut result = result.map_err(|fault| worded(fault, Language::Yaql, piece))?;
        if let Value::String(inner) = &result.value {
            let (value, is_list) = yaql_text(inner, scope, depth + 1, done)?;
            result = yaql::Outcome { text: super::plain_text(value.clone()), value, is_list };
        }
        if text == *piece {
            return Ok((result.value, result.is_list));
        }
        out = replaced(&out, piece, &result.text, Language::Yaql)?;
    }
    Ok((Value::String(out), true))
}

fn jinja_text(text: &str, scope: &Scope<'_>, depth: usize, done: &Cell<usize>) -> Result<(Value, bool), EvalError> {
    if inline_pieces(text).is_empty() && !has_block(text) {
        return Ok((Value::String(text.to_owned()), true));
    }
    too_deep(depth, done, Language::Jinja, text)?;
    let (mut out, raws) = cut_raw(text);
    if has_block(&out) {
        let rendered = template::block(&out, scope).map_err(|fault| worded(fault, Language::Jinja, &out))?;
        out = rendered;
    }
    let whole = out.clone();
    for piece in inline_pieces(&whole) {
        let inner = strip(piece, Language::Jinja);
        let result = template::inline(inner, scope).map_err(|fault| worded(fault, Language::Jinja, piece))?;
        let (value, is_list) = match result.value {
            Value::String(text) => jinja_text(&text, scope, depth + 1, done)?,
            other => (other, result.is_list),
        };
        if whole == *piece && raws.is_empty() {
            return Ok((value, is_list));
        }
        out = replaced(&out, piece, &super::plain_text(value), Language::Jinja)?;
    }
    if !raws.is_empty() {
        out = restore_raw(&out, &raws);
        out = template::raw(&out, scope).map_err(|fault| worded(fault, Language::Jinja, &out))?;
    }
    Ok((Value::String(out), true))
}

/// Raw sections are put aside while the rest is evaluated.
fn cut_raw(text: &str) -> (String, Vec<String>) {
    if !text.contains("{%") {
        return (text.to_owned(), Vec::new());
    }
    let mut raws = Vec::new();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for found in RAW.find_iter(text).flatten() {
        out.push_str(&text[copied..found.start()]);
        out.push_str(&mark(raws.len()));
        raws.push(found.as_str().to_owned());
        copied = found.end();
    }
    out.push_str(&text[copied..]);
    (out, raws)
}

/// Private-use characters, which no template means anything by.
fn mark(index: usize) -> String {
    format!("\u{f8f1}{index}\u{f8f2}")
}

fn restore_raw(text: &str, raws: &[String]) -> String {
    raws.iter().enumerate().fold(text.to_owned(), |text, (index, raw)| text.replace(&mark(index), raw))
}

fn replaced(text: &str, piece: &str, value: &str, language: Language) -> Result<String, EvalError> {
    let growth = text.matches(piece).count().saturating_mul(value.len());
    if text.len().saturating_add(growth) > MAX_TEXT {
        return Err(worded(Fault::limit("the text is too long"), language, piece));
    }
    Ok(text.replace(piece, value))
}

/// The reference's words (spec/orquesta.md §21).
pub(super) fn worded(fault: Fault, language: Language, expression: &str) -> EvalError {
    let message = match fault {
        Fault::NeedsKeys(keys) => return EvalError::NeedsKeys(keys),
        Fault::Key(key) => format!("Unable to resolve key '{key}' in expression '{expression}' from context."),
        Fault::Unresolved(names) => format!("There are unresolved variables: {names}"),
        Fault::Raised { class, text } => {
            // The reference strips quotes in YAQL's case only.
            let text = if language == Language::Yaql { text.trim_matches('\'') } else { text.as_str() };
            format!("Unable to evaluate expression '{expression}'. {class}: {text}")
        }
    };
    EvalError::Failed { class: language.error_class(), message }
}
