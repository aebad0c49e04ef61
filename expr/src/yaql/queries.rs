//! Going through collections: `select`, `where`, `groupBy`, `orderBy`…

use std::cmp::Ordering;

use super::call::As::{Both, Function, Method};
use super::call::{Call, Entry, items};
use super::interp::wrong;
use super::value::{Dict, Kind, Order, R, V, unique};
use crate::workflow::Fault;

/// Items computed of a collection without end.
const ENDLESS: usize = 10_000;

pub(super) const TABLE: &[Entry] = &[
    ("select map", Method, "collection selector", |c| {
        let (items, endless) = c.open_items(0)?;
        let out = items.into_iter().map(|item| c.apply(1, vec![item])).collect::<R<_>>()?;
        V::seq_open(out, Kind::Iter, endless)
    }),
    ("where filter", Method, "collection predicate", |c| {
        let (items, endless) = c.open_items(0)?;
        V::seq_open(kept(c, items)?, Kind::Iter, endless)
    }),
    ("first", Method, "collection default?", |c| {
        let first = c.open_items(0)?.0.into_iter().next();
        first.map_or_else(|| default(c, 1), Ok)
    }),
    ("last", Method, "collection default?", |c| c.items(0)?.pop().map_or_else(|| default(c, 1), Ok)),
    ("single", Method, "collection", |c| match c.items(0)?.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(stop("")),
        _ => Err(stop("Collection contains more than one item")),
    }),
    ("any", Both, "collection predicate?", |c| {
        for item in c.open_items(0)?.0 {
            if !c.has(1) || c.apply(1, vec![item])?.truthy() {
                return Ok(V::Bool(true));
            }
        }
        Ok(V::Bool(false))
    }),
    ("all", Both, "collection predicate?", |c| {
        for item in c.items(0)? {
            let value = if c.has(1) { c.apply(1, vec![item])? } else { item };
            if !value.truthy() {
                return Ok(V::Bool(false));
            }
        }
        Ok(V::Bool(true))
    }),
    ("distinct", Both, "collection keySelector?", |c| {
        let items = c.items(0)?;
        if !c.has(1) {
            return V::iter(unique(items));
        }
        let mut seen = std::collections::HashSet::new();
        let mut out = Vec::new();
        for item in items {
            if seen.insert(c.apply(1, vec![item.clone()])?) {
                out.push(item);
            }
        }
        V::iter(out)
    }),
    ("count", Method, "collection", |c| Ok(V::Int(c.items(0)?.len() as i128))),
    ("skip", Method, "collection count", |c| {
        let (items, endless) = c.open_items(0)?;
        let count = size(c.int(1)?)?;
        V::seq_open(items.into_iter().skip(count).collect(), Kind::Iter, endless)
    }),
    ("take limit", Method, "collection count", |c| {
        let (items, endless) = c.open_items(0)?;
        let count = size(c.int(1)?)?;
        let short = endless && items.len() < count;
        V::seq_open(items.into_iter().take(count).collect(), Kind::Iter, short)
    }),
    ("skipWhile", Method, "collection predicate", |c| {
        let mut out = Vec::new();
        for item in c.items(0)? {
            if !out.is_empty() || !c.apply(1, vec![item.clone()])?.truthy() {
                out.push(item);
            }
        }
        V::iter(out)
    }),
    ("takeWhile", Method, "collection predicate", |c| {
        let (items, endless) = c.open_items(0)?;
        let mut out = Vec::new();
        for item in items {
            if !c.apply(1, vec![item.clone()])?.truthy() {
                return V::iter(out);
            }
            out.push(item);
        }
        V::seq_open(out, Kind::Iter, endless)
    }),
    ("selectMany", Method, "collection selector", |c| {
        let mut out = Vec::new();
        for item in c.items(0)? {
            match c.apply(1, vec![item])? {
                V::Seq(seq) => out.extend(items(&V::Seq(seq))?),
                other => out.push(other),
            }
            c.it.charge(out.len())?;
        }
        V::iter(out)
    }),
    ("indexWhere", Method, "collection predicate", |c| {
        for (at, item) in c.open_items(0)?.0.into_iter().enumerate() {
            if c.apply(1, vec![item])?.truthy() {
                return Ok(V::Int(at as i128));
            }
        }
        Ok(V::Int(-1))
    }),
    ("lastIndexWhere", Method, "collection predicate", |c| {
        let mut found = -1;
        for (at, item) in c.items(0)?.into_iter().enumerate() {
            if c.apply(1, vec![item])?.truthy() {
                found = at as i128;
            }
        }
        Ok(V::Int(found))
    }),
    ("groupBy", Method, "collection keySelector valueSelector? aggregator?", group_by),
    ("toDict", Method, "collection keySelector valueSelector?", |c| {
        let mut dict = Dict::default();
        for item in c.items(0)? {
            let key = c.apply(1, vec![item.clone()])?;
            dict.insert(key, if c.has(2) { c.apply(2, vec![item])? } else { item });
        }
        c.it.charge(dict.entries.len() * 96)?;
        V::dict(dict)
    }),
    ("orderBy", Method, "collection selector", |c| order(c, false, false)),
    ("thenBy", Method, "collection selector", |c| order(c, false, true)),
    ("thenByDescending", Method, "collection selector", |c| order(c, true, true)),
    ("orderByDescending", Method, "collection selector", |c| order(c, true, false)),
    ("zip", Method, "collection *", |c| zip(c, None)),
    ("zipLongest", Method, "collection * **", |c| {
        let default = c.named.iter().find(|(name, _)| *name == "default").map(|(_, expr)| *expr);
        let default = default.map_or(Ok(V::Null), |expr| c.eval(expr))?;
        zip(c, Some(default))
    }),
    ("enumerate", Method, "collection start?", |c| {
        let start = c.int_or(1, 0)?;
        let pairs = c.items(0)?.into_iter().zip(start..).map(|(item, at)| V::list(vec![V::Int(at), item]));
        V::iter(pairs.collect::<R<_>>()?)
    }),
    ("reverse", Method, "collection", |c| {
        let mut items = c.items(0)?;
        items.reverse();
        V::iter(items)
    }),
    ("aggregate reduce", Method, "collection selector seed?", |c| fold(c, false)),
    ("accumulate", Method, "collection selector seed?", |c| fold(c, true)),
    ("join", Method, "collection1 collection2 predicate selector", |c| {
        let (left, right) = (c.items(0)?, c.items(1)?);
        let mut out = Vec::new();
        for a in &left {
            for b in &right {
                if c.apply(2, vec![a.clone(), b.clone()])?.truthy() {
                    out.push(c.apply(3, vec![a.clone(), b.clone()])?);
                    c.it.charge(32)?;
                }
            }
        }
        V::iter(out)
    }),
    ("defaultIfEmpty", Method, "collection default", |c| {
        let items = c.items(0)?;
        if items.is_empty() { c.value(1) } else { V::iter(items) }
    }),
    ("slice", Method, "collection length", |c| {
        let length = size(c.int(1)?)?.max(1);
        V::iter(c.items(0)?.chunks(length).map(|part| V::list(part.to_vec())).collect::<R<_>>()?)
    }),
    ("splitAt", Method, "collection index", |c| {
        let items = c.items(0)?;
        let (head, tail) = items.split_at(size(c.int(1)?)?.min(items.len()));
        V::list(vec![V::list(head.to_vec())?, V::list(tail.to_vec())?])
    }),
    ("splitWhere", Method, "collection predicate", |c| {
        let mut parts = vec![Vec::new()];
        for item in c.items(0)? {
            if c.apply(1, vec![item.clone()])?.truthy() {
                parts.push(Vec::new());
            } else if let Some(last) = parts.last_mut() {
                last.push(item);
            }
        }
        V::iter(parts.into_iter().map(V::list).collect::<R<_>>()?)
    }),
    ("sliceWhere", Method, "collection predicate", |c| {
        let mut parts: Vec<Vec<V>> = Vec::new();
        let mut before = None;
        for item in c.items(0)? {
            let now = c.apply(1, vec![item.clone()])?;
            match parts.last_mut() {
                Some(last) if before.as_ref() == Some(&now) => last.push(item),
                _ => parts.push(vec![item]),
            }
            before = Some(now);
        }
        V::iter(parts.into_iter().map(V::list).collect::<R<_>>()?)
    }),
    ("memorize", Method, "collection", |c| V::iter(c.items(0)?)),
    ("range", Function, "stop", |c| range(c, 0, c.int(0)?, 1)),
    ("range", Function, "start stop step?", |c| range(c, c.int(0)?, c.int(1)?, c.int_or(2, 1)?)),
    ("sequence", Function, "start? step?", |c| {
        let (start, step) = (c.int_or(0, 0)?, c.int_or(1, 1)?);
        c.it.charge(ENDLESS * 32)?;
        let items = (0..ENDLESS as i128).map(|at| V::Int(start.saturating_add(step.saturating_mul(at))));
        V::seq_open(items.collect(), Kind::Iter, true)
    }),
    ("repeat", Method, "value times?", |c| {
        let times = c.int_or(1, -1)?;
        let count = if times < 0 { ENDLESS } else { size(times)? };
        c.it.charge(count.saturating_mul(32))?;
        V::seq_open(vec![c.value(0)?; count], Kind::Iter, times < 0)
    }),
    ("cycle", Method, "collection", |c| {
        let items = c.items(0)?;
        c.it.charge(ENDLESS * 32)?;
        let endless = !items.is_empty();
        V::seq_open(items.into_iter().cycle().take(if endless { ENDLESS } else { 0 }).collect(), Kind::Iter, endless)
    }),
    ("generate", Function, "initial predicate producer selector? decycle?", |c| {
        let decycle = c.flag(4)?;
        let mut seen = Vec::new();
        let mut value = c.value(0)?;
        let mut out = Vec::new();
        while c.apply(1, vec![value.clone()])?.truthy() {
            if decycle {
                if seen.contains(&value) {
                    break;
                }
                seen.push(value.clone());
                c.it.step(seen.len())?;
            }
            out.push(if c.has(3) { c.apply(3, vec![value.clone()])? } else { value.clone() });
            c.it.charge(32)?;
            value = c.apply(2, vec![value])?;
        }
        V::iter(out)
    }),
    ("generateMany", Function, "initial producer selector? decycle? depthFirst?", generate_many),
];

fn size(number: i128) -> R<usize> {
    if number < 0 {
        let text = "Stop argument for islice() must be None or an integer: 0 <= x <= sys.maxsize.";
        return Err(Fault::new("ValueError", text));
    }
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

fn stop(text: &str) -> Fault {
    Fault::new("StopIteration", text)
}

fn default(c: &Call<'_, '_>, at: usize) -> R {
    if c.has(at) { c.value(at) } else { Err(stop("")) }
}

fn kept(c: &Call<'_, '_>, items: Vec<V>) -> R<Vec<V>> {
    let mut out = Vec::new();
    for item in items {
        if c.apply(1, vec![item.clone()])?.truthy() {
            out.push(item);
        }
    }
    Ok(out)
}

fn range(c: &Call<'_, '_>, start: i128, stop: i128, step: i128) -> R {
    if step == 0 {
        return Err(Fault::new("ValueError", "range() arg 3 must not be zero"));
    }
    let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
    let count = if span <= 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    c.it.step(count)?;
    c.it.charge(count.saturating_mul(32))?;
    V::iter((0..count as i128).map(|at| V::Int(start + step * at)).collect())
}

fn zip(c: &Call<'_, '_>, pad: Option<V>) -> R {
    let (first, mut endless) = c.open_items(0)?;
    let mut columns = vec![first];
    for other in c.rest() {
        match other? {
            V::Seq(seq) => {
                endless &= seq.endless;
                columns.push(seq.items.clone());
            }
            _ => return wrong(),
        }
    }
    let lengths = || columns.iter().map(Vec::len);
    let count = if pad.is_some() { lengths().max() } else { lengths().min() }.unwrap_or(0);
    c.it.charge(count.saturating_mul(columns.len() * 32))?;
    let pad = pad.unwrap_or(V::Null);
    let row = |at: usize| V::list(columns.iter().map(|column| column.get(at).unwrap_or(&pad).clone()).collect());
    V::seq_open((0..count).map(row).collect::<R<_>>()?, Kind::Iter, endless)
}

fn fold(c: &Call<'_, '_>, all: bool) -> R {
    let mut items = c.items(0)?.into_iter();
    let mut value = match (c.optional(2)?, all) {
        (Some(seed), _) => seed,
        (None, _) => match items.next() {
            Some(first) => first,
            None if all => return V::iter(Vec::new()),
            None => return Err(empty()),
        },
    };
    let mut steps = vec![value.clone()];
    for item in items {
        value = c.apply(1, vec![value, item])?;
        if all {
            steps.push(value.clone());
        }
    }
    if all { V::iter(steps) } else { Ok(value) }
}

pub(super) fn empty() -> Fault {
    Fault::new("TypeError", "reduce() of empty iterable with no initial value")
}

fn group_by(c: &Call<'_, '_>) -> R {
    let mut places: std::collections::HashMap<V, usize> = std::collections::HashMap::new();
    let mut groups: Vec<(V, Vec<V>)> = Vec::new();
    for item in c.items(0)? {
        let key = c.apply(1, vec![item.clone()])?;
        let value = if c.has(2) { c.apply(2, vec![item])? } else { item };
        let at = *places.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(value);
    }
    let mut out = Vec::new();
    for (key, values) in groups {
        let values = V::list(values)?;
        let pair = V::list(vec![key.clone(), values.clone()])?;
        if !c.has(3) {
            out.push(pair);
            continue;
        }
        // The older style takes the pair and gives a pair.
        out.push(match c.apply(3, vec![values]) {
            Ok(value) => V::list(vec![key, value])?,
            Err(Fault::Raised { class, .. }) if class.starts_with("NoMatching") || class == "IndexError" => {
                c.apply(3, vec![pair])?
            }
            Err(fault) => return Err(fault),
        });
    }
    V::iter(out)
}

fn order(c: &Call<'_, '_>, descending: bool, more: bool) -> R {
    let before = match c.value(0)? {
        V::Seq(seq) if more => match &seq.order {
            Some(order) => order.as_ref().clone(),
            None => return wrong(),
        },
        _ => Order::default(),
    };
    let mut descents = before.descending;
    descents.push(descending);
    let mut keyed = Vec::new();
    for (at, item) in c.items(0)?.into_iter().enumerate() {
        let mut keys = before.keys.get(at).cloned().unwrap_or_default();
        keys.push(c.apply(1, vec![item.clone()])?);
        keyed.push((keys, item));
    }
    let sorted = sort(keyed, &|a: &(Vec<V>, V), b: &(Vec<V>, V)| {
        for ((a, b), descending) in a.0.iter().zip(&b.0).zip(&descents) {
            let order = compare(c, a, b, *descending)?;
            if order != Ordering::Equal {
                return Ok(order);
            }
        }
        Ok(Ordering::Equal)
    })?;
    let (keys, items) = sorted.into_iter().unzip();
    V::ordered(items, Order { keys, descending: descents })
}

fn compare(c: &Call<'_, '_>, a: &V, b: &V, descending: bool) -> R<Ordering> {
    let order = if c.it.less(a, b)? {
        Ordering::Less
    } else if c.it.less(b, a)? {
        Ordering::Greater
    } else {
        Ordering::Equal
    };
    Ok(if descending { order.reverse() } else { order })
}

/// A stable merge sort whose comparison may fail, and needn't be a total order.
fn sort<T>(mut items: Vec<T>, compare: &impl Fn(&T, &T) -> R<Ordering>) -> R<Vec<T>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let tail = items.split_off(items.len() / 2);
    let mut out = Vec::with_capacity(items.len() + tail.len());
    let mut left = sort(items, compare)?.into_iter().peekable();
    let mut right = sort(tail, compare)?.into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if compare(b, a)? == Ordering::Less { right.next() } else { left.next() };
        out.extend(next);
    }
    out.extend(left);
    out.extend(right);
    Ok(out)
}

fn generate_many(c: &Call<'_, '_>) -> R {
    let (decycle, depth_first) = (c.flag(3)?, c.flag(4)?);
    let mut queue = std::collections::VecDeque::from([c.value(0)?]);
    let mut seen = Vec::new();
    let mut out = Vec::new();
    while let Some(value) = queue.pop_front() {
        if decycle {
            if seen.contains(&value) {
                continue;
            }
            seen.push(value.clone());
            c.it.step(seen.len())?;
        }
        out.push(if c.has(2) { c.apply(2, vec![value.clone()])? } else { value.clone() });
        c.it.charge(64)?;
        let next = items(&c.apply(1, vec![value])?)?;
        if depth_first {
            for item in next.into_iter().rev() {
                queue.push_front(item);
            }
        } else {
            queue.extend(next);
        }
    }
    V::iter(out)
}
