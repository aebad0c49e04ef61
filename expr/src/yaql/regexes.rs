//! Regular expressions.

use std::rc::Rc;

use fancy_regex::Captures;

use super::call::As::{Both, Function, Method};
use super::call::{Call, Entry};
use super::interp::wrong;
use super::strings::{record, text_of};
use super::value::{Pattern, R, V};
use crate::pyregex::{Flags, PyRegex};
use crate::workflow::Fault;

pub(super) const TABLE: &[Entry] = &[
    ("regex", Function, "pattern ignoreCase? multiLine? dotAll?", |c| {
        let pattern = c.text(0)?;
        let (ignore_case, multi_line, dot_all) = (c.flag(1)?, c.flag(2)?, c.flag(3)?);
        let source = if multi_line { format!("(?m){pattern}") } else { pattern.to_string() };
        compile(&source, Flags { ignore_case, dot_all })
    }),
    ("matches", Method, "regex string", |c| match c.value(0)? {
        regex @ V::Regex(_) => Ok(V::Bool(is_match(&regex, &c.text(1)?)?)),
        V::Text(text) => Ok(V::Bool(is_match(&c.value(1)?, &text)?)),
        _ => wrong(),
    }),
    ("search", Method, "regex string selector?", |c| {
        let text = c.text(1)?;
        let V::Regex(regex) = c.value(0)? else { return wrong() };
        match regex.regex.captures(&*text).map_err(slow)? {
            None => Ok(V::Null),
            Some(found) => selected(c, &regex, &text, &found, 2),
        }
    }),
    ("searchAll", Method, "regex string selector?", |c| {
        let text = c.text(1)?;
        let V::Regex(regex) = c.value(0)? else { return wrong() };
        let mut out = Vec::new();
        for found in regex.regex.captures_iter(&text) {
            out.push(selected(c, &regex, &text, &found.map_err(slow)?, 2)?);
            c.it.charge(64)?;
            c.it.step(1)?;
        }
        V::iter(out)
    }),
    ("split", Method, "regex string maxSplit?", |c| {
        let V::Regex(regex) = c.value(0)? else { return wrong() };
        split(c, &regex, &c.text(1)?)
    }),
    ("split", Method, "string regex maxSplit?", |c| {
        let V::Regex(regex) = c.value(1)? else { return wrong() };
        split(c, &regex, &c.text(0)?)
    }),
    ("replace", Method, "regex string replacement count?", |c| {
        let V::Regex(regex) = c.value(0)? else { return wrong() };
        replace(c, &regex, &c.text(1)?)
    }),
    ("replace", Method, "string regex replacement count?", |c| {
        let V::Regex(regex) = c.value(1)? else { return wrong() };
        replace(c, &regex, &c.text(0)?)
    }),
    ("replaceBy", Method, "regex string replacement count?", |c| match (c.value(0)?, c.value(1)?) {
        (V::Regex(regex), V::Text(text)) | (V::Text(text), V::Regex(regex)) => {
            substitute(c, &regex, &text, |found| Ok(text_of(&c.apply_named(2, groups(&regex, &text, found)?)?)))
        }
        _ => wrong(),
    }),
    ("escapeRegex", Both, "string", |c| {
        let special = "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}";
        let mut out = String::new();
        for found in c.text(0)?.chars() {
            if special.contains(found) {
                out.push('\\');
            }
            out.push(found);
        }
        Ok(V::text(out))
    }),
];

fn slow(error: impl std::fmt::Display) -> Fault {
    Fault::limit(&error.to_string())
}

fn compile(source: &str, flags: Flags) -> R {
    let regex = PyRegex::new(source, flags).map_err(|error| Fault::new("error", error.to_string()))?;
    Ok(V::Regex(Rc::new(Pattern { source: source.to_owned(), regex })))
}

/// `=~`: found anywhere.
pub(super) fn is_match(pattern: &V, text: &str) -> R<bool> {
    match pattern {
        V::Regex(pattern) => pattern.regex.is_match(text).map_err(slow),
        V::Text(source) => match compile(source, Flags::default())? {
            V::Regex(pattern) => pattern.regex.is_match(text).map_err(slow),
            _ => wrong(),
        },
        _ => wrong(),
    }
}

/// `$1` is the whole match, `$2`… its groups: mappings of value, start and end.
fn groups(regex: &Pattern, text: &str, found: &Captures<'_, str>) -> R<Vec<(Rc<str>, V)>> {
    if regex.regex.capture_names().flatten().next().is_some() {
        return Err(Fault::new("ValueError", "too many values to unpack (expected 2)"));
    }
    let at = |byte: usize| V::Int(text[..byte].chars().count() as i128);
    let group = |index: usize| match found.get(index) {
        Some(group) => {
            record(&[("value", V::text(group.as_str())), ("start", at(group.start())), ("end", at(group.end()))])
        }
        None => record(&[("value", V::Null), ("start", V::Int(-1)), ("end", V::Int(-1))]),
    };
    (0..found.len()).map(|index| Ok((Rc::from((index + 1).to_string()), group(index)?))).collect()
}

fn selected(c: &Call<'_, '_>, regex: &Pattern, text: &str, found: &Captures<'_, str>, at: usize) -> R {
    if c.has(at) {
        return c.apply_named(at, groups(regex, text, found)?);
    }
    Ok(V::text(found.get(0).map_or("", |whole| whole.as_str())))
}

/// As `re.split`: groups of the separator are among the parts.
fn split(c: &Call<'_, '_>, regex: &Pattern, text: &str) -> R {
    let most = usize::try_from(c.int_or(2, 0)?).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
    c.it.charge(text.len() * 16)?;
    let mut parts = Vec::new();
    let mut from = 0;
    for found in regex.regex.captures_iter(text).take(most) {
        let found = found.map_err(slow)?;
        c.it.step(1)?;
        let Some(whole) = found.get(0) else { continue };
        parts.push(V::text(&text[from..whole.start()]));
        parts.extend((1..found.len()).map(|at| found.get(at).map_or(V::Null, |group| V::text(group.as_str()))));
        from = whole.end();
    }
    parts.push(V::text(&text[from..]));
    V::list(parts)
}

fn replace(c: &Call<'_, '_>, regex: &Pattern, text: &str) -> R {
    let template = c.text(2)?;
    substitute(c, regex, text, |found| {
        crate::pyregex::expand(&template, found).map_err(|error| Fault::new("error", error.to_string()))
    })
}

fn substitute(c: &Call<'_, '_>, regex: &Pattern, text: &str, by: impl Fn(&Captures<'_, str>) -> R<String>) -> R {
    let most = usize::try_from(c.int_or(3, 0)?).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
    let mut out = String::new();
    let mut from = 0;
    for found in regex.regex.captures_iter(text).take(most) {
        let found = found.map_err(slow)?;
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&text[from..whole.start()]);
        let new = by(&found)?;
        c.it.step(1)?;
        c.it.charge(new.len())?;
        out.push_str(&new);
        from = whole.end();
    }
    out.push_str(&text[from..]);
    Ok(V::text(out))
}
