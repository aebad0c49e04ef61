//! The Jinja environment: Jinja2's semantics, StrictUndefined, StackStorm's filters (spec/rules.md §15).
//!
//! [`render_text`] and [`render`] are what callers need. Compiled templates are cached by text; each rendering is
//! bounded in work and output. An undefined name is an error everywhere, in Jinja2's words.

pub(crate) mod complexity;
mod datastore;
mod engine;
pub(crate) mod errors;
pub(crate) mod mistakes;
pub(crate) mod percent;
mod slices;
pub(crate) mod values;

use std::cell::Cell;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use model::{Object, Scope};
use serde_json::Value;

/// How long one rendering may take, where its steps don't say it.
const MAX_TIME: Duration = Duration::from_secs(5);

thread_local! {
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A rendering begins on this thread.
pub(crate) fn begin_rendering() {
    END.set(Some(Instant::now() + MAX_TIME));
}

/// Whether the rendering under way has taken too long.
pub(crate) fn is_late() -> bool {
    END.get().is_some_and(|end| Instant::now() > end)
}

/// A datastore key that a template asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRequest {
    pub scope: Scope,
    /// Without the user's prefix.
    pub name: String,
}

/// What a [`KeySource`] says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyAnswer {
    /// The stored value: ciphertext for secrets unless asked to decrypt.
    Value { value: String, secret: bool },
    /// There is no such key.
    Absent,
    /// Not fetched yet.
    Unknown,
}

/// Gives values of datastore keys that were fetched before rendering.
pub trait KeySource: Debug + Send + Sync {
    fn get(&self, request: &KeyRequest) -> KeyAnswer;
    /// Plaintext of a secret, for the `decrypt_kv` filter.
    fn decrypt(&self, ciphertext: &str) -> Result<String, String>;
}

/// A source without any key.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeys;

impl KeySource for NoKeys {
    fn get(&self, _: &KeyRequest) -> KeyAnswer {
        KeyAnswer::Absent
    }

    fn decrypt(&self, _: &str) -> Result<String, String> {
        Err("no crypto key is configured".to_owned())
    }
}

/// What templates see.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// Top-level names.
    pub vars: &'a Object,
    /// Behind `st2kv.system…` and `st2kv.user…`.
    pub keys: &'a dyn KeySource,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// The text isn't a template: parameters keep such a text as it is (spec/rules.md §14).
    #[error("{0}")]
    Syntax(String),
    /// Undefined variable, failing filter or function.
    #[error("{0}")]
    Template(String),
    /// Evaluation was cut off; the text names the limit.
    #[error("{0}")]
    Limit(String),
    /// The source answered [`KeyAnswer::Unknown`] for these: fetch them and render again.
    #[error("datastore keys have to be fetched first")]
    NeedsKeys(Vec<KeyRequest>),
}

pub use engine::is_template;

pub(crate) use datastore::keys_of;
pub(crate) use engine::{BASE, Compiled, KEYS_VARIABLE, Scope as Variables, compile};

impl Context<'_> {
    /// Runs `then` with these variables in the engine's form.
    fn with<T>(&self, then: impl FnOnce(&Variables<'_>) -> T) -> T {
        let lookup = |name: &str| self.vars.get(name).map(values::to_jinja);
        then(&Variables { lookup: &lookup, keys: self.keys, user_keys: true, legacy_system: true })
    }
}

/// Renders every string inside `template`; a string that is exactly one `{{ expression }}` keeps the expression's
/// type. Names of fields are left alone.
pub fn render(template: &Value, context: &Context<'_>) -> Result<Value, RenderError> {
    context.with(|variables| render_value(template, variables))
}

fn render_value(template: &Value, variables: &Variables<'_>) -> Result<Value, RenderError> {
    match template {
        Value::String(text) if is_template(text) => {
            let value = compile(text, true)?.value(variables)?;
            values::from_jinja(&value).map_err(|error| RenderError::Template(error.to_string()))
        }
        Value::Array(items) => {
            let rendered = items.iter().map(|item| render_value(item, variables));
            Ok(Value::Array(rendered.collect::<Result<_, _>>()?))
        }
        Value::Object(fields) => {
            let rendered = fields.iter().map(|(name, field)| Ok((name.clone(), render_value(field, variables)?)));
            Ok(Value::Object(rendered.collect::<Result<_, _>>()?))
        }
        other => Ok(other.clone()),
    }
}

/// Renders one template to text.
pub fn render_text(template: &str, context: &Context<'_>) -> Result<String, RenderError> {
    if !is_template(template) {
        return Ok(template.to_owned());
    }
    context.with(|variables| compile(template, false)?.text(variables))
}

/// As [`render_text`], but undefined variables are empty: for texts that people read (spec/chatops.md §5). Not cached.
pub fn render_lenient(template: &str, context: &Context<'_>) -> Result<String, RenderError> {
    if !is_template(template) {
        return Ok(template.to_owned());
    }
    context.with(|variables| Compiled::lenient(template)?.text(variables))
}

#[cfg(test)]
mod tests;
