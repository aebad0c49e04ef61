//! What the conductor asks of expressions: evaluate them in a scope (spec/orquesta.md §6.5, §24).

use std::fmt;

use model::resource::Object;
use serde_json::Value;

use super::status::Status;

/// What an expression can see.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub ctx: &'a Object,
    pub task: Option<CurrentTask<'a>>,
    /// What `item()` gives.
    pub item: Option<&'a Value>,
    pub tasks: &'a dyn Tasks,
}

/// The task that an expression belongs to.
#[derive(Debug, Clone, Copy)]
pub struct CurrentTask<'a> {
    pub id: &'a str,
    pub route: u32,
    /// Once it has completed.
    pub result: Option<&'a Value>,
}

/// Looks tasks up for `task_status()` and `task()`.
pub trait Tasks: fmt::Debug {
    /// Of the latest run in the route or the nearest one before it; `Unset` if there is none.
    fn status(&self, task: &str, route: u32) -> Status;

    /// What `task()` shows.
    fn record(&self, task: &str, route: u32) -> Option<Value>;
}

/// Why an expression gave no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// As the error log shows it: `<class>: <text>`.
    #[error("{class}: {message}")]
    Error { class: String, message: String },
    /// Keys of the datastore have to be fetched before it can be evaluated.
    #[error("{} keys of the datastore aren't known yet", .0.len())]
    NeedsKeys(Vec<expr::KeyRequest>),
}

impl Failure {
    pub fn new(class: &str, message: impl Into<String>) -> Self {
        Self::Error { class: class.to_owned(), message: message.into() }
    }
}

/// Evaluates expressions.
pub trait Expressions: fmt::Debug + Send + Sync {
    /// Evaluates all expressions within a value, keys of mappings too.
    ///
    /// # Errors
    ///
    /// [`Failure`] of the first expression that fails.
    fn evaluate(&self, value: &Value, scope: &Scope<'_>) -> Result<Value, Failure>;

    /// Evaluates what `with` names: `None` if it is no list, also where a language has values that only look like
    /// one, such as sets (spec/orquesta.md §11).
    ///
    /// # Errors
    ///
    /// As [`Self::evaluate`].
    fn list(&self, text: &str, scope: &Scope<'_>) -> Result<Option<Vec<Value>>, Failure> {
        Ok(match self.evaluate(&Value::String(text.to_owned()), scope)? {
            Value::Array(list) => Some(list),
            _ => None,
        })
    }
}

/// Python's notion of truth (spec/orquesta.md §3).
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
