//! A bound on how long one expression may be: the engine walks expressions recursively, and a chain of thousands of
//! operators would exhaust the stack of the thread that renders it.

/// Operators, filters, attributes, subscripts and calls in one tag.
const MAX_CHAIN: usize = 300;

/// Whether some `{{ }}` or `{% %}` holds a longer chain than is taken.
pub(crate) fn is_too_complex(text: &str) -> bool {
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some(tag) = rest[open + 1..].strip_prefix(['{', '%']) else {
            rest = &rest[open + 1..];
            continue;
        };
        let Some(end) = count(tag.as_bytes()) else { return true };
        rest = &tag[end..];
    }
    false
}

/// Where the tag ends, unless its chain is too long. Texts inside it don't count.
fn count(tag: &[u8]) -> Option<usize> {
    let mut links = 0;
    let mut at = 0;
    while at < tag.len() {
        let c = tag[at];
        match c {
            b'\'' | b'"' => {
                at += 1;
                while at < tag.len() && tag[at] != c {
                    at += 1 + usize::from(tag[at] == b'\\');
                }
            }
            b'}' | b'%' if tag.get(at + 1) == Some(&b'}') => break,
            b'|' | b'.' | b'[' | b'(' | b'{' | b'+' | b'-' | b'*' | b'/' | b'%' | b'~' | b'<' | b'>' | b'=' | b'!' => {
                links += 1;
            }
            c if c.is_ascii_alphabetic() => {
                let length = tag[at..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == b'_').count();
                let word = &tag[at..at + length];
                links += usize::from(matches!(word, b"and" | b"or" | b"not" | b"in" | b"is" | b"if" | b"else"));
                at += length - 1;
            }
            _ => {}
        }
        if links > MAX_CHAIN {
            return None;
        }
        at += 1;
    }
    Some(at.min(tag.len()))
}

#[cfg(test)]
mod tests {
    use super::is_too_complex;

    #[test]
    fn long_chains() {
        assert!(!is_too_complex(&"{{ a.b | c }}".repeat(1000)));
        assert!(!is_too_complex(&format!("{{{{ [{}] }}}}", "1, 'a + b', ".repeat(1000))));
        assert!(is_too_complex(&format!("{{{{ a{} }}}}", " + a".repeat(301))));
        assert!(is_too_complex(&format!("x {{% if {} a %}}", "not ".repeat(301))));
        assert!(is_too_complex(&format!("{{{{{}", "(".repeat(301))));
        assert!(!is_too_complex("{{ 'unclosed"));
        assert!(!is_too_complex("{{ é }} {{"));
    }
}
