//! The timers duty: fires every slot of every timer trigger once (spec/scheduling.md §10, spec/ha.md I-T1 – I-T6).
//!
//! [`decider`] is pure: it knows the timers and says which slots are due. The engine loads and follows the triggers,
//! sleeps until the next slot, and commits ticks under the duty's fence. A tick's id derives from its slot, so that
//! whoever takes the duty over can begin at the durable cursor and repeat what it isn't sure of.

mod decider;
mod emit;
mod engine;
mod stats;

use std::sync::Arc;

use domain::Services;
use model::{Duty, Lease};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::duty::while_held;
use crate::settings::TimerSettings;

pub use stats::{TimerLateness, TimerStats};

/// The timers engine. Every node may run one; it works while its node holds [`Duty::Timers`].
#[derive(Debug)]
pub struct TimersEngine {
    services: Arc<Services>,
    settings: TimerSettings,
    leases: watch::Receiver<Option<Lease>>,
    stats: Arc<TimerStats>,
}

impl TimersEngine {
    pub fn new(services: Arc<Services>, settings: TimerSettings, leases: watch::Receiver<Option<Lease>>) -> Self {
        Self { services, settings, leases, stats: Arc::default() }
    }

    /// How late ticks are, for health and metrics.
    pub fn stats(&self) -> Arc<TimerStats> {
        self.stats.clone()
    }

    /// Fires timers, whenever the duty is held, until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { services, settings, leases, stats } = self;
        while_held(Duty::Timers, leases, &cancel, |lease, stop| {
            engine::fire_while_held(services.clone(), settings.clone(), stats.clone(), lease, stop)
        })
        .await;
    }
}
