//! What `/healthz/ready` asks: a line for each thing that the node depends on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use domain::Services;
use gateway::{Dependency, Readiness};
use scheduler::TimerStats;
use tokio::time::timeout;

use crate::membership::Membership;

const DEADLINE: Duration = Duration::from_secs(1);

/// Ready when the store takes writes, the bus works, and the node has a session in its group.
#[derive(Debug)]
pub struct NodeReady {
    services: Arc<Services>,
    membership: Arc<Membership>,
    timers: OnceLock<Arc<TimerStats>>,
}

impl NodeReady {
    pub fn new(services: Arc<Services>, membership: Arc<Membership>) -> Self {
        Self { services, membership, timers: OnceLock::new() }
    }

    /// Shows how punctual this node's timers are.
    pub fn show_timers(&self, stats: Arc<TimerStats>) {
        // Only the first engine is shown; there is no other.
        let _ = self.timers.set(stats);
    }
}

#[async_trait]
impl Readiness for NodeReady {
    async fn check(&self) -> Vec<Dependency> {
        let store = async { self.services.store.check().await.map_err(|error| error.to_string()) };
        let bus = async { self.services.bus.check().await.map_err(|error| error.to_string()) };
        let (store, bus) = tokio::join!(timeout(DEADLINE, store), timeout(DEADLINE, bus));
        let late = |_| Err(format!("no answer within {DEADLINE:?}"));
        let mut lines: Vec<Dependency> = [
            ("store", store.unwrap_or_else(late)),
            ("bus", bus.unwrap_or_else(late)),
            ("raft", self.membership.check()),
        ]
        .into_iter()
        .map(|(name, state)| Dependency {
            name: name.to_owned(),
            ready: state.is_ok(),
            detail: state.err().unwrap_or_else(|| "ok".to_owned()),
        })
        .collect();
        if let Some(stats) = self.timers.get() {
            let late = stats.read();
            // Information, not a condition: another node may hold the timers.
            let detail = format!(
                "ok ({} ticks, {} slots missed, late by p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms)",
                late.ticks, late.missed, late.p50_ms, late.p99_ms, late.max_ms
            );
            lines.push(Dependency { name: "timers".to_owned(), ready: true, detail });
        }
        lines
    }
}
