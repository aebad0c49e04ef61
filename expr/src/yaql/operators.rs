//! Operators (spec/orquesta.md §26.3).

use std::cmp::Ordering;
use std::collections::HashSet;

use super::call::unmatched;
use super::interp::It;
use super::value::{Dict, Kind, R, V};
use super::{dates, regexes};
use crate::workflow::Fault;

pub(super) fn unary(operator: &str, value: V) -> R {
    match (operator, value) {
        ("not", value) => Ok(V::Bool(!value.truthy())),
        ("-", V::Int(number)) => number.checked_neg().map(V::Int).ok_or_else(too_large),
        ("-", V::Float(number)) => Ok(V::Float(-number)),
        ("-", V::Span(span)) => Ok(V::Span(-span)),
        ("+", value @ (V::Int(_) | V::Float(_) | V::Span(_))) => Ok(value),
        _ => Err(unmatched(&format!("#unary_operator_{operator}"))),
    }
}

fn too_large() -> Fault {
    Fault::limit("an integer is too large")
}

pub(super) fn binary(it: &It<'_>, operator: &str, left: &V, right: &V) -> R {
    let found = match operator {
        "=" => Some(V::Bool(left == right)),
        "!=" => Some(V::Bool(left != right)),
        "<" | ">" | "<=" | ">=" => compare(operator, left, right),
        "in" => {
            if let V::Seq(seq) = right {
                // Comparing is cheaper than evaluating.
                it.step(seq.items.len() / 16)?;
            }
            contains(right, left).map(V::Bool)
        }
        "=~" | "!~" => match (left, right) {
            (V::Text(text), V::Text(_) | V::Regex(_)) => {
                Some(V::Bool(regexes::is_match(right, text)? == (operator == "=~")))
            }
            _ => None,
        },
        _ => match arithmetic(operator, left, right)? {
            Some(found) => Some(found),
            None => joined(it, operator, left, right)?,
        },
    };
    found.ok_or_else(|| unmatched(&format!("#operator_{operator}")))
}

fn arithmetic(operator: &str, left: &V, right: &V) -> R<Option<V>> {
    let zero = |text: &str| Err(Fault::new("ZeroDivisionError", text));
    let found = match (left, right) {
        (V::Int(a), V::Int(b)) => match operator {
            "+" => a.checked_add(*b).map(V::Int),
            "-" => a.checked_sub(*b).map(V::Int),
            "*" => a.checked_mul(*b).map(V::Int),
            "/" if *b == 0 => return zero("integer division or modulo by zero"),
            "mod" if *b == 0 => return zero("integer modulo by zero"),
            "/" => a.checked_div(*b).map(|q| V::Int(if (a % b != 0) && ((a < &0) != (b < &0)) { q - 1 } else { q })),
            "mod" => a.checked_rem(*b).map(|r| V::Int(if r != 0 && ((r < 0) != (*b < 0)) { r + b } else { r })),
            _ => return Ok(None),
        },
        (V::Int(_) | V::Float(_), V::Int(_) | V::Float(_)) => {
            let (a, b) = (left.float(), right.float());
            Some(V::Float(match operator {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                "/" if b == 0.0 => return zero("float division by zero"),
                "mod" if b == 0.0 => return zero("float modulo"),
                "/" => a / b,
                "mod" => a - b * (a / b).floor(),
                _ => return Ok(None),
            }))
        }
        _ => return dates::arithmetic(operator, left, right),
    };
    found.map(Some).ok_or_else(too_large)
}

/// `+`, `-` and `*` of texts and collections.
fn joined(it: &It<'_>, operator: &str, left: &V, right: &V) -> R<Option<V>> {
    Ok(match (operator, left, right) {
        ("+", V::Text(a), V::Text(b)) => {
            it.charge(a.len() + b.len())?;
            Some(V::text(format!("{a}{b}")))
        }
        ("+", V::Seq(a), V::Seq(b)) => {
            it.charge((a.items.len() + b.items.len()) * 32)?;
            let all = a.items.iter().chain(&b.items).cloned().collect();
            Some(if a.kind == Kind::Set && b.kind == Kind::Set { V::set(all)? } else { V::list(all)? })
        }
        ("+", V::Dict(a), V::Dict(b)) => {
            it.charge((a.entries.len() + b.entries.len()) * 96)?;
            Some(V::dict(a.entries.iter().chain(&b.entries).cloned().collect::<Dict>())?)
        }
        ("-", V::Seq(a), V::Seq(b)) if a.kind == Kind::Set && b.kind == Kind::Set => {
            it.step(a.items.len() + b.items.len())?;
            let gone: HashSet<&V> = b.items.iter().collect();
            Some(V::set(a.items.iter().filter(|item| !gone.contains(item)).cloned().collect())?)
        }
        ("*", V::Text(text), V::Int(count)) | ("*", V::Int(count), V::Text(text)) => {
            let count = usize::try_from((*count).max(0)).unwrap_or(usize::MAX);
            it.charge(text.len().saturating_mul(count))?;
            Some(V::text(text.repeat(if text.is_empty() { 0 } else { count })))
        }
        ("*", V::Seq(seq), V::Int(count)) | ("*", V::Int(count), V::Seq(seq)) if seq.kind == Kind::List => {
            let count = usize::try_from((*count).max(0)).unwrap_or(usize::MAX);
            it.charge(seq.items.len().saturating_mul(count).saturating_mul(32))?;
            let count = if seq.items.is_empty() { 0 } else { count };
            Some(V::list(std::iter::repeat_n(&seq.items, count).flatten().cloned().collect())?)
        }
        _ => None,
    })
}

fn compare(operator: &str, left: &V, right: &V) -> Option<V> {
    let order = match (left, right) {
        (V::Null, V::Null) => Some(Ordering::Equal),
        (V::Null, _) => Some(Ordering::Less),
        (_, V::Null) => Some(Ordering::Greater),
        (V::Int(a), V::Int(b)) => Some(a.cmp(b)),
        (V::Int(_) | V::Float(_), V::Int(_) | V::Float(_)) => left.float().partial_cmp(&right.float()),
        (V::Text(a), V::Text(b)) => Some(a.cmp(b)),
        (V::Date(a), V::Date(b)) => Some(a.cmp(b)),
        (V::Span(a), V::Span(b)) => Some(a.cmp(b)),
        (V::Seq(a), V::Seq(b)) if a.kind == Kind::Set && b.kind == Kind::Set => {
            let (ours, theirs): (HashSet<&V>, HashSet<&V>) = (a.items.iter().collect(), b.items.iter().collect());
            let (below, above) = (ours.is_subset(&theirs), theirs.is_subset(&ours));
            match (below, above) {
                (true, true) => Some(Ordering::Equal),
                (true, false) => Some(Ordering::Less),
                (false, true) => Some(Ordering::Greater),
                (false, false) => None,
            }
        }
        _ => return None,
    };
    Some(V::Bool(order.is_some_and(|order| match operator {
        "<" => order.is_lt(),
        ">" => order.is_gt(),
        "<=" => order.is_le(),
        _ => order.is_ge(),
    })))
}

/// `item in collection`.
pub(super) fn contains(collection: &V, item: &V) -> Option<bool> {
    match (collection, item) {
        (V::Seq(seq), _) => Some(seq.items.contains(item)),
        (V::Text(text), V::Text(part)) => Some(text.contains(&**part)),
        _ => None,
    }
}
