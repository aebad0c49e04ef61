//! Patterns, which may be templates (spec/rules.md §12).

use std::borrow::Cow;
use std::sync::Arc;

use model::python;
use serde_json::Value;

use super::Scope;
use crate::jinja::{Compiled, RenderError, Variables, compile, is_template};

#[derive(Debug)]
pub(super) enum Pattern {
    /// Only texts are templates; everything else is taken as it is.
    Plain(Value),
    Template {
        source: String,
        text: Result<Arc<Compiled>, RenderError>,
        /// Gives JSON, so that a value keeps its type.
        typed: Option<Result<Arc<Compiled>, RenderError>>,
    },
}

impl Pattern {
    pub(super) fn new(pattern: &Value) -> Self {
        match pattern.as_str() {
            Some(source) if is_template(source) => Self::Template {
                source: source.to_owned(),
                text: compile(source, false),
                typed: as_json(source).map(|typed| compile(&typed, false)),
            },
            _ => Self::Plain(pattern.clone()),
        }
    }

    /// As it was written, for messages.
    pub(super) fn source(&self) -> String {
        match self {
            Self::Plain(value) => python::text(value),
            Self::Template { source, .. } => source.clone(),
        }
    }

    pub(super) fn render(&self, scope: &Scope<'_>) -> Result<Cow<'_, Value>, RenderError> {
        let (text, typed) = match self {
            Self::Plain(value) => return Ok(Cow::Borrowed(value)),
            Self::Template { text, typed, .. } => (text, typed),
        };
        let lookup = |name: &str| (name == scope.name).then(|| scope.jinja());
        let variables = Variables { lookup: &lookup, keys: scope.keys, user_keys: false, legacy_system: true };
        let run = |compiled: &Result<Arc<Compiled>, RenderError>| match compiled {
            Ok(compiled) => compiled.text(&variables),
            Err(error) => Err(error.clone()),
        };
        if let Some(typed) = typed
            && let Ok(value) = serde_json::from_str(&run(typed)?)
        {
            return Ok(Cow::Owned(value));
        }
        run(text).map(|text| Cow::Owned(Value::String(text)))
    }
}

/// The template with `| to_complex` before the last `}}` of the first line that has an expression.
fn as_json(source: &str) -> Option<String> {
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        if let (Some(open), Some(close)) = (line.find("{{"), line.rfind("}}"))
            && open + 2 <= close
        {
            let at = start + close;
            return Some(format!("{} | to_complex {}", &source[..at], &source[at..]));
        }
        start += line.len();
    }
    None
}
