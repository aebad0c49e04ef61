//! Names in front of slices: the engine's list of a template's variables leaves out `items` in `items[1:3]`.

/// Words inside `{{ }}` and `{% %}` that may be such variables, when there is a slice at all. A word too many does no
/// harm: it is only looked up.
pub(super) fn candidates(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.contains('[') || !text.contains(':') {
        return found;
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut before = b' ';
    while at < bytes.len() {
        let c = bytes[at];
        if c == b'\'' || c == b'"' {
            let rest = &bytes[at + 1..];
            at += 2 + rest.iter().position(|next| *next == c).unwrap_or(rest.len());
        } else if c.is_ascii_alphabetic() || c == b'_' {
            let length = bytes[at..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == b'_').count();
            let word = &text[at..at + length];
            if !matches!(before, b'.' | b'|') && !found.iter().any(|known| known == word) {
                found.push(word.to_owned());
            }
            before = b'a';
            at += length;
        } else {
            if !c.is_ascii_whitespace() {
                before = c;
            }
            at += 1;
        }
    }
    found
}
