//! Whether a pattern is anchored already, as StackStorm looks at it (spec/chatops.md §2): groups are descended into,
//! of an alternation only the second branch counts, and what is looked ahead or behind for doesn't.

/// Whether it contains an anchor at the beginning.
pub fn begins(pattern: &str) -> bool {
    Parser { chars: pattern.chars().collect(), at: 0, literal: '^', escape: 'A' }.alternation()
}

/// Whether it contains an anchor at the end.
pub fn ends(pattern: &str) -> bool {
    Parser { chars: pattern.chars().collect(), at: 0, literal: '$', escape: 'Z' }.alternation()
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    /// The anchor as one character, and as an escape.
    literal: char,
    escape: char,
}

impl Parser {
    fn next(&mut self) -> Option<char> {
        let found = self.chars.get(self.at).copied();
        self.at += 1;
        found
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, wanted)| self.chars.get(self.at + i) == Some(&wanted))
    }

    /// Up to the closing parenthesis, or the end.
    fn alternation(&mut self) -> bool {
        let mut branches = vec![false];
        while let Some(next) = self.next() {
            let found = match next {
                ')' => break,
                '|' => {
                    branches.push(false);
                    continue;
                }
                '\\' => self.next() == Some(self.escape),
                '[' => {
                    self.class();
                    false
                }
                '(' => self.group(),
                other => other == self.literal,
            };
            if let Some(branch) = branches.last_mut() {
                *branch |= found;
            }
        }
        branches.get(1).or(branches.first()).copied().unwrap_or_default()
    }

    fn group(&mut self) -> bool {
        let looks_around = ["?=", "?!", "?<=", "?<!"].iter().any(|start| self.starts_with(start));
        if self.starts_with("?P<") {
            while self.next().is_some_and(|next| next != '>') {}
        } else if self.starts_with("?:") {
            self.at += 2;
        } else if looks_around {
            self.at += if self.starts_with("?<") { 3 } else { 2 };
        }
        self.alternation() && !looks_around
    }

    /// `[…]`; a bracket that comes first is a member.
    fn class(&mut self) {
        if self.starts_with("^") {
            self.at += 1;
        }
        let first = self.at;
        while let Some(next) = self.next() {
            match next {
                '\\' => self.at += 1,
                ']' if self.at > first + 1 => break,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_second_branches_count() {
        for (pattern, begin, end) in [
            ("a", false, false),
            ("^a$", true, true),
            (r"\Aa\Z", true, true),
            (r"\^a\$", false, false),
            (r"[$^]x", false, false),
            (r"[]^]x", false, false),
            (r"(\W|^)x", true, false),
            (r"(^|\W)x", false, false),
            (r"(?:\b|^)(?P<issue>[A-Z]+-\d+)(?:\b|$)", true, true),
            (r"(\W|^)(?P<issue>[A-Z]+-\d+)(?=\W|$)", true, false),
            ("a|b", false, false),
        ] {
            assert_eq!((begins(pattern), ends(pattern)), (begin, end), "{pattern}");
        }
    }
}
