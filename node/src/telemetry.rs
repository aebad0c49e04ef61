//! The node's metrics and traces: who records them, who sends them, what `/metrics` shows.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use domain::Services;
use gateway::{Metrics, Readiness};
use telemetry::{Exporter, ExporterOptions, Registry, Watcher};

use crate::config;

/// What a node's telemetry is made of.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    token: Option<String>,
    /// Sends traces, if somebody takes them.
    pub exporter: Option<Exporter>,
}

impl Telemetry {
    /// Records from now on, and watches what `services` do.
    pub fn start(config: &config::Telemetry, node: &str, services: &Services) -> Result<Self> {
        let registry = Registry::install();
        let version = env!("CARGO_PKG_VERSION");
        metrics::gauge!("squall_build_info", "version" => version).set(1.0);
        let (exporter, queue) = match &config.otlp_endpoint {
            None => (None, None),
            Some(endpoint) => {
                let mut options = ExporterOptions::new(endpoint.reveal(), node);
                options.service_name.clone_from(&config.service_name);
                options.version = version.to_owned();
                let headers = config.otlp_headers.iter();
                options.headers = headers.map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
                let made = Exporter::new(options);
                let (exporter, queue) = made.map_err(|error| anyhow!("key `telemetry.otlp_endpoint`: {error}"))?;
                (Some(exporter), Some(queue))
            }
        };
        // Only the first one watches; there is no other.
        let _ = services.observer.set(Arc::new(Watcher::new(node, queue)));
        let token = config.metrics_token.as_ref().map(|token| token.reveal().to_owned());
        Ok(Self { registry, token, exporter })
    }

    /// What `/metrics` asks.
    pub fn metrics(&self, readiness: Arc<dyn Readiness>) -> Arc<dyn Metrics> {
        Arc::new(Scrape { registry: self.registry.clone(), token: self.token.clone(), readiness })
    }
}

/// Answers scrapes.
struct Scrape {
    registry: Registry,
    token: Option<String>,
    readiness: Arc<dyn Readiness>,
}

impl std::fmt::Debug for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

#[async_trait]
impl Metrics for Scrape {
    async fn render(&self) -> String {
        for dependency in self.readiness.check().await {
            let up = if dependency.ready { 1.0 } else { 0.0 };
            metrics::gauge!("squall_dependency_up", "dependency" => dependency.name).set(up);
        }
        // a panic in there must not cost the scrape
        let _ = tokio::task::spawn_blocking(telemetry::sample_process).await;
        self.registry.render()
    }

    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}
