//! Lines wrapped as Python's `textwrap` wraps them, and the width of text on a terminal.

use unicode_width::UnicodeWidthChar;

/// The columns a text takes on the screen; colour codes take none.
pub fn width(text: &str) -> usize {
    let mut total = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            total += c.width().unwrap_or(0);
        }
    }
    total
}

/// Cuts one line into lines of at most `limit` characters: at white space, after hyphens within words, and within
/// words that are too long. White space at the start of the first line stays.
pub fn wrap(line: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(1);
    let mut chunks: Vec<Vec<char>> = chunks(&expand(line));
    chunks.reverse();
    let mut lines = Vec::new();
    while !chunks.is_empty() {
        if !lines.is_empty() && chunks.last().is_some_and(|chunk| is_space(chunk)) {
            chunks.pop();
        }
        let mut current: Vec<Vec<char>> = Vec::new();
        let mut length = 0;
        while let Some(chunk) = chunks.pop_if(|chunk| length + chunk.len() <= limit) {
            length += chunk.len();
            current.push(chunk);
        }
        if let Some(chunk) = chunks.pop_if(|chunk| chunk.len() > limit) {
            let (head, tail) = cut(chunk, limit - length);
            current.extend(head);
            chunks.extend(tail);
        }
        if current.last().is_some_and(|chunk| is_space(chunk)) {
            current.pop();
        }
        if !current.is_empty() {
            lines.push(current.concat().into_iter().collect());
        }
    }
    lines
}

fn expand(line: &str) -> Vec<char> {
    let mut out = Vec::new();
    for c in line.chars() {
        match c {
            '\t' => {
                let stop = (out.len() / 8 + 1) * 8;
                out.resize(stop, ' ');
            }
            '\n' | '\r' | '\u{b}' | '\u{c}' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn is_space(chunk: &[char]) -> bool {
    chunk.iter().all(|c| *c == ' ')
}

/// The part of a too long word that still fits into `space` columns, and the rest.
fn cut(chunk: Vec<char>, space: usize) -> (Option<Vec<char>>, Option<Vec<char>>) {
    if space == 0 {
        return (None, Some(chunk));
    }
    let end = match chunk[..space].iter().rposition(|c| *c == '-') {
        Some(hyphen) if chunk[..hyphen].iter().any(|c| *c != '-') => hyphen + 1,
        _ => space,
    };
    let (head, tail) = chunk.split_at(end);
    (Some(head.to_vec()), Some(tail.to_vec()))
}

/// Runs of white space, words, and the parts of hyphenated words.
fn chunks(line: &[char]) -> Vec<Vec<char>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let start = at;
        if line[at] == ' ' {
            while at < line.len() && line[at] == ' ' {
                at += 1;
            }
        } else if dash_run(line, at) {
            while at < line.len() && line[at] == '-' {
                at += 1;
            }
        } else {
            at += 1;
            while at < line.len() && line[at] != ' ' && !breaks_after(line, at - 1) && !dash_run(line, at) {
                at += 1;
            }
        }
        out.push(line[start..at].to_vec());
    }
    out
}

/// Two or more dashes between words are a chunk of their own.
fn dash_run(line: &[char], at: usize) -> bool {
    if at == 0 || line[at] != '-' || !is_word_punct(line[at - 1]) {
        return false;
    }
    let end = line[at..].iter().position(|c| *c != '-').map(|len| at + len);
    end.is_some_and(|end| end - at >= 2 && is_word(line[end]))
}

/// Whether a line may end after the hyphen at `at`: two letters (or letter, hyphen, letter) before it, letters after it.
fn breaks_after(line: &[char], at: usize) -> bool {
    if line[at] != '-' {
        return false;
    }
    let letter = |index: Option<usize>| index.and_then(|i| line.get(i)).is_some_and(|c| is_letter(*c));
    let before = letter(at.checked_sub(1))
        && (letter(at.checked_sub(2))
            || (at.checked_sub(2).is_some_and(|i| line[i] == '-') && letter(at.checked_sub(3))));
    let after =
        letter(Some(at + 1)) && (letter(Some(at + 2)) || (line.get(at + 2) == Some(&'-') && letter(Some(at + 3))));
    before && after
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_letter(c: char) -> bool {
    is_word(c) && !c.is_numeric()
}

fn is_word_punct(c: char) -> bool {
    is_word(c) || "!\"'&.,?".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_where_textwrap_cuts() {
        for (line, limit, expected) in [
            (
                "Action to pause current thread of workflow/sub-workflow.",
                50,
                vec!["Action to pause current thread of workflow/sub-", "workflow."],
            ),
            ("core.95c21f52-e597-4b46-9473-63a6b4d45b66", 31, vec!["core.95c21f52-e597-4b46-9473-", "63a6b4d45b66"]),
            ("2026-11-23T01:32:09.986170Z", 24, vec!["2026-11-", "23T01:32:09.986170Z"]),
            ("    \"description\": \"Arbitrary Linux", 20, vec!["    \"description\":", "\"Arbitrary Linux"]),
            ("management functionality.", 12, vec!["management f", "unctionality", "."]),
            ("a --flag and -x", 6, vec!["a", "--flag", "and -x"]),
        ] {
            assert_eq!(wrap(line, limit), expected);
        }
    }

    #[test]
    fn colours_take_no_columns() {
        assert_eq!(width("\u{1b}[92msucceeded\u{1b}[0m"), 9);
        assert_eq!(width("\u{65e5}"), 2);
    }

    proptest! {
        #[test]
        fn lines_fit_and_keep_every_word(line in "[a-z -]{0,60}", limit in 1usize..20) {
            let lines = wrap(&line, limit);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= limit));
            let kept: String = lines.concat().chars().filter(|c| *c != ' ').collect();
            let given: String = line.chars().filter(|c| *c != ' ').collect();
            prop_assert_eq!(kept, given);
        }
    }
}
