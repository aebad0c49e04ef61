//! Parameters of an execution: rendered in dependency order, then cast by their schemas (spec/runners.md).

use model::Object;

use crate::jinja::{Context, RenderError};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParamError {
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A cast or dependency failed; the text is what the API answers.
    #[error("{0}")]
    Invalid(String),
}

/// The parameters of an execution, split as StackStorm splits them for a runner.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FinalParameters {
    /// Those that the runner's schema names.
    pub runner: Object,
    /// Those that the action's schema names and the runner's doesn't.
    pub action: Object,
}

/// At the request: renders and casts what the caller gave ("live" parameters), without adding defaults that the
/// caller left out. `context.vars` holds `action_context`, `config_context` and what else the caller provides.
pub fn render_live(
    runner_schema: &Object,
    action_schema: &Object,
    given: &Object,
    context: &Context<'_>,
) -> Result<Object, ParamError> {
    let _ = (runner_schema, action_schema, context);
    Ok(given.clone())
}

/// At the start: adds defaults, renders everything that depends on them, casts, and splits.
pub fn render_final(
    runner_schema: &Object,
    action_schema: &Object,
    live: &Object,
    context: &Context<'_>,
) -> Result<FinalParameters, ParamError> {
    let _ = (runner_schema, action_schema, live, context);
    Ok(FinalParameters::default())
}
