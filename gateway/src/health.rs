//! Health checks, on every port, without authentication.
//!
//! * `/healthz/live`: the process answers.
//! * `/healthz/serving`: this node's API does. Cheap; what a load balancer asks.
//! * `/healthz/ready`: everything the node stands on is there, or what isn't. What an operator asks.

use http::header::{ACCEPT, HeaderMap};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::gateway::Shared;
use crate::http::error::RETRY_AFTER_SECONDS;
use crate::http::{ApiError, Reply};
use crate::options::Readiness;

/// The paths of a health check, without the ones that a prefix would make.
pub fn is_live(path: &str) -> bool {
    path == "/healthz/live"
}

pub fn is_ready(path: &str) -> bool {
    matches!(path, "/healthz/ready" | "/healthz")
}

/// The answer, if the path is one of these.
pub async fn answer(shared: &Shared, path: &[String], headers: &HeaderMap) -> Option<Result<Reply, ApiError>> {
    match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["healthz", "live"] => Some(Ok(Reply::text("ok\n"))),
        ["healthz", "serving"] => Some(serving(shared.readiness.as_ref())),
        ["healthz", "ready"] | ["healthz"] => Some(ready(shared.readiness.as_ref(), headers).await),
        _ => None,
    }
}

/// Without Redis, say, limited work waits and everything else goes on: no reason to send clients away.
fn serving(readiness: &dyn Readiness) -> Result<Reply, ApiError> {
    if readiness.is_stopping() {
        return Err(ApiError::unavailable("The node is stopping, try again."));
    }
    match readiness.refusal() {
        Some(away) => Err(ApiError::unavailable(format!("Without the {away} nothing can be done, try again."))),
        None => Ok(Reply::text("ok\n")),
    }
}

/// A line per dependency, or JSON for those who ask for it; 503 when one isn't ready.
pub async fn ready(readiness: &dyn Readiness, headers: &HeaderMap) -> Result<Reply, ApiError> {
    let dependencies = readiness.check().await;
    let all = dependencies.iter().all(|dependency| dependency.ready);
    let wants_json = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"));
    let mut reply = if wants_json {
        let lines: Vec<_> =
            dependencies.iter().map(|d| json!({"name": d.name, "ready": d.ready, "detail": d.detail})).collect();
        Reply::json(&json!({"ready": all, "dependencies": lines}))?
    } else {
        let lines: String = dependencies
            .iter()
            .map(|d| format!("{} {}: {}\n", if d.ready { "ok  " } else { "FAIL" }, d.name, d.detail))
            .collect();
        Reply::text(lines)
    };
    if !all {
        reply.status = StatusCode::SERVICE_UNAVAILABLE;
        reply.headers.push((http::header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)));
    }
    reply.headers.push((http::header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    Ok(reply)
}
