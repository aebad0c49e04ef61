//! The garbage collector duty (spec/scheduling.md §9, spec/model.md §13, invariant G1).
//!
//! Deletes by id in batches, under the duty's fence and a rate limit: completed executions with their output and
//! results, old output, processed trigger instances, enforcement records, tokens, expired datastore keys, and
//! snapshots that nothing refers to. Never what is not completed, never what is younger than its time to live.

mod collections;
mod inquiries;
mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use domain::Services;
use model::{Duty, Lease};
use store::{Fence, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::duty::{fence, while_held};
use crate::queue::pause;
use crate::settings::GarbageSettings;
use snapshots::Snapshots;

/// The garbage collector. Every node may run one; it works while its node holds [`Duty::GarbageCollector`].
#[derive(Debug)]
pub struct GarbageCollector {
    services: Arc<Services>,
    settings: GarbageSettings,
    leases: watch::Receiver<Option<Lease>>,
}

/// Shared by the collections of one lease.
#[derive(Debug)]
struct Collector {
    services: Arc<Services>,
    settings: GarbageSettings,
    fence: Fence,
    stop: CancellationToken,
}

/// Why a collection ends early.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the collector is to stop")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl GarbageCollector {
    pub fn new(services: Arc<Services>, settings: GarbageSettings, leases: watch::Receiver<Option<Lease>>) -> Self {
        Self { services, settings, leases }
    }

    /// Collects, whenever the duty is held, until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { services, settings, leases } = self;
        while_held(Duty::GarbageCollector, leases, &cancel, |lease, stop| {
            let collector = Collector {
                services: services.clone(),
                settings: settings.clone(),
                fence: fence(Duty::GarbageCollector, lease),
                stop,
            };
            async move { collector.run().await }
        })
        .await;
    }
}

impl Collector {
    async fn run(&self) {
        let mut snapshots = Snapshots::default();
        let mut collect_at = Instant::now();
        loop {
            if self.report("keys", self.expired_keys().await) {
                return;
            }
            if self.report("named_requests", self.named_requests().await) {
                return;
            }
            if self.settings.purge_inquiries && self.report("inquiries", self.inquiries().await) {
                return;
            }
            if Instant::now() >= collect_at {
                if self.collect(&mut snapshots).await {
                    return;
                }
                collect_at = Instant::now() + self.settings.collection_interval;
            }
            let rest = collect_at.saturating_duration_since(Instant::now());
            let rest = rest.min(self.settings.key_expiry_interval).max(Duration::from_millis(10));
            if !pause(rest, &self.stop).await {
                return;
            }
        }
    }

    /// All collections, one after the other. True if the collector is to stop.
    async fn collect(&self, snapshots: &mut Snapshots) -> bool {
        let settings = &self.settings;
        let before = |ttl: Option<Duration>| ttl.map(|ttl| self.services.now().minus(ttl));
        if let Some(before) = before(settings.executions_ttl) {
            if self.rest(self.report("executions", self.executions(before).await)).await {
                return true;
            }
            if settings.snapshots && self.rest(self.report("snapshots", snapshots.collect(self).await)).await {
                return true;
            }
        }
        if let Some(before) = before(settings.execution_output_ttl)
            && self.rest(self.report("execution_outputs", self.outputs(before).await)).await
        {
            return true;
        }
        if let Some(before) = before(settings.trigger_instances_ttl)
            && self.rest(self.report("trigger_instances", self.trigger_instances(before).await)).await
        {
            return true;
        }
        if let Some(before) = before(settings.rule_enforcements_ttl)
            && self.rest(self.report("rule_enforcements", self.rule_enforcements(before).await)).await
        {
            return true;
        }
        if let Some(before) = before(settings.tokens_ttl)
            && self.rest(self.report("tokens", self.tokens(before).await)).await
        {
            return true;
        }
        false
    }

    async fn rest(&self, stop: bool) -> bool {
        stop || !pause(self.settings.sleep_delay, &self.stop).await
    }

    /// Says what a collection did. True if the collector is to stop.
    fn report(&self, what: &'static str, outcome: Result<u64, Cut>) -> bool {
        match outcome {
            Ok(0) => false,
            Ok(deleted) => {
                tracing::info!(what, deleted, "collected");
                false
            }
            Err(Cut::Stopped) => true,
            Err(Cut::Store(StoreError::StaleFence { current, .. })) => {
                tracing::warn!(current, "another node collects");
                true
            }
            Err(Cut::Store(error)) => {
                tracing::warn!(what, %error, "the collection was cut short; it goes on next time");
                false
            }
        }
    }
}
