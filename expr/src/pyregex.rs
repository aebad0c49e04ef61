//! Regular expressions of Python's `re`, with a limit on back-tracking.
//!
//! The dialects are close; [`translate`] bridges what differs: `$` also matches before a last line feed, `\Z` is the
//! end, `{` that is no repetition and `[` inside a class stand for themselves.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use fancy_regex::{Captures, Regex, RegexBuilder};
use parking_lot::RwLock;

/// Steps of back-tracking before a match is given up with an error.
const BACKTRACK_LIMIT: usize = 200_000;
/// Bytes a compiled automaton may take.
const SIZE_LIMIT: usize = 1 << 20;
/// Longest pattern that is taken, and most parentheses in it.
const MAX_PATTERN: usize = 1 << 14;
const MAX_GROUPS: usize = 250;
/// Bytes of a text in which something was replaced, and groups of all matches together.
const MAX_TEXT: usize = 16 << 20;
const MAX_FOUND: usize = 500_000;
/// How long all matches of one text may take.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Compiled patterns kept.
const CACHED: usize = 1024;

/// A bad pattern, or a match that took too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegexError(String);

/// `re.IGNORECASE` and `re.DOTALL`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    pub ignore_case: bool,
    pub dot_all: bool,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct PyRegex(Arc<Regex>);

type Cache = HashMap<(String, Flags), Result<PyRegex, RegexError>>;

static CACHE: LazyLock<RwLock<Cache>> = LazyLock::new(RwLock::default);

impl PyRegex {
    /// Compiles, or takes what was compiled before.
    pub fn new(pattern: &str, flags: Flags) -> Result<Self, RegexError> {
        let key = (pattern.to_owned(), flags);
        if let Some(found) = CACHE.read().get(&key) {
            return found.clone();
        }
        let compiled = compile(pattern, flags);
        let mut cache = CACHE.write();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(key, compiled.clone());
        compiled
    }

    /// All matches, one after the other, within a time.
    pub fn captures_iter<'r, 't>(
        &'r self,
        text: &'t str,
    ) -> impl Iterator<Item = Result<Captures<'t, str>, RegexError>> + use<'r, 't> {
        let end = Instant::now() + MAX_TIME;
        self.0.captures_iter(text).enumerate().map(move |(at, found)| match found {
            Ok(_) if at % 16 == 15 && Instant::now() > end => Err(RegexError("the pattern takes too long".to_owned())),
            Ok(found) => Ok(found),
            Err(error) => Err(RegexError(error.to_string())),
        })
    }

    /// `re.search`.
    pub fn search(&self, text: &str) -> Result<bool, RegexError> {
        self.0.is_match(text).map_err(|error| RegexError(error.to_string()))
    }

    /// `re.match`: only at the start.
    pub fn matches_start(&self, text: &str) -> Result<bool, RegexError> {
        // The first match may lie later though one at the start exists only if the leftmost is it.
        let found = self.0.find(text).map_err(|error| RegexError(error.to_string()))?;
        Ok(found.is_some_and(|found| found.start() == 0))
    }

    /// Each match's groups; a group that took no part is empty. Group 0 is the whole match.
    pub fn find_all(&self, text: &str) -> Result<Vec<Vec<String>>, RegexError> {
        let mut all: Vec<Vec<String>> = Vec::new();
        for captures in self.captures_iter(text) {
            let captures = captures?;
            if all.len().saturating_mul(captures.len()) > MAX_FOUND {
                return Err(RegexError(format!("the pattern matches more than {MAX_FOUND} times")));
            }
            let group = |index| captures.get(index).map_or_else(String::new, |group| group.as_str().to_owned());
            all.push((0..captures.len()).map(group).collect());
        }
        Ok(all)
    }

    /// `re.sub`, with `\1`, `\g<1>`, `\g<name>` and Python's escapes in the replacement.
    pub fn replace_all(&self, text: &str, replacement: &str) -> Result<String, RegexError> {
        let parts = template(replacement)?;
        let mut out = String::new();
        let mut copied = 0;
        for captures in self.captures_iter(text) {
            let captures = captures?;
            if out.len() > MAX_TEXT {
                return Err(RegexError(format!("the result is longer than {MAX_TEXT} bytes")));
            }
            let Some(whole) = captures.get(0) else { continue };
            out.push_str(&text[copied..whole.start()]);
            for part in &parts {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Group(index) if *index >= captures.len() => {
                        return Err(RegexError(format!("invalid group reference {index}")));
                    }
                    Part::Group(index) => out.push_str(captures.get(*index).map_or("", |group| group.as_str())),
                    Part::Named(name) => out.push_str(captures.name(name).map_or("", |group| group.as_str())),
                }
            }
            copied = whole.end();
        }
        out.push_str(&text[copied..]);
        Ok(out)
    }
}

impl std::ops::Deref for PyRegex {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.0
    }
}

/// A replacement's text for one match.
pub(crate) fn expand(replacement: &str, captures: &Captures<'_, str>) -> Result<String, RegexError> {
    let mut out = String::new();
    for part in template(replacement)? {
        match part {
            Part::Text(text) => out.push_str(&text),
            Part::Group(index) if index >= captures.len() => {
                return Err(RegexError(format!("invalid group reference {index}")));
            }
            Part::Group(index) => out.push_str(captures.get(index).map_or("", |group| group.as_str())),
            Part::Named(name) => out.push_str(captures.name(&name).map_or("", |group| group.as_str())),
        }
    }
    Ok(out)
}

fn compile(pattern: &str, flags: Flags) -> Result<PyRegex, RegexError> {
    if pattern.len() > MAX_PATTERN {
        return Err(RegexError(format!("the pattern is longer than {MAX_PATTERN} bytes")));
    }
    if pattern.matches('(').count() > MAX_GROUPS {
        return Err(RegexError(format!("the pattern has more than {MAX_GROUPS} groups")));
    }
    let mut builder = RegexBuilder::new(&translate(pattern));
    builder.backtrack_limit(BACKTRACK_LIMIT).delegate_size_limit(SIZE_LIMIT);
    builder.case_insensitive(flags.ignore_case).dot_matches_new_line(flags.dot_all);
    let regex = builder.build().map_err(|error| RegexError(error.to_string()))?;
    Ok(PyRegex(Arc::new(regex)))
}

enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

fn template(replacement: &str) -> Result<Vec<Part>, RegexError> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        let part = match chars.next() {
            Some('g') => {
                let name: String = chars.by_ref().skip_while(|c| *c == '<').take_while(|c| *c != '>').collect();
                name.parse().map_or(Part::Named(name), Part::Group)
            }
            Some(digit @ '1'..='9') => {
                let mut index = digit as usize - '0' as usize;
                if let Some(second) = chars.next_if(char::is_ascii_digit) {
                    index = index * 10 + (second as usize - '0' as usize);
                }
                Part::Group(index)
            }
            Some('n') => Part::Text("\n".to_owned()),
            Some('t') => Part::Text("\t".to_owned()),
            Some('r') => Part::Text("\r".to_owned()),
            Some('0') => Part::Text("\0".to_owned()),
            Some('\\') => Part::Text("\\".to_owned()),
            Some(c) if c.is_ascii_alphabetic() => return Err(RegexError(format!("bad escape \\{c}"))),
            Some(c) => Part::Text(format!("\\{c}")),
            None => return Err(RegexError("bad escape (end of pattern)".to_owned())),
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(part);
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// The pattern in the engine's dialect.
fn translate(pattern: &str) -> String {
    let multi_line = has_inline_flag(pattern, 'm');
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut at = 0;
    let mut class_start = None;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied();
        match c {
            '\\' => {
                out.push_str(&match next {
                    Some('Z') => "\\z".to_owned(),
                    Some(other) => format!("\\{other}"),
                    None => "\\".to_owned(),
                });
                at += 1;
            }
            '[' if class_start.is_some() => out.push_str("\\["),
            '[' => {
                out.push('[');
                if next == Some('^') {
                    out.push('^');
                    at += 1;
                }
                // A bracket right at the start stands for itself.
                if chars.get(at + 1) == Some(&']') {
                    out.push_str("\\]");
                    at += 1;
                }
                class_start = Some(at);
            }
            ']' if class_start.is_some() => {
                class_start = None;
                out.push(']');
            }
            '&' | '~' if class_start.is_some() => {
                out.push('\\');
                out.push(c);
            }
            '-' if class_start.is_some() && next == Some('-') => out.push_str("\\-"),
            '$' if class_start.is_none() && !multi_line => out.push_str("(?=\\n?\\z)"),
            '{' if class_start.is_none() => match repetition(&chars[at..]) {
                Some((text, length)) => {
                    out.push_str(&text);
                    at += length - 1;
                }
                None => out.push_str("\\{"),
            },
            '}' if class_start.is_none() => out.push_str("\\}"),
            _ => out.push(c),
        }
        at += 1;
    }
    out
}

/// `{2}`, `{2,}`, `{,3}`, `{2,3}` at the start, and its length.
fn repetition(chars: &[char]) -> Option<(String, usize)> {
    let end = chars.iter().position(|c| *c == '}')?;
    let inner: String = chars[1..end].iter().collect();
    let (low, high) = inner.split_once(',').map_or((inner.as_str(), None), |(low, high)| (low, Some(high)));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if !digits(low) || !high.is_none_or(digits) || inner.is_empty() || inner == "," {
        return None;
    }
    let low = if low.is_empty() { "0" } else { low };
    let text = high.map_or_else(|| format!("{{{low}}}"), |high| format!("{{{low},{high}}}"));
    Some((text, end + 1))
}

/// Whether `(?…)` with this flag occurs.
fn has_inline_flag(pattern: &str, flag: char) -> bool {
    pattern.match_indices("(?").any(|(at, _)| {
        let flags = pattern[at + 2..].chars().take_while(char::is_ascii_alphabetic);
        flags.clone().any(|c| c == flag)
            && pattern[at + 2 + flags.count()..].starts_with([')', ':', '-'])
            && !pattern[at + 2..].starts_with('P')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pattern: &str, text: &str) -> bool {
        PyRegex::new(pattern, Flags::default()).unwrap().search(text).unwrap()
    }

    #[test]
    fn dialect() {
        for (pattern, text, expected) in [
            ("a$", "a\n", true),
            ("a$", "a\nb", false),
            ("(?m)a$", "a\nb", true),
            (r"a\Z", "a\n", false),
            ("a{,2}b", "aab", true),
            ("^a{x}$", "a{x}", true),
            ("^[[a]$", "[", true),
            ("^[]a]$", "]", true),
            ("^[^]a]$", "b", true),
            ("^[a&&b]$", "&", true),
            (r"(?P<x>a)(?P=x)", "aa", true),
            (r"(?<=a)b", "ab", true),
            (r"\$\{x\}", "${x}", true),
            (r"^\w+$", "é_1", true),
            ("(?i)straße", "STRAßE", true),
        ] {
            assert_eq!(search(pattern, text), expected, "{pattern} on {text}");
        }
        assert!(PyRegex::new("(", Flags::default()).is_err());
    }

    #[test]
    fn hostile_patterns_end() {
        let regex = PyRegex::new(r"(?=(a+)+$)(a|aa)+\1b", Flags::default()).unwrap();
        let _ = regex.search(&"a".repeat(5000));
    }

    #[test]
    fn substitution() {
        let regex = PyRegex::new(r"(?P<x>\w)(\d)", Flags::default()).unwrap();
        assert_eq!(regex.replace_all("a1 b2", r"\2\g<x>\n$1").unwrap(), "1a\n$1 2b\n$1");
        assert!(regex.replace_all("a1", r"\9").is_err());
        assert_eq!(regex.find_all("a1 b2").unwrap(), vec![vec!["a1", "a", "1"], vec!["b2", "b", "2"]]);
    }
}
