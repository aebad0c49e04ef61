//! Expressions of Orquesta workflows: YAQL in `<% %>`, Jinja in `{{ }}` and `{% %}` (spec/orquesta.md §24, §25).
//!
//! [`evaluate`] is what the engine calls for every value that may hold expressions, [`validate`] and [`variables`]
//! serve the inspection of definitions. Nothing here does I/O: what the workflow knows comes in a [`Scope`], and
//! datastore keys that aren't known yet end the evaluation with [`EvalError::NeedsKeys`].

mod data;
mod functions;
mod inspection;
mod template;
mod text;

use std::fmt;

use model::Object;
use serde_json::Value;

use crate::{KeyRequest, KeySource};

pub use inspection::{Invalid, Variable, validate, variables};
pub use text::{Language, is_expression};

pub(crate) use data::{Records, json_error};
pub(crate) use functions::{is_completed, is_failure};
pub(crate) use template::call_filter;

/// What an expression can see (spec/orquesta.md §6.5).
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The visible variables; names that start with `__` stay hidden.
    pub ctx: &'a Object,
    pub task: Option<CurrentTask<'a>>,
    /// What `item()` gives.
    pub item: Option<&'a Value>,
    pub tasks: &'a dyn Tasks,
    pub keys: &'a dyn KeySource,
}

/// The task that an expression belongs to.
#[derive(Debug, Clone, Copy)]
pub struct CurrentTask<'a> {
    pub id: &'a str,
    pub route: u32,
    /// Once it has completed.
    pub result: Option<&'a Value>,
}

/// What the workflow knows of its tasks.
pub trait Tasks: fmt::Debug {
    /// The status of the latest run in the route or the nearest one before it.
    fn status(&self, task: &str, route: u32) -> Option<String>;

    /// What `task()` shows of the latest run.
    fn record(&self, task: &str, route: u32) -> Option<Value>;
}

/// A workflow without tasks.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTasks;

impl Tasks for NoTasks {
    fn status(&self, _: &str, _: u32) -> Option<String> {
        None
    }

    fn record(&self, _: &str, _: u32) -> Option<Value> {
        None
    }
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// As the error log shows it (spec/orquesta.md §21): `<class>: <message>`.
    #[error("{class}: {message}")]
    Failed { class: &'static str, message: String },
    /// The source answered `Unknown` for these: fetch them and evaluate again.
    #[error("datastore keys have to be fetched first")]
    NeedsKeys(Vec<KeyRequest>),
}

/// What went wrong inside an expression, before it is worded for the log.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    /// The reference's class of exception and its text.
    #[error("{class}: {text}")]
    Raised { class: &'static str, text: String },
    /// A key that a mapping doesn't have.
    #[error("{0}")]
    Key(String),
    /// Jinja: the value of the whole expression is undefined.
    #[error("{0} is undefined")]
    Unresolved(String),
    #[error("datastore keys have to be fetched first")]
    NeedsKeys(Vec<KeyRequest>),
}

impl Fault {
    pub(crate) fn new(class: &'static str, text: impl Into<String>) -> Self {
        Self::Raised { class, text: text.into() }
    }

    /// Evaluation was cut off.
    pub(crate) fn limit(text: &str) -> Self {
        Self::new("LimitExceededError", text)
    }
}

/// Evaluates all expressions inside a value, keys of mappings too. A text that is exactly one expression keeps the
/// type of its value; string results are evaluated again (spec/orquesta.md §24).
///
/// # Errors
///
/// [`EvalError`] of the first expression that fails.
pub fn evaluate(value: &Value, scope: &Scope<'_>) -> Result<Value, EvalError> {
    Ok(match value {
        Value::String(text) => text::evaluate(text, scope)?.0,
        Value::Array(items) => Value::Array(items.iter().map(|item| evaluate(item, scope)).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let mut out = Object::new();
            for (name, field) in fields {
                let name = match text::language(name) {
                    Some(_) => plain_text(text::evaluate(name, scope)?.0),
                    None => name.clone(),
                };
                out.insert(name, evaluate(field, scope)?);
            }
            Value::Object(out)
        }
        other => other.clone(),
    })
}

/// Evaluates what `with` names: `None` when the value isn't a list in the reference's eyes, such as a set or a
/// mapping's view (spec/orquesta.md §11).
///
/// # Errors
///
/// [`EvalError`] of the first expression that fails.
pub fn evaluate_list(value: &Value, scope: &Scope<'_>) -> Result<Option<Vec<Value>>, EvalError> {
    let (value, is_list) = match value {
        Value::String(text) => text::evaluate(text, scope)?,
        other => (evaluate(other, scope)?, true),
    };
    Ok(match value {
        Value::Array(items) if is_list => Some(items),
        _ => None,
    })
}

fn plain_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => model::python::text(&other),
    }
}
