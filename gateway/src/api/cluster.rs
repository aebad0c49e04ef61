//! `/v1/cluster`: the group of nodes. These paths are Squall's own.

use serde_json::{Value, json};

use crate::context::Ctx;
use crate::http::{ApiError, Reply};
use crate::options::{Cluster, ClusterError};

fn group(ctx: &Ctx) -> Result<&dyn Cluster, ApiError> {
    ctx.gateway.cluster.as_deref().ok_or_else(ApiError::no_route)
}

pub async fn status(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&group(&ctx)?.status().await?)
}

/// 204 once the member is out of the group.
pub async fn remove(ctx: Ctx) -> Result<Reply, ApiError> {
    let member = ctx.params.get("name").to_owned();
    group(&ctx)?.remove(&member).await?;
    tracing::info!(member, user = ctx.identity.user, "a member was removed from the cluster");
    Ok(Reply::no_content())
}

/// Body `{"to": NAME}`, or none: then the group chooses.
pub async fn transfer(ctx: Ctx) -> Result<Reply, ApiError> {
    let body = if ctx.body.is_empty() { Value::Null } else { ctx.parsed_body()? };
    let to = match body.get("to") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.as_str()),
        Some(_) => return Err(ApiError::bad_request("to: must be the name of a member")),
    };
    let leader = group(&ctx)?.transfer(to).await?;
    tracing::info!(leader, user = ctx.identity.user, "the leadership was handed over");
    Reply::json(&json!({"leader": leader}))
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::NotFound(text) => Self::not_found(text),
            ClusterError::Refused(text) => Self::new(http::StatusCode::CONFLICT, text),
            ClusterError::Unavailable(text) => Self::unavailable(text),
        }
    }
}
