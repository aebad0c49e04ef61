//! What the inspection of a definition asks: mistakes in expressions, and the variables they read.

use std::sync::LazyLock;

use fancy_regex::Regex;
use serde_json::Value;

use super::text::{self, Language};
use super::{Fault, template};

/// A mistake in an expression (spec/orquesta.md §22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// `None` when one text mixes both languages.
    pub language: Option<Language>,
    pub expression: String,
    pub message: String,
}

/// A variable of the context that an expression reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable {
    pub language: Language,
    /// The whole text that the expression stands in.
    pub expression: String,
    pub name: String,
}

/// Mistakes in all expressions inside a value.
pub fn validate(value: &Value) -> Vec<Invalid> {
    let mut found = Vec::new();
    each_text(value, &mut |text| validate_text(text, &mut found));
    found
}

/// Variables that the expressions inside a value read, sorted, each once.
pub fn variables(value: &Value) -> Vec<Variable> {
    let mut found = Vec::new();
    each_text(value, &mut |text| text_variables(text, &mut found));
    found.sort();
    found.dedup();
    found
}

fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, visit)),
        Value::Object(fields) => {
            for (name, field) in fields {
                visit(name);
                each_text(field, visit);
            }
        }
        _ => {}
    }
}

fn validate_text(text: &str, found: &mut Vec<Invalid>) {
    let yaql = text::yaql_pieces(text);
    let inline = text::inline_pieces(text);
    let block = text::has_block(text);
    if !yaql.is_empty() && (block || !inline.is_empty()) {
        let message = "Expression with multiple types is not supported.".to_owned();
        found.push(Invalid { language: None, expression: text.to_owned(), message });
        return;
    }
    let mut add = |language, expression: &str, fault| {
        let message = match fault {
            Fault::Raised { text, .. } => text,
            other => other.to_string(),
        };
        found.push(Invalid { language: Some(language), expression: expression.to_owned(), message });
    };
    for piece in yaql {
        if let Err(fault) = crate::yaql::check(text::strip(piece, Language::Yaql)) {
            add(Language::Yaql, piece, fault);
        }
    }
    if block {
        if let Err(fault) = template::check(text) {
            add(Language::Jinja, text, fault);
        }
    } else {
        for piece in inline {
            if let Err(fault) = template::check(piece) {
                add(Language::Jinja, piece, fault);
            }
        }
    }
}

/// `ctx(x)`, `ctx('x')`, `ctx("x")` and `ctx().x`; Jinja needs the quotes.
/// One that stands as an index (`a[ctx(b)]`) isn't seen, as in the reference; `ctx().get(` is a call of a method.
#[expect(clippy::expect_used, reason = "constant patterns, compiled by every test")]
static READS: LazyLock<[Regex; 2]> = LazyLock::new(|| {
    [
        r#"(?<![A-Za-z0-9_.\[])ctx\((?:([A-Za-z0-9_]+)|'([A-Za-z0-9_]+)'|"([A-Za-z0-9_]+)"|\)\.([A-Za-z0-9_]+)(?![A-Za-z0-9_(]))"#,
        r#"(?<![A-Za-z0-9_.\[])ctx\((?:()'([A-Za-z0-9_]+)'|"([A-Za-z0-9_]+)"|\)\.([A-Za-z0-9_]+)(?![A-Za-z0-9_(]))"#,
    ]
    .map(|pattern| Regex::new(pattern).expect("valid"))
});

/// Names that an expression spells out after `ctx`, and how many there are.
pub(super) fn names(expression: &str, language: Language) -> Vec<&str> {
    let pattern = match language {
        Language::Yaql => &READS[0],
        Language::Jinja => &READS[1],
    };
    let mut names = Vec::new();
    for captures in pattern.captures_iter(expression).flatten() {
        let Some(group) =
            (1..captures.len()).filter_map(|at| captures.get(at)).find(|group| !group.as_str().is_empty())
        else {
            continue;
        };
        // Without `)` behind a bare or quoted name it is a longer expression.
        let dotted = captures.get(4).is_some();
        let whole = captures.get(0).map_or(0, |whole| whole.end());
        if dotted || expression[whole..].starts_with(')') {
            names.push(group.as_str());
        }
    }
    names
}

fn text_variables(text: &str, found: &mut Vec<Variable>) {
    let mut add = |language, pieces: Vec<&str>| {
        for piece in pieces {
            for name in names(piece, language) {
                found.push(Variable { language, expression: text.to_owned(), name: name.to_owned() });
            }
        }
    };
    match text::language(text) {
        Some(Language::Jinja) => add(Language::Jinja, text::inline_pieces(text)),
        Some(Language::Yaql) => add(Language::Yaql, text::yaql_pieces(text)),
        None => {}
    }
}
