//! The backup scheduler duty: whatever stopped moving goes on, or is decided (spec/ha.md I-E1, DESIGN §2 rules 1, 4).
//!
//! | what | when | what is done |
//! |---|---|---|
//! | requested, scheduled, delayed | `check_at` is over | the scheduler is rung again |
//! | running, pausing, resuming | the claim's session is dead | `abandoned`, by compare-and-set on that very claim |
//! | the same, of a workflow that has begun | the same | its claim is taken away: the workflow engine ends it |
//! | the same, of a workflow that hasn't | the same | its claim is taken away, and a runner is asked to begin it |
//! | canceling | the claim's session is dead, or it has no claim | `canceled` |
//! | canceling | `check_at` is over | its runner is told again |
//! | completed, something to follow | it should have happened by now | the notifier is rung again |
//! | trigger instance | `check_at` is over | the rules engine is rung again |
//! | permit | its execution is over or gone | deleted, and given back to the coordinator |
//!
//! Ringing again writes nothing; what was rung is left alone for a while, growing each time. Nothing is rung while the
//! queue in question is long: its jobs are there, they only have to wait.
//!
//! Beside it the [`DeadLetterOffice`] ends what the bus gave up on.

mod backoff;
mod dead;
mod permits;
mod sweep;
mod verdict;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Services;
use model::{Duty, Lease, Session};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::duty::{fence, while_held};
use crate::queue::pause;
use crate::settings::RecoverySettings;
pub use dead::DeadLetterOffice;
use permits::PermitSweep;
use sweep::Sweep;

/// Who is alive, as the group knows it.
pub trait LiveSessions: Send + Sync {
    /// The sessions that have not ended; `None` while the group can't say, and then nobody is declared dead.
    fn live_sessions(&self) -> Option<Vec<Session>>;
}

impl<F: Fn() -> Option<Vec<Session>> + Send + Sync> LiveSessions for F {
    fn live_sessions(&self) -> Option<Vec<Session>> {
        self()
    }
}

/// The backup scheduler. Every node may run one; it works while its node holds [`Duty::BackupScheduler`].
pub struct BackupScheduler {
    services: Arc<Services>,
    settings: RecoverySettings,
    leases: watch::Receiver<Option<Lease>>,
    session: watch::Receiver<Option<Session>>,
    live: Arc<dyn LiveSessions>,
}

/// Between looks at who lives, which cost nothing.
const LOOK: Duration = Duration::from_millis(200);

impl Debug for BackupScheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupScheduler").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl BackupScheduler {
    /// `session` is this node's own: without one, its view of the others may be old and nobody is declared dead.
    pub fn new(
        services: Arc<Services>,
        settings: RecoverySettings,
        leases: watch::Receiver<Option<Lease>>,
        session: watch::Receiver<Option<Session>>,
        live: Arc<dyn LiveSessions>,
    ) -> Self {
        Self { services, settings, leases, session, live }
    }

    /// Sweeps, whenever the duty is held, until `cancel`. The first sweep is at once.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { services, settings, leases, session, live } = self;
        while_held(Duty::BackupScheduler, leases, &cancel, |lease, stop| {
            let permits = PermitSweep::new(fence(Duty::BackupScheduler, lease));
            let mut sweep = Sweep::new(services.clone(), settings.clone(), session.clone(), live.clone(), permits);
            let interval = settings.interval;
            async move {
                loop {
                    if let Err(error) = sweep.once().await {
                        tracing::warn!(%error, "a recovery sweep was cut short; trying again");
                    }
                    let next = Instant::now() + interval;
                    // What a node that just died held is decided at once.
                    loop {
                        if !pause(interval.min(LOOK), &stop).await {
                            return;
                        }
                        if Instant::now() >= next || sweep.sees_other_sessions() {
                            break;
                        }
                    }
                }
            }
        })
        .await;
    }
}
