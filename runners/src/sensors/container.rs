//! The role: a keeper for each sensor that this node owns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::Services;
use domain::action_token::ActionTokens;
use domain::triggers::{Dispatch, dispatch};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id as TaskId, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keeper::{Keeper, Shared};
use super::known::{Follower, Known};
use super::launch::Launcher;
use super::{Owned, Release, SensorOptions, SensorStates};

/// Events about processes that wait.
const NOTICES: usize = 256;
/// How long one may take.
const NOTICE: Duration = Duration::from_secs(5);
/// Between looks at warm interpreters without sensors.
const HOUSEKEEPING: Duration = Duration::from_secs(15);

/// Runs the sensors of this node.
pub struct SensorContainer {
    services: Arc<Services>,
    launcher: Arc<Launcher>,
    owned: watch::Receiver<Owned>,
    release: Release,
    states: SensorStates,
}

impl std::fmt::Debug for SensorContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SensorContainer").field("states", &self.states).finish_non_exhaustive()
    }
}

/// Keepers by their task.
#[derive(Default)]
struct Keepers {
    tasks: JoinSet<bool>,
    places: HashMap<TaskId, (String, u64)>,
    /// Epoch of each sensor that is kept.
    epochs: HashMap<String, u64>,
}

impl SensorContainer {
    /// `owned` says which sensors this node runs and until when; `release` is called once what left it has stopped.
    pub fn new(
        services: Arc<Services>,
        options: SensorOptions,
        tokens: ActionTokens,
        owned: watch::Receiver<Owned>,
        release: Release,
    ) -> Self {
        let states = SensorStates::new(services.clock.clone());
        Self { services, launcher: Arc::new(Launcher::new(options, tokens)), owned, release, states }
    }

    /// A handle on how the sensors are.
    pub fn states(&self) -> SensorStates {
        self.states.clone()
    }

    /// Works until `cancel`; then all processes end, all sensors are released, and it returns.
    pub async fn run(self, cancel: CancellationToken) {
        let (known, on_known) = watch::channel(Arc::new(Known::default()));
        let (triggers, on_triggers) = watch::channel(Arc::default());
        let (notices, on_notices) = mpsc::channel(NOTICES);
        let follower = Follower {
            services: self.services.clone(),
            reconcile: self.launcher.options.reconcile,
            owned: self.owned.clone(),
            known,
            triggers,
        };
        let shared = Arc::new(Shared {
            services: self.services.clone(),
            launcher: self.launcher.clone(),
            states: self.states.clone(),
            known: on_known,
            triggers: on_triggers,
            notices,
        });
        let never = CancellationToken::new();
        tokio::select! {
            () = self.keep(shared, &cancel) => {}
            // These go on while the sensors end.
            () = follower.run(never) => {}
            () = self.notify(on_notices) => {}
            () = self.keep_house() => {}
        }
    }

    async fn keep(&self, shared: Arc<Shared>, cancel: &CancellationToken) {
        let mut owned = self.owned.clone();
        let mut has_owner = true;
        let mut keepers = Keepers::default();
        loop {
            let now = owned.borrow_and_update().clone();
            for (reference, lease) in now.iter() {
                // A sensor that came back under another epoch waits for the end of the one before.
                if !keepers.epochs.contains_key(reference) {
                    let keeper =
                        Keeper::new(shared.clone(), reference.clone(), *lease, self.owned.clone(), cancel.clone());
                    keepers.add(keeper, reference, lease.epoch);
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = owned.changed(), if has_owner => has_owner = changed.is_ok(),
                Some((reference, epoch, clean)) = keepers.next_end() => self.give_up(reference, epoch, clean),
            }
        }
        while let Some((reference, epoch, clean)) = keepers.next_end().await {
            self.give_up(reference, epoch, clean);
        }
    }

    fn give_up(&self, reference: String, epoch: u64, clean: bool) {
        if clean {
            tracing::debug!(sensor = reference, epoch, "the sensor is released");
            (self.release)(reference, epoch);
        } else {
            tracing::error!(sensor = reference, epoch, "a process is left: the sensor's lease has to end by itself");
        }
    }

    async fn notify(&self, mut notices: mpsc::Receiver<Dispatch>) {
        while let Some(notice) = notices.recv().await {
            match tokio::time::timeout(NOTICE, dispatch(&self.services, notice)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a notice of a sensor's process is left out"),
                Err(_) => tracing::debug!("a notice of a sensor's process is left out: the store takes too long"),
            }
        }
        std::future::pending().await
    }

    async fn keep_house(&self) {
        let mut next = Instant::now();
        loop {
            next += HOUSEKEEPING;
            tokio::time::sleep_until(next).await;
            self.launcher.python.retire_idle();
        }
    }
}

impl Keepers {
    fn add(&mut self, keeper: Keeper, reference: &str, epoch: u64) {
        let task = self.tasks.spawn(keeper.run());
        self.places.insert(task.id(), (reference.to_owned(), epoch));
        self.epochs.insert(reference.to_owned(), epoch);
    }

    /// The next keeper that ended, and whether its process has; `None` if there are none. Cancel safe.
    async fn next_end(&mut self) -> Option<(String, u64, bool)> {
        loop {
            let (id, clean) = match self.tasks.join_next_with_id().await? {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::error!(%error, "a keeper of a sensor ended in a panic");
                    // Its process was killed when it was dropped, but nobody saw it go.
                    (error.id(), false)
                }
            };
            if let Some((reference, epoch)) = self.places.remove(&id) {
                self.epochs.remove(&reference);
                return Some((reference, epoch, clean));
            }
        }
    }
}
