//! `/metrics` on every port, for Prometheus; and what the gateway itself counts.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderMap};
use http::{Method, StatusCode};
use subtle::ConstantTimeEq;

use crate::http::{ApiError, Reply};

/// The node's metrics as text. The node implements it over its recorder.
#[async_trait]
pub trait Metrics: Debug + Send + Sync {
    /// Everything, in Prometheus' text format. Answers within a second or two.
    async fn render(&self) -> String;

    /// What scrapers must show as `Authorization: Bearer …`; none: everybody may read.
    fn token(&self) -> Option<&str> {
        None
    }
}

/// The answer to a scrape.
pub(crate) async fn answer(metrics: &dyn Metrics, headers: &HeaderMap) -> Result<Reply, ApiError> {
    if let Some(token) = metrics.token() {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !bool::from(shown.as_bytes().ct_eq(token.as_bytes())) {
            return Err(ApiError::unauthorized("Unauthorized - the metrics need their token."));
        }
    }
    Ok(Reply::raw("text/plain; version=0.0.4; charset=utf-8", metrics.render().await))
}

/// Counts an answered request.
pub(crate) fn answered(service: &'static str, method: &Method, status: StatusCode, took: Duration) {
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        // a client may invent names without end
        _ => "other".to_owned(),
    };
    let status = status.as_u16().to_string();
    metrics::counter!("squall_http_requests_total", "service" => service, "method" => method, "status" => status)
        .increment(1);
    metrics::histogram!("squall_http_request_seconds", "service" => service).record(took.as_secs_f64());
}
