//! Workflows: inspecting definitions, looking at what runs (spec/api.md §7.14).

use std::sync::Arc;

use domain::workflows::Workflows;

use super::executions;
use crate::context::Ctx;
use crate::http::{ApiError, Reply};

fn engine(ctx: &Ctx) -> Result<&Arc<dyn Workflows>, ApiError> {
    ctx.services().workflows.get().ok_or_else(|| ApiError::unavailable("The workflow engine is not available."))
}

/// `POST /workflows/inspect`: the body is a definition, as plain text.
pub async fn inspect(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = std::str::from_utf8(&ctx.body)
        .map_err(|error| ApiError::bad_request(format!("The definition is not UTF-8: {error}")))?;
    let as_json = ctx.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    // Clients also send the text as a JSON string.
    let quoted = if as_json { serde_json::from_str::<String>(text).ok() } else { None };
    let found = engine(&ctx)?.inspect(quoted.as_deref().unwrap_or(text)).await?;
    Reply::json(&found)
}

/// `GET /executions/{id}/workflow`: graph and timeline of the workflow that an execution stands for.
pub async fn picture(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("id");
    let execution = executions::find(&ctx, text).await?;
    match engine(&ctx)?.picture(execution.id).await? {
        Some(picture) => Reply::json(&picture),
        None => Err(ApiError::not_found(format!("Execution \"{text}\" is no workflow."))),
    }
}
