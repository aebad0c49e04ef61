//! Lists, mappings and sets themselves.

use std::collections::HashSet;

use super::call::As::{Both, Function, Method};
use super::call::{Call, Entry};
use super::interp::{It, wrong};
use super::value::{Dict, Kind, R, V};
use super::{operators, queries};
use crate::workflow::Fault;

pub(super) const TABLE: &[Entry] = &[
    ("len", Both, "value", |c| match c.value(0)? {
        V::Text(text) => Ok(V::Int(text.chars().count() as i128)),
        V::Dict(dict) => Ok(V::Int(dict.entries.len() as i128)),
        V::Seq(seq) if seq.endless => Err(Fault::limit("the collection has no end")),
        V::Seq(seq) if seq.kind != Kind::View => Ok(V::Int(seq.items.len() as i128)),
        _ => wrong(),
    }),
    ("list", Function, "*", |c| {
        let mut out = Vec::new();
        for value in c.rest() {
            match value? {
                V::Seq(seq) if seq.kind == Kind::Iter => out.extend(seq.items.iter().cloned()),
                other => out.push(other),
            }
        }
        c.it.charge(out.len() * 32)?;
        V::list(out)
    }),
    ("toList", Method, "collection", |c| V::list(c.items(0)?)),
    ("toSet", Method, "collection", |c| V::set(c.items(0)?)),
    ("set", Function, "*", |c| V::set(c.rest().collect::<R<_>>()?)),
    ("dict", Function, "collection", |c| match c.value(0)? {
        V::Dict(dict) => Ok(V::Dict(dict)),
        V::Seq(seq) => {
            let mut dict = Dict::default();
            for pair in &seq.items {
                let pair = match pair {
                    V::Seq(pair) => pair.items.clone(),
                    _ => return Err(Fault::new("TypeError", "object is not iterable")),
                };
                let mut parts = pair.into_iter();
                let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
                    return Err(Fault::new("StopIteration", ""));
                };
                dict.insert(key, value);
            }
            c.it.charge(dict.entries.len() * 96)?;
            V::dict(dict)
        }
        _ => wrong(),
    }),
    ("dict", Function, "* **", |c| {
        let mut dict = Dict::default();
        for (key, value) in c.mappings()? {
            dict.insert(c.eval(key)?, c.eval(value)?);
        }
        for (name, value) in &c.named {
            dict.insert(V::text(name), c.eval(value)?);
        }
        V::dict(dict)
    }),
    ("keys", Method, "dict", |c| V::seq(dict(c, 0)?.entries.iter().map(|(key, _)| key.clone()).collect(), Kind::Set)),
    ("values", Method, "dict", |c| {
        V::seq(dict(c, 0)?.entries.iter().map(|(_, value)| value.clone()).collect(), Kind::View)
    }),
    ("items", Method, "dict", |c| {
        let pair = |(key, value): &(V, V)| V::list(vec![key.clone(), value.clone()]);
        V::seq(dict(c, 0)?.entries.iter().map(pair).collect::<R<_>>()?, Kind::Set)
    }),
    ("get", Method, "dict key default?", |c| {
        let dict = dict(c, 0)?;
        match dict.get(&c.value(1)?) {
            Some(value) => Ok(value.clone()),
            None => Ok(c.optional(2)?.unwrap_or(V::Null)),
        }
    }),
    ("set", Method, "dict key value", |c| {
        let mut out = dict(c, 0)?;
        out.insert(c.value(1)?, c.value(2)?);
        V::dict(out)
    }),
    ("set", Method, "dict replacements", |c| {
        let mut out = dict(c, 0)?;
        for (key, value) in dict(c, 1)?.entries {
            out.insert(key, value);
        }
        V::dict(out)
    }),
    ("set", Method, "dict * **", |c| {
        let mut out = dict(c, 0)?;
        for (key, value) in c.mappings()? {
            out.insert(c.eval(key)?, c.eval(value)?);
        }
        for (name, value) in &c.named {
            out.insert(V::text(name), c.eval(value)?);
        }
        V::dict(out)
    }),
    ("delete", Method, "dict *", |c| {
        let from = dict(c, 0)?;
        V::dict(from.without(&c.rest().collect::<R<Vec<_>>>()?))
    }),
    ("deleteAll", Method, "dict keys", |c| V::dict(dict(c, 0)?.without(&c.items(1)?))),
    ("containsKey", Method, "dict key", |c| Ok(V::Bool(dict(c, 0)?.get(&c.value(1)?).is_some()))),
    ("containsValue", Method, "dict value", |c| {
        let (dict, value) = (dict(c, 0)?, c.value(1)?);
        Ok(V::Bool(dict.entries.iter().any(|(_, found)| *found == value)))
    }),
    ("contains", Method, "collection value", |c| {
        let collection = c.value(0)?;
        match (&collection, operators::contains(&collection, &c.value(1)?)) {
            (V::Seq(_), Some(found)) => Ok(V::Bool(found)),
            _ => wrong(),
        }
    }),
    ("mergeWith", Method, "dict another listMerger? itemMerger? maxLevels?", |c| {
        merge(c, &dict(c, 0)?, &dict(c, 1)?, c.int_or(4, 0)?, 1)
    }),
    ("flatten", Method, "collection", |c| {
        let mut out = Vec::new();
        flatten(c.it, &c.items(0)?, &mut out)?;
        V::iter(out)
    }),
    ("append", Both, "collection *", |c| {
        let mut items = c.items(0)?;
        items.extend(c.rest().collect::<R<Vec<_>>>()?);
        V::iter(items)
    }),
    ("concat", Both, "collection *", |c| {
        let mut items = c.items(0)?;
        for other in c.rest() {
            match other? {
                V::Seq(seq) if !seq.endless => items.extend(seq.items.iter().cloned()),
                _ => return wrong(),
            }
        }
        V::iter(items)
    }),
    ("delete", Method, "collection position count?", |c| {
        let mut items = c.items(0)?;
        let (from, to) = span(c.int(1)?, c.int_or(2, 1)?, items.len());
        items.drain(from..to);
        V::iter(items)
    }),
    ("replace", Method, "collection position value count?", |c| {
        let mut items = c.items(0)?;
        let (from, to) = span(c.int(1)?, c.int_or(3, 1)?, items.len());
        items.splice(from..to, [c.value(2)?]);
        V::iter(items)
    }),
    ("replaceMany", Method, "collection position values count?", |c| {
        let mut items = c.items(0)?;
        let (from, to) = span(c.int(1)?, c.int_or(3, 1)?, items.len());
        items.splice(from..to, c.items(2)?);
        V::iter(items)
    }),
    ("insert", Method, "collection position value", |c| {
        let mut items = c.items(0)?;
        let (at, _) = span(c.int(1)?, 0, items.len());
        items.insert(at, c.value(2)?);
        V::iter(items)
    }),
    ("insertMany", Method, "collection position values", |c| {
        let mut items = c.items(0)?;
        let (at, _) = span(c.int(1)?, 0, items.len());
        items.splice(at..at, c.items(2)?);
        V::iter(items)
    }),
    ("indexOf", Method, "collection item", |c| {
        let item = c.value(1)?;
        Ok(V::Int(c.items(0)?.iter().position(|found| *found == item).map_or(-1, |at| at as i128)))
    }),
    ("lastIndexOf", Method, "collection item", |c| {
        let item = c.value(1)?;
        Ok(V::Int(c.items(0)?.iter().rposition(|found| *found == item).map_or(-1, |at| at as i128)))
    }),
    ("sum", Method, "collection initial?", |c| {
        let mut items = c.items(0)?.into_iter();
        let first = c.optional(1)?.or_else(|| items.next());
        items.try_fold(first.ok_or_else(queries::empty)?, |sum, item| c.it.add(&sum, &item))
    }),
    ("max", Method, "collection initial?", |c| extreme(c, true)),
    ("min", Method, "collection initial?", |c| extreme(c, false)),
    ("isList", Function, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Seq(seq) if seq.kind == Kind::List)))),
    ("isDict", Function, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Dict(_))))),
    ("isSet", Function, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Seq(seq) if seq.kind == Kind::Set)))),
    ("isIterable", Function, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Seq(_))))),
    ("add", Method, "set *", |c| {
        let mut items = set(c, 0)?;
        items.extend(c.rest().collect::<R<Vec<_>>>()?);
        V::set(items)
    }),
    ("remove", Method, "set *", |c| {
        let gone = c.rest().collect::<R<HashSet<_>>>()?;
        V::set(set(c, 0)?.into_iter().filter(|item| !gone.contains(item)).collect())
    }),
    ("union", Method, "left right", |c| V::set(set(c, 0)?.into_iter().chain(set(c, 1)?).collect())),
    ("intersect", Method, "left right", |c| {
        let right: HashSet<V> = set(c, 1)?.into_iter().collect();
        V::set(set(c, 0)?.into_iter().filter(|item| right.contains(item)).collect())
    }),
    ("difference", Method, "left right", |c| {
        let right: HashSet<V> = set(c, 1)?.into_iter().collect();
        V::set(set(c, 0)?.into_iter().filter(|item| !right.contains(item)).collect())
    }),
    ("symmetricDifference", Method, "left right", |c| {
        let (left, right) = (set(c, 0)?, set(c, 1)?);
        let (known_left, known_right) = (left.iter().collect::<HashSet<_>>(), right.iter().collect::<HashSet<_>>());
        let only_left = left.iter().filter(|item| !known_right.contains(item));
        let only_right = right.iter().filter(|item| !known_left.contains(item));
        V::set(only_left.chain(only_right).cloned().collect())
    }),
];

fn dict(c: &Call<'_, '_>, at: usize) -> R<Dict> {
    match c.value(at)? {
        V::Dict(dict) => {
            c.it.step(dict.entries.len())?;
            Ok((*dict).clone())
        }
        _ => wrong(),
    }
}

fn set(c: &Call<'_, '_>, at: usize) -> R<Vec<V>> {
    match c.value(at)? {
        V::Seq(seq) if seq.kind == Kind::Set => {
            c.it.step(seq.items.len())?;
            c.it.charge(seq.items.len() * 32)?;
            Ok(seq.items.clone())
        }
        _ => wrong(),
    }
}

/// From a position, which may be negative, over so many items (all if negative), within bounds.
fn span(position: i128, count: i128, length: usize) -> (usize, usize) {
    let length = length as i128;
    let from = if position < 0 { (length + position).max(0) } else { position.min(length) };
    let to = if count < 0 { length } else { (from + count).min(length) };
    (from as usize, to as usize)
}

fn extreme(c: &Call<'_, '_>, most: bool) -> R {
    let mut items = c.items(0)?.into_iter();
    let first = c.optional(1)?.or_else(|| items.next());
    items.try_fold(first.ok_or_else(queries::empty)?, |best, item| {
        let better = if most { c.it.less(&best, &item)? } else { c.it.less(&item, &best)? };
        Ok(if better { item } else { best })
    })
}

fn flatten(it: &It<'_>, items: &[V], out: &mut Vec<V>) -> R<()> {
    it.step(items.len())?;
    for item in items {
        match item {
            V::Seq(seq) if seq.endless => return Err(Fault::limit("the collection has no end")),
            V::Seq(seq) => flatten(it, &seq.items, out)?,
            other => out.push(other.clone()),
        }
    }
    Ok(())
}

fn merge(c: &Call<'_, '_>, left: &Dict, right: &Dict, levels: i128, level: i128) -> R {
    c.it.step(left.entries.len() + right.entries.len())?;
    let mut out = left.clone();
    for (key, theirs) in &right.entries {
        let merged = match (out.get(key), theirs) {
            (None, theirs) => theirs.clone(),
            (Some(V::Dict(ours)), V::Dict(theirs)) if levels == 0 || level < levels => {
                merge(c, &ours.clone(), theirs, levels, level + 1)?
            }
            (Some(V::Dict(_)), V::Dict(_)) => theirs.clone(),
            (Some(ours @ V::Seq(_)), V::Seq(_)) if c.has(2) => c.apply(2, vec![ours.clone(), theirs.clone()])?,
            (Some(V::Seq(ours)), V::Seq(theirs)) => {
                V::list(super::value::unique(ours.items.iter().chain(&theirs.items).cloned().collect()))?
            }
            (Some(ours), theirs) if c.has(3) => c.apply(3, vec![ours.clone(), theirs.clone()])?,
            (Some(_), theirs) => theirs.clone(),
        };
        out.insert(key.clone(), merged);
    }
    V::dict(out)
}
