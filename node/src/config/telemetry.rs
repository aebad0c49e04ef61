//! What monitoring systems get.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrl};

/// Metrics and traces (docs/metrics.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Whether `/metrics` is served, on every port.
    pub metrics: bool,
    /// What scrapers must show as bearer token; without one everybody may read the metrics.
    pub metrics_token: Option<Secret>,
    /// Where traces go: an OpenTelemetry collector's address for OTLP over HTTP, e.g. `http://127.0.0.1:4318`. Without
    /// one no traces are made.
    pub otlp_endpoint: Option<ServerUrl>,
    /// Sent with each request to the collector.
    pub otlp_headers: BTreeMap<String, Secret>,
    /// The traces' `service.name`.
    pub service_name: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            metrics: true,
            metrics_token: None,
            otlp_endpoint: None,
            otlp_headers: BTreeMap::new(),
            service_name: "squall".to_owned(),
        }
    }
}
