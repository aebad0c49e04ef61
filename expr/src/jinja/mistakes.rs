//! Mistakes in the syntax of a template in Jinja2's words, which the inspection of workflows shows to users.

use std::fmt::Write as _;

/// What was compiled: a whole template, or the inside of `{{ }}` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source<'t> {
    Template(&'t str),
    Expression(&'t str),
}

/// The engine's message in Jinja2's words, where there are such.
pub(crate) fn reworded(message: &str, source: Source<'_>) -> Option<String> {
    if let Some(tag) = message.strip_prefix("unknown statement ") {
        return Some(format!("Encountered unknown tag '{tag}'."));
    }
    match (message, source) {
        ("unexpected end of string", _) => open_string(source),
        ("unexpected end of variable block", Source::Template(_)) => Some("unexpected 'end of print statement'".into()),
        ("unexpected end of variable block", Source::Expression(_)) => Some("unexpected 'end of template'".into()),
        ("unexpected end of block", _) => Some("Expected an expression, got 'end of statement block'".into()),
        ("unexpected end of input, expected end of block", Source::Template(text)) => open_block(text),
        _ => None,
    }
}

/// The quote that has no other, and its place in characters.
fn open_string(source: Source<'_>) -> Option<String> {
    let (text, mut inside) = match source {
        Source::Template(text) => (text, false),
        Source::Expression(text) => (text, true),
    };
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        let next = chars.get(at + 1);
        if !inside {
            inside = *c == '{' && matches!(next, Some('{' | '%'));
            at += if inside { 2 } else { 1 };
            continue;
        }
        match c {
            '\'' | '"' => match closing(&chars, at) {
                Some(end) => at = end,
                None => {
                    let shown = if *c == '\'' { "\"'\"" } else { "'\"'" };
                    return Some(format!("unexpected char {shown} at {at}"));
                }
            },
            '}' | '%' if next == Some(&'}') && matches!(source, Source::Template(_)) => {
                inside = false;
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn closing(chars: &[char], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' => at += 2,
            c if *c == chars[open] => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// Tags that go on with or close the innermost block that is still open at the end.
fn open_block(text: &str) -> Option<String> {
    let mut open: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{%") {
        let tag = rest[start + 2..].trim_start_matches(['-', '+']).trim_start();
        let end = tag.find("%}").unwrap_or(tag.len());
        let (tag, behind) = tag.split_at(end);
        rest = behind;
        let name = tag.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        match name {
            "if" => open.push(("if", vec!["elif", "else", "endif"])),
            "for" => open.push(("for", vec!["endfor", "else"])),
            "macro" => open.push(("macro", vec!["endmacro"])),
            "call" => open.push(("call", vec!["endcall"])),
            "filter" => open.push(("filter", vec!["endfilter"])),
            "block" => open.push(("block", vec!["endblock"])),
            "with" => open.push(("with", vec!["endwith"])),
            "autoescape" => open.push(("autoescape", vec!["endautoescape"])),
            "set" if !tag.contains('=') => open.push(("set", vec!["endset"])),
            "else" => {
                if let Some((_, wanted)) = open.last_mut() {
                    wanted.retain(|tag| tag.starts_with("end"));
                }
            }
            name if name.starts_with("end") => {
                open.pop();
            }
            _ => {}
        }
    }
    let (name, wanted) = open.pop()?;
    let mut tags = String::new();
    for (at, tag) in wanted.iter().enumerate() {
        let _ = write!(tags, "{}'{tag}'", if at == 0 { "" } else { " or " });
    }
    Some(format!(
        "Unexpected end of template. Jinja was looking for the following tags: {tags}. The innermost block that needs \
         to be closed is '{name}'."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_blocks_that_are_open() {
        let string = |text| reworded("unexpected end of string", Source::Template(text)).unwrap();
        assert_eq!(string("it's {{ 'a' ~ \"b }}"), "unexpected char '\"' at 14");
        let block = |text| open_block(text).unwrap();
        assert!(block("{% for a in b %}{% if a %}{% endif %}{% else %}").contains("tags: 'endfor'. The innermost"));
        assert!(block("{%- if a -%}{% set x = 1 %}").contains("'elif' or 'else' or 'endif'"));
    }
}
