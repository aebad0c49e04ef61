//! Python's `'%s' % value` in templates: the engine has no such operator for text, so it becomes a filter.

use std::borrow::Cow;

/// Rewrites `'literal' % operand` inside `{{ }}` and `{% %}` to the filter `percent_format`. The operand is one
/// postfix expression: a name, literal or parenthesis, followed by attributes, subscripts, calls and filters.
pub(crate) fn rewrite(text: &str) -> Cow<'_, str> {
    if !text.contains('%') || !text.contains(['\'', '"']) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    let mut inside = false;
    while at < bytes.len() {
        if !inside {
            let Some(open) = text[at..].find('{') else { break };
            at += open + 1;
            inside = matches!(bytes.get(at), Some(b'{' | b'%'));
            at += usize::from(inside);
            continue;
        }
        match bytes[at] {
            b'}' | b'%' if bytes.get(at + 1) == Some(&b'}') => {
                inside = false;
                at += 2;
            }
            quote @ (b'\'' | b'"') => {
                at = string_end(bytes, at, quote);
                let operator = skip_blanks(bytes, at);
                if bytes.get(operator) == Some(&b'%') && bytes.get(operator + 1) != Some(&b'}') {
                    let start = skip_blanks(bytes, operator + 1);
                    let end = operand_end(bytes, start);
                    if end > start {
                        out.push_str(&text[copied..at]);
                        out.push_str("|percent_format(");
                        out.push_str(&rewrite_inner(&text[start..end]));
                        out.push(')');
                        copied = end;
                        at = end;
                    }
                }
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Operands may hold formats themselves.
fn rewrite_inner(operand: &str) -> String {
    let wrapped = format!("{{{{{operand}}}}}");
    let rewritten = rewrite(&wrapped);
    rewritten[2..rewritten.len() - 2].to_owned()
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

fn string_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    at += 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn group_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                at = string_end(bytes, at, quote);
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn word_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_' || *c >= 0x80) {
        at += 1;
    }
    at
}

fn operand_end(bytes: &[u8], start: usize) -> usize {
    let mut at = match bytes.get(start) {
        Some(quote @ (b'\'' | b'"')) => string_end(bytes, start, *quote),
        Some(b'(' | b'[' | b'{') => group_end(bytes, start),
        Some(_) => word_end(bytes, start),
        None => return start,
    };
    if at == start {
        return start;
    }
    loop {
        match bytes.get(at) {
            Some(b'.') => {
                let end = word_end(bytes, at + 1);
                if end == at + 1 {
                    return at;
                }
                at = end;
            }
            Some(b'(' | b'[') => at = group_end(bytes, at),
            _ => {
                let bar = skip_blanks(bytes, at);
                let name = skip_blanks(bytes, bar + 1);
                let end = word_end(bytes, name);
                if bytes.get(bar) != Some(&b'|') || end == name {
                    return at;
                }
                at = end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn formats_become_filters() {
        for (from, to) in [
            ("{{ '%s-%s' % (a, b) }}", "{{ '%s-%s'|percent_format((a, b)) }}"),
            ("{{ \"%d\" % a.b[0]|int + 1 }}", "{{ \"%d\"|percent_format(a.b[0]|int) + 1 }}"),
            ("{{ '%s' % ('%d' % 3) }}", "{{ '%s'|percent_format(('%d'|percent_format(3))) }}"),
            ("{% if 'a' %}x{% endif %} 5 % 'q'", "{% if 'a' %}x{% endif %} 5 % 'q'"),
            ("100% 'x' % y", "100% 'x' % y"),
            ("{{ 7 % 3 }} '", "{{ 7 % 3 }} '"),
            ("{{ '%s' %", "{{ '%s' %"),
        ] {
            assert_eq!(rewrite(from), to);
        }
    }
}
