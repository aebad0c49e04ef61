//! Texts.

use super::call::As::{Both, Function, Method};
use super::call::{Call, Entry};
use super::interp::wrong;
use super::texts;
use super::value::{Dict, Kind, R, V};
use crate::workflow::Fault;

pub(super) const TABLE: &[Entry] = &[
    ("toUpper", Method, "string", |c| Ok(V::text(c.text(0)?.to_uppercase()))),
    ("toLower", Method, "string", |c| Ok(V::text(c.text(0)?.to_lowercase()))),
    ("trim", Method, "string chars?", |c| trim(c, true, true)),
    ("trimLeft", Method, "string chars?", |c| trim(c, true, false)),
    ("trimRight", Method, "string chars?", |c| trim(c, false, true)),
    ("norm", Both, "string chars?", |c| {
        if matches!(c.value(0)?, V::Null) {
            return Ok(V::Null);
        }
        let trimmed = trim(c, true, true)?;
        Ok(if trimmed.truthy() { trimmed } else { V::Null })
    }),
    ("split", Method, "string separator? maxSplits?", |c| split(c, false)),
    ("rightSplit", Method, "string separator? maxSplits?", |c| split(c, true)),
    ("join", Method, "sequence separator", |c| joined(c, &c.items(0)?, &c.text(1)?)),
    ("join", Method, "separator sequence", |c| joined(c, &c.items(1)?, &c.text(0)?)),
    ("replace", Method, "string old new count?", |c| {
        let (text, old, new) = (c.text(0)?, c.text(1)?, c.text(2)?);
        let count = c.int_or(3, -1)?;
        replaced(c, &text, &old, &new, count)
    }),
    ("replace", Method, "string replacements count?", |c| {
        let mut text = c.text(0)?;
        let V::Dict(replacements) = c.value(1)? else { return wrong() };
        let count = c.int_or(2, -1)?;
        for (old, new) in &replacements.entries {
            let V::Text(next) = replaced(c, &text, &text_of(old), &text_of(new), count)? else { return wrong() };
            text = next;
        }
        Ok(V::Text(text))
    }),
    ("startsWith", Method, "string *", |c| any_affix(c, |text, affix| text.starts_with(affix))),
    ("endsWith", Method, "string *", |c| any_affix(c, |text, affix| text.ends_with(affix))),
    ("substring", Method, "string start length?", |c| {
        let chars: Vec<char> = c.text(0)?.chars().collect();
        let (from, to) = place(c.int(1)?, c.int_or(2, -1)?, chars.len());
        Ok(V::text(chars[from..to].iter().collect::<String>()))
    }),
    ("indexOf", Method, "string sub start? length?", |c| find(c, false)),
    ("lastIndexOf", Method, "string sub start? length?", |c| find(c, true)),
    ("toCharArray", Method, "string", |c| {
        let text = c.text(0)?;
        c.it.charge(text.len() * 32)?;
        V::list(text.chars().map(|c| V::text(c.to_string())).collect())
    }),
    ("concat", Both, "string *", |c| {
        let mut out = c.text(0)?.to_string();
        for part in c.rest() {
            match part? {
                V::Text(part) => out.push_str(&part),
                _ => return wrong(),
            }
        }
        c.it.charge(out.len())?;
        Ok(V::text(out))
    }),
    ("hex", Both, "num", |c| {
        let number = c.int(0)?;
        Ok(V::text(format!("{}{:#x}", if number < 0 { "-" } else { "" }, number.unsigned_abs())))
    }),
    ("str", Function, "value", |c| {
        let value = c.value(0)?;
        let text = text_of(&value);
        c.it.charge(text.len())?;
        Ok(V::text(text))
    }),
    ("isString", Function, "arg", |c| Ok(V::Bool(matches!(c.value(0)?, V::Text(_))))),
    ("isEmpty", Function, "value *", |c| {
        if empty(&c.value(0)?) {
            return Ok(V::Bool(true));
        }
        for value in c.rest() {
            if empty(&value?) {
                return Ok(V::Bool(true));
            }
        }
        // With several arguments the question is whether any says something.
        Ok(V::Bool(c.rest().next().is_some()))
    }),
    (
        "characters",
        Function,
        "digits? hexdigits? asciiLowercase? asciiUppercase? asciiLetters? letters? octdigits? punctuation? \
         printable? lowercase? uppercase? whitespace?",
        characters,
    ),
];

/// `str()`, with YAQL's own words for truth values and null.
pub(super) fn text_of(value: &V) -> String {
    match value {
        V::Null => "null".to_owned(),
        V::Bool(flag) => flag.to_string(),
        other => texts::text(other),
    }
}

fn empty(value: &V) -> bool {
    match value {
        V::Text(text) => text.trim().is_empty(),
        V::Null => true,
        V::Seq(seq) => seq.items.is_empty(),
        V::Dict(dict) => dict.entries.is_empty(),
        _ => false,
    }
}

fn trim(c: &Call<'_, '_>, left: bool, right: bool) -> R {
    let text = c.text(0)?;
    let chars = if c.has(1) { Some(c.text(1)?) } else { None };
    let falls = |found: char| chars.as_ref().map_or_else(|| found.is_whitespace(), |chars| chars.contains(found));
    let text = if left { text.trim_start_matches(falls) } else { &text };
    Ok(V::text(if right { text.trim_end_matches(falls) } else { text }))
}

fn split(c: &Call<'_, '_>, from_right: bool) -> R {
    let text = c.text(0)?;
    let separator = match c.optional(1)? {
        None | Some(V::Null) => None,
        Some(V::Text(separator)) if separator.is_empty() => return Err(Fault::new("ValueError", "empty separator")),
        Some(V::Text(separator)) => Some(separator),
        Some(_) => return wrong(),
    };
    let most = usize::try_from(c.int_or(2, -1)?).map_or(usize::MAX, |most| most.saturating_add(1));
    c.it.charge(text.len() * 16)?;
    let parts: Vec<String> = match separator {
        None => blanks(&text, most, from_right),
        Some(separator) if from_right => {
            let mut parts: Vec<&str> = text.rsplitn(most, &*separator).collect();
            parts.reverse();
            parts.into_iter().map(str::to_owned).collect()
        }
        Some(separator) => text.splitn(most, &*separator).map(str::to_owned).collect(),
    };
    V::list(parts.into_iter().map(V::text).collect())
}

/// Split at runs of blanks.
fn blanks(text: &str, most: usize, from_right: bool) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() <= most {
        return words.into_iter().map(str::to_owned).collect();
    }
    let offset = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    if from_right {
        let cut = words.len() - (most - 1);
        let end = offset(words[cut - 1]) + words[cut - 1].len();
        let head = text[..end].trim_start().to_owned();
        return std::iter::once(head).chain(words[cut..].iter().map(|word| (*word).to_owned())).collect();
    }
    let rest = text[offset(words[most - 1])..].trim_end().to_owned();
    words[..most - 1].iter().map(|word| (*word).to_owned()).chain([rest]).collect()
}

fn joined(c: &Call<'_, '_>, items: &[V], separator: &str) -> R {
    let parts: Vec<String> = items.iter().map(text_of).collect();
    c.it.charge(parts.iter().map(String::len).sum::<usize>() + separator.len() * parts.len())?;
    Ok(V::text(parts.join(separator)))
}

fn replaced(c: &Call<'_, '_>, text: &str, old: &str, new: &str, count: i128) -> R {
    let places = if old.is_empty() { text.chars().count() + 1 } else { text.len() / old.len() };
    let times = usize::try_from(count).unwrap_or(places).min(places);
    c.it.charge(text.len() + times.saturating_mul(new.len()))?;
    Ok(V::text(text.replacen(old, new, times)))
}

fn any_affix(c: &Call<'_, '_>, matches: fn(&str, &str) -> bool) -> R {
    let text = c.text(0)?;
    for affix in c.rest() {
        match affix? {
            V::Text(affix) if matches(&text, &affix) => return Ok(V::Bool(true)),
            V::Text(_) => {}
            _ => return wrong(),
        }
    }
    Ok(V::Bool(false))
}

fn place(start: i128, length: i128, count: usize) -> (usize, usize) {
    let count = count as i128;
    let from = if start < 0 { (count + start).max(0) } else { start.min(count) };
    let to = if length < 0 { count } else { from.saturating_add(length).min(count) };
    (from as usize, to as usize)
}

fn find(c: &Call<'_, '_>, last: bool) -> R {
    let (text, sub) = (c.text(0)?, c.text(1)?);
    let chars: Vec<char> = text.chars().collect();
    let (from, to) = place(c.int_or(2, 0)?, c.int_or(3, -1)?, chars.len());
    let part: String = chars[from..to].iter().collect();
    let found = if last { part.rfind(&*sub) } else { part.find(&*sub) };
    let at = found.map(|at| (part[..at].chars().count() + from) as i128);
    Ok(V::Int(at.unwrap_or(-1)))
}

/// The classes of characters asked for, as a set's list.
fn characters(c: &Call<'_, '_>) -> R {
    let lower: String = ('a'..='z').collect();
    let upper: String = ('A'..='Z').collect();
    let punctuation: String = (' '..='~').filter(char::is_ascii_punctuation).collect();
    let letters = format!("{lower}{upper}");
    let space = " \t\n\r\u{b}\u{c}";
    let printable = format!("0123456789{letters}{punctuation}{space}");
    let classes = [
        "0123456789",
        "0123456789abcdefABCDEF",
        &lower,
        &upper,
        &letters,
        &letters,
        "01234567",
        &punctuation,
        &printable,
        &lower,
        &upper,
        space,
    ];
    let mut out = Vec::new();
    for (at, class) in classes.iter().enumerate() {
        if c.flag(at)? {
            out.extend(class.chars().map(|c| V::text(c.to_string())));
        }
    }
    V::seq(super::value::unique(out), Kind::List)
}

/// A mapping from names.
pub(super) fn record(fields: &[(&str, V)]) -> R {
    V::dict(fields.iter().map(|(name, value)| (V::text(name), value.clone())).collect::<Dict>())
}
