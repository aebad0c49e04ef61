//! YAQL as Orquesta configures it (spec/orquesta.md §26).
//!
//! [`evaluate`] gives the value of one expression. Texts are parsed once and cached; each evaluation is bounded in
//! steps, memory and nesting. Collections are computed at once, not lazily; those without end are computed up to a
//! limit and may only be looked at in part.

#![expect(clippy::mutable_key_type, reason = "patterns hash by their source, which never changes")]

mod call;
mod collections;
mod dates;
mod interp;
mod lexer;
mod logic;
mod math;
mod operators;
mod orquesta;
mod parser;
mod queries;
mod regexes;
mod strings;
mod texts;
mod value;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;
use serde_json::Value;

use crate::workflow::{Fault, Scope};
use parser::Expr;

/// Parsed texts kept.
const CACHED: usize = 8192;

/// The value of an expression.
pub(crate) struct Outcome {
    pub(crate) value: Value,
    /// Python's `str()` of it.
    pub(crate) text: String,
    /// Whether an array is a list, not a set or a view.
    pub(crate) is_list: bool,
}

type Cache = HashMap<String, Result<Arc<Expr>, Fault>>;
static CACHE: LazyLock<RwLock<Cache>> = LazyLock::new(RwLock::default);

fn compile(text: &str) -> Result<Arc<Expr>, Fault> {
    if let Some(found) = CACHE.read().get(text) {
        return found.clone();
    }
    let compiled = parser::parse(text).map(Arc::new);
    let mut cache = CACHE.write();
    if cache.len() >= CACHED {
        cache.clear();
    }
    cache.insert(text.to_owned(), compiled.clone());
    compiled
}

pub(crate) fn evaluate(text: &str, scope: &Scope<'_>, as_text: bool) -> Result<Outcome, Fault> {
    let expr = compile(text)?;
    let it = interp::It::new(scope);
    let value = it.eval(&expr, &Rc::new(interp::Env::default()))?;
    let is_list = value.is_list();
    let text = if as_text { texts::outside(&value) } else { String::new() };
    Ok(Outcome { value: value.to_json()?, text, is_list })
}

/// Only parses.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    compile(text).map(|_| ())
}
