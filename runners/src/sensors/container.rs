//! The role: a keeper for each sensor that this node owns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use domain::Services;
use domain::action_token::ActionTokens;
use domain::triggers::{Dispatch, dispatch};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id as TaskId, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keeper::{Farewell, Keeper, Shared};
use super::known::{Follower, Known};
use super::launch::Launcher;
use super::report::Reporter;
use super::{Owned, Release, SensorOptions, SensorStates};

/// Events about processes that wait.
const NOTICES: usize = 256;
/// How long one may take.
const NOTICE: Duration = Duration::from_secs(5);
/// A sensor that was released is not started again under the same epoch for this long: the group may not have heard of
/// it yet. Later it has not been heard, and the sensor is still this node's.
const RELEASING: Duration = Duration::from_secs(6);
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

/// Cancels `over` once the only sensor has ended; never returns.
async fn end_with(mut last: watch::Receiver<Option<i32>>, over: CancellationToken) {
    if last.wait_for(Option::is_some).await.is_ok() {
        over.cancel();
    }
    std::future::pending().await
}

/// Keepers by their task.
#[derive(Default)]
struct Keepers {
    tasks: JoinSet<Farewell>,
    places: HashMap<TaskId, (String, u64)>,
    /// Sensors that are kept.
    kept: HashSet<String>,
    /// What was released, under which epoch, and when.
    released: HashMap<String, (u64, Instant)>,
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
    ///
    /// With [`SensorOptions::only`] it also ends with that sensor's process, and returns its exit code.
    pub async fn run(self, cancel: CancellationToken) -> Option<i32> {
        let (known, on_known) = watch::channel(Arc::new(Known::default()));
        let (triggers, on_triggers) = watch::channel(Arc::default());
        let (notices, on_notices) = mpsc::channel(NOTICES);
        let (last, on_last) = watch::channel(None);
        let follower = Follower {
            services: self.services.clone(),
            reconcile: self.launcher.options.reconcile,
            only: self.launcher.options.only.clone(),
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
            last,
        });
        let never = CancellationToken::new();
        let node = self.launcher.options.node.clone();
        let mut reporter = Reporter::new(self.services.clone(), self.states.clone(), node);
        // The keepers end with the only sensor, too.
        let over = cancel.child_token();
        tokio::select! {
            () = self.keep(shared, over.clone()) => {}
            () = end_with(on_last.clone(), over) => {}
            () = reporter.run() => {}
            // These go on while the sensors end.
            () = follower.run(never) => {}
            () = self.notify(on_notices) => {}
            () = self.keep_house() => {}
        }
        reporter.finish().await;
        *on_last.borrow()
    }

    async fn keep(&self, shared: Arc<Shared>, cancel: CancellationToken) {
        let mut owned = self.owned.clone();
        let mut has_owner = true;
        let mut keepers = Keepers::default();
        loop {
            let now = owned.borrow_and_update().clone();
            for (reference, lease) in now.iter() {
                if keepers.may_add(reference, lease.epoch) {
                    let keeper =
                        Keeper::new(shared.clone(), reference.clone(), *lease, self.owned.clone(), cancel.clone());
                    keepers.add(keeper, reference, lease.epoch);
                }
            }
            let chance = keepers.next_chance();
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = owned.changed(), if has_owner => has_owner = changed.is_ok(),
                Some((reference, epoch, farewell)) = keepers.next_end() => self.give_up(reference, epoch, farewell),
                () = tokio::time::sleep_until(chance.unwrap_or_else(Instant::now)), if chance.is_some() => {}
            }
        }
        while let Some((reference, epoch, farewell)) = keepers.next_end().await {
            self.give_up(reference, epoch, farewell);
        }
    }

    fn give_up(&self, reference: String, epoch: u64, farewell: Farewell) {
        match farewell {
            Farewell::Release => {
                tracing::debug!(sensor = reference, epoch, "the sensor is released");
                (self.release)(reference, epoch);
            }
            Farewell::Replaced => {}
            Farewell::Unclean => {
                tracing::error!(
                    sensor = reference,
                    epoch,
                    "a process is left: the sensor's lease has to end by itself"
                );
            }
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
        self.kept.insert(reference.to_owned());
    }

    /// A sensor that came back under another epoch waits for the end of the one before.
    fn may_add(&self, reference: &str, epoch: u64) -> bool {
        let is_releasing =
            self.released.get(reference).is_some_and(|(released, at)| *released == epoch && at.elapsed() < RELEASING);
        !self.kept.contains(reference) && !is_releasing
    }

    /// When a release has had its time next.
    fn next_chance(&mut self) -> Option<Instant> {
        self.released.retain(|_, (_, at)| at.elapsed() < RELEASING);
        self.released.values().map(|(_, at)| *at + RELEASING).min()
    }

    /// The next keeper that ended, and how; `None` if there are none. Cancel safe.
    async fn next_end(&mut self) -> Option<(String, u64, Farewell)> {
        loop {
            let (id, farewell) = match self.tasks.join_next_with_id().await? {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::error!(%error, "a keeper of a sensor ended in a panic");
                    // Its process was killed when it was dropped, but nobody saw it go.
                    (error.id(), Farewell::Unclean)
                }
            };
            if let Some((reference, epoch)) = self.places.remove(&id) {
                self.kept.remove(&reference);
                if farewell != Farewell::Replaced {
                    self.released.insert(reference.clone(), (epoch, Instant::now()));
                }
                return Some((reference, epoch, farewell));
            }
        }
    }
}
