//! StackStorm's filters (spec/rules.md §15), and Jinja2's own where the engine's differ or are missing.

mod builtin;
mod data;
mod methods;
mod python;
mod regexes;
mod text;
mod versions;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

pub(crate) use data::{dumps, dumps_with};
pub(crate) use methods::call_method;
pub(crate) use text::MAGIC_NONE;

/// Adds everything to an environment.
pub(crate) fn register(env: &mut Environment<'_>) {
    builtin::register(env);
    data::register(env);
    python::register(env);
    regexes::register(env);
    text::register(env);
    versions::register(env);
}

/// An argument given by position or by name.
fn argument(positional: Option<Value>, kwargs: &Kwargs, name: &str) -> Result<Option<Value>, Error> {
    match positional {
        Some(value) => Ok(Some(value)),
        None => kwargs.get::<Option<Value>>(name),
    }
}

fn failed(text: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, text.to_string())
}
