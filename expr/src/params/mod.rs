//! Parameters of an execution: rendered in dependency order, then cast by their schemas (spec/rules.md §14,
//! spec/runners.md §3.2).
//!
//! [`render_live`] is for the request, [`render_final`] for the start. Both build a graph of the context's variables
//! and the parameters; a parameter whose value or default is a template depends on the names in it. Requests without
//! any template skip the graph.

mod cast;
mod graph;
mod literal;

use model::Object;
use serde_json::Value;

use crate::jinja::{Context, RenderError, is_template};
use graph::Graph;

pub use cast::cast;
pub(crate) use literal::{python_float, python_int};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParamError {
    /// Only [`RenderError::NeedsKeys`]: fetch the keys and call again.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A missing or cyclic variable or a failing template. StackStorm keeps an execution that failed with this text.
    #[error("{0}")]
    Invalid(String),
    /// A value doesn't fit its type. No execution comes of it.
    #[error("{0}")]
    Cast(String),
}

/// The parameters of an execution, split as StackStorm splits them for a runner.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FinalParameters {
    /// Those that the runner's schema names.
    pub runner: Object,
    /// Those that the action's schema names and the runner's doesn't.
    pub action: Object,
}

/// At the request: renders and casts what the caller gave ("live" parameters). Defaults that the caller left out are
/// added only where they are templates, so that what they give is checked too. `context.vars` holds `action_context`,
/// `config_context` and what else templates may use.
pub fn render_live(
    runner_schema: &Object,
    action_schema: &Object,
    given: &Object,
    context: &Context<'_>,
) -> Result<Object, ParamError> {
    let schemas = [action_schema, runner_schema];
    if !given.values().any(has_template) && !schemas.iter().any(|schema| defaults(schema).any(has_template)) {
        let cast_one = |(name, value): (&String, &Value)| {
            let value = effective(name, value, schemas);
            Ok((name.clone(), cast_parameter(name, value.clone(), schemas)?))
        };
        return given.iter().map(cast_one).collect();
    }
    let mut graph = Graph::new(context);
    for (name, value) in given {
        graph.add(name, value);
    }
    graph.add_defaults(schemas);
    let mut resolved = graph.resolve()?;
    let mut live = Object::new();
    for name in given.keys() {
        let value = resolved.remove(name).unwrap_or_default();
        live.insert(name.clone(), cast_parameter(name, value, schemas)?);
    }
    for (name, schema) in schemas.iter().flat_map(|schema| schema.iter()) {
        let from_template = schema.get("default").is_some_and(has_template);
        if !from_template || is_immutable(schema) || given.contains_key(name) {
            continue;
        }
        if let Some(value) = resolved.remove(name) {
            live.insert(name.clone(), cast_parameter(name, value, schemas)?);
        }
    }
    Ok(live)
}

/// At the start: adds defaults (null where there is none), renders everything in them, casts, and splits. Values in
/// `live` are not rendered again.
pub fn render_final(
    runner_schema: &Object,
    action_schema: &Object,
    live: &Object,
    context: &Context<'_>,
) -> Result<FinalParameters, ParamError> {
    let schemas = [action_schema, runner_schema];
    let mut resolved = if schemas.iter().any(|schema| defaults(schema).any(has_template)) {
        let mut graph = Graph::new(context);
        for (name, value) in live {
            graph.add_value(name, value);
        }
        graph.add_defaults(schemas);
        graph.resolve()?
    } else {
        plain(schemas, live)
    };
    let mut result = FinalParameters::default();
    for (name, value) in std::mem::take(&mut resolved) {
        if runner_schema.contains_key(&name) {
            let value = cast_parameter(&name, value, schemas)?;
            result.runner.insert(name, value);
        } else if action_schema.contains_key(&name) {
            let value = cast_parameter(&name, value, schemas)?;
            result.action.insert(name, value);
        }
    }
    Ok(result)
}

/// Values and defaults in their order, when none of them is a template.
fn plain(schemas: [&Object; 2], live: &Object) -> Object {
    let mut all = live.clone();
    for (name, schema) in schemas.iter().flat_map(|schema| schema.iter()) {
        let null = all.get(name).is_none_or(Value::is_null);
        if null || is_immutable(schema) {
            all.insert(name.clone(), schema.get("default").cloned().unwrap_or_default());
        }
    }
    all
}

/// A given value, or the default that takes its place because the value is null or the parameter immutable.
fn effective<'v>(name: &str, given: &'v Value, schemas: [&'v Object; 2]) -> &'v Value {
    let mut value = given;
    for schema in schemas.iter().filter_map(|schema| schema.get(name)) {
        if value.is_null() || is_immutable(schema) {
            value = schema.get("default").unwrap_or(&Value::Null);
        }
    }
    value
}

fn cast_parameter(name: &str, value: Value, [action, runner]: [&Object; 2]) -> Result<Value, ParamError> {
    let schema = runner.get(name).or_else(|| action.get(name));
    let kind = schema.and_then(|schema| schema.get("type")).and_then(Value::as_str);
    cast(value, kind).map_err(ParamError::Cast)
}

fn defaults(schema: &Object) -> impl Iterator<Item = &Value> {
    schema.values().filter_map(|parameter| parameter.get("default"))
}

fn is_immutable(schema: &Value) -> bool {
    schema.get("immutable") == Some(&Value::Bool(true))
}

/// Whether a value, or any text inside a container, holds `{{` or `{%`.
fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text) && (text.contains("{{") || text.contains("{%")),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(fields) => {
            fields.iter().any(|(name, field)| name.contains("{{") || name.contains("{%") || has_template(field))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
