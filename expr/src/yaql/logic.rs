//! Choosing between values.

use super::call::As::{Both, Function, Method};
use super::call::Entry;
use super::interp::wrong;
use super::parser::Arg;
use super::value::{R, V};
use crate::workflow::Fault;

pub(super) const TABLE: &[Entry] = &[
    ("switch", Function, "*", |c| {
        for (condition, value) in c.mappings()? {
            if c.eval(condition)?.truthy() {
                return c.eval(value);
            }
        }
        Ok(V::Null)
    }),
    ("coalesce", Function, "*", |c| {
        for value in c.rest() {
            let value = value?;
            if !matches!(value, V::Null) {
                return Ok(value);
            }
        }
        Ok(V::Null)
    }),
    ("selectCase", Function, "*", |c| {
        let mut count = 0;
        for condition in c.rest() {
            if condition?.truthy() {
                break;
            }
            count += 1;
        }
        Ok(V::Int(count))
    }),
    ("selectAllCases", Function, "*", |c| {
        let mut out = Vec::new();
        for (at, condition) in c.rest().enumerate() {
            if condition?.truthy() {
                out.push(V::Int(at as i128));
            }
        }
        V::iter(out)
    }),
    ("examine", Function, "*", |c| {
        V::iter(c.rest().map(|value| value.map(|value| V::Bool(value.truthy()))).collect::<R<_>>()?)
    }),
    ("switchCase", Both, "case *", |c| {
        let case = c.int(0)?;
        let args = c.unevaluated();
        let at = usize::try_from(case).ok().filter(|at| *at < args.len()).or(args.len().checked_sub(1));
        match at.map(|at| args[at]) {
            None => Ok(V::Null),
            Some(Arg::Plain(expr)) => c.eval(expr),
            Some(_) => wrong(),
        }
    }),
    ("assert", Method, "obj condition message?", |c| {
        let value = c.value(0)?;
        if c.apply(1, vec![value.clone()])?.truthy() {
            return Ok(value);
        }
        let message = c.optional(2)?.map_or_else(|| "Assertion failed".to_owned(), |text| super::texts::text(&text));
        Err(Fault::new("AssertionError", message))
    }),
    ("call", Function, "name args kwargs", |c| {
        if !matches!(c.value(2)?, V::Dict(_)) {
            return wrong();
        }
        c.by_name(&c.text(0)?, c.items(1)?)
    }),
    ("let with def", Function, "* **", |_| Ok(V::Null)),
];
