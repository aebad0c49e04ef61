//! Concurrency policies: what the scheduler does for executions that need permits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::Event;
use coordinator::{Ask, Heard};
use domain::DomainError;
use domain::executions::update;
use domain::permits::{Admission, Reconciled, admit, adopt, reconcile, wait_for};
use model::{Execution, HeldPermit, Id, Policy, Resource, Status};
use store::{Cond, Query, StoreExt};

use super::limits;
use super::seek::{Admitted, Effect, Found, Limit};
use super::work::{Done, Stored, Work, is_open};
use crate::permits::mend_all;

/// Every call of the coordinator is over after this long.
const DEADLINE: Duration = Duration::from_secs(5);
/// Keys with waiters that are compared with the store at each look.
const KEYS_PER_LOOK: usize = 32;
/// Between looks while somebody waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(700);
/// The node that asked has this long to use a grant; others add something random.
const GRACE: Duration = Duration::from_millis(350);
/// Pause before what failed is tried again, and the longest.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// Executions of other nodes looked at together.
const ORPHANS_PER_LOOK: usize = 200;

/// When the next look and the next try are due.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) look: tokio::time::Instant,
    pub(super) retry: tokio::time::Instant,
    pause: Duration,
    /// Where the next look goes on among the keys.
    position: usize,
    /// A try is on its way.
    probing: bool,
}

impl Default for Pace {
    fn default() -> Self {
        let now = tokio::time::Instant::now();
        Self { look: now, retry: now, pause: FIRST_RETRY, position: 0, probing: false }
    }
}

fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.7..1.3))
}

/// What became of asking for the generation.
#[derive(Debug)]
pub(super) struct Generation {
    now: Option<u64>,
    /// Grants may have been missed.
    lost: bool,
}

impl Work {
    /// An execution that policies limit asks for its permits.
    pub(super) fn seek(&mut self, execution: Stored, limits: Vec<Limit>) {
        let id = execution.id;
        self.listen();
        let mut keys: Vec<&String> = limits.iter().map(|limit| &limit.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let checked = execution.check_at.is_none_or(|at| at > self.services.now());
        let noted =
            checked && execution.status == Status::Delayed && execution.waits_for.iter().eq(keys.iter().copied());
        if !checked && self.seekers.knows(id) && execution.status == Status::Delayed {
            // Recovery rang it: that it waits is right.
            let keys = keys.iter().map(|key| (*key).clone()).collect();
            self.put_down(id, Some(execution.clone()), keys);
        }
        if !self.seekers.knows(id) && self.seekers.len() >= self.settings.max_waiting {
            self.crowded = true;
            let keys = keys.into_iter().cloned().collect();
            return self.put_down(id, Some(execution), keys);
        }
        self.seekers.want(id, execution.start_timestamp, limits, noted);
        if self.fresh.len() < self.settings.prefetch {
            self.fresh.insert(id, execution);
        }
        self.act();
    }

    /// Executions that run since before their policies were made count from now on. Looked for once, and again when
    /// policies change.
    pub(super) async fn count(&mut self, action: &str, policies: &[Arc<Policy>]) -> Result<(), DomainError> {
        if self.counted.contains(action) {
            return Ok(());
        }
        let busy = Cond::In("status", vec![Status::Scheduled.into(), Status::Running.into()]);
        let query = Query::eq("action", action).and(busy).limit(self.settings.max_waiting as u64);
        for execution in self.services.store.search::<Execution>(&query).await? {
            if !execution.permits.is_empty() {
                continue;
            }
            let limits = limits::of(policies.iter().map(AsRef::as_ref), &execution);
            let keys: Vec<String> = limits.iter().map(|limit| limit.key.clone()).collect();
            if adopt(&self.services, execution.id, &keys).await? {
                for limit in limits {
                    self.seekers.mend(limit.key, limit.threshold);
                }
            }
        }
        self.counted.insert(action.to_owned());
        Ok(())
    }

    /// Does what the seekers want done.
    pub(super) fn act(&mut self) {
        for effect in self.seekers.take_effects() {
            match effect {
                Effect::Ask { id, limit } => self.spawn_ask(id, limit),
                Effect::Retreat { id, keys } => self.spawn_retreat(id, keys),
                Effect::Wait { id, keys } => {
                    let known = self.fresh.remove(&id);
                    self.put_down(id, known, keys);
                }
                Effect::Admit { id, permits } => self.spawn_admit(id, permits),
                Effect::Cancel { id } => self.spawn_cancel(id),
                Effect::Release { id, keys } => self.services.releases.give_back(id, keys),
                Effect::Mend { key, limit } => self.spawn_mend(key, limit),
            }
        }
        if self.fresh.len() > self.seekers.len() {
            let seekers = &self.seekers;
            self.fresh.retain(|id, _| seekers.knows(*id));
        }
        if self.crowded && self.seekers.len() <= self.settings.max_waiting / 2 {
            self.crowded = false;
            self.refill.start();
        }
    }

    fn spawn_ask(&mut self, id: Id, limit: Limit) {
        let coordinator = self.services.coordinator.clone();
        self.tasks.spawn(async move {
            let Limit { key, threshold, cancel } = limit;
            let ask = Ask { key: key.clone(), limit: threshold, request: id.to_string(), wait: !cancel };
            let answer = match in_time(coordinator.acquire(ask)).await {
                Ok(answer) => Some(answer),
                Err(error) => {
                    tracing::debug!(execution = %id, error, "no permit can be asked for; it waits");
                    None
                }
            };
            Done::Asked { id, key, answer }
        });
    }

    fn spawn_retreat(&mut self, id: Id, keys: Vec<String>) {
        let coordinator = self.services.coordinator.clone();
        self.tasks.spawn(async move {
            let request = id.to_string();
            for key in keys {
                if in_time(coordinator.release(&key, &request)).await.is_err() {
                    return Done::Retreated(id, false);
                }
            }
            Done::Retreated(id, true)
        });
    }

    fn put_down(&mut self, id: Id, known: Option<Stored>, keys: Vec<String>) {
        let services = self.services.clone();
        let check_at = services.now().plus(self.settings.policy_recheck);
        self.tasks.spawn(async move {
            match wait_for(&services, id, known.map(|known| (*known).clone()), &keys, check_at).await {
                Ok(stored) => Done::PutDown(id, stored),
                Err(error) => {
                    tracing::warn!(execution = %id, %error, "can't be put off; left to recovery");
                    Done::Nothing
                }
            }
        });
    }

    fn spawn_admit(&mut self, id: Id, permits: Vec<HeldPermit>) {
        let services = self.services.clone();
        let known = self.fresh.remove(&id).map(|known| (*known).clone());
        self.tasks.spawn(async move { Done::Admitted { id, outcome: admit(&services, id, known, &permits).await } });
    }

    fn spawn_mend(&mut self, key: String, limit: u32) {
        let services = self.services.clone();
        self.tasks.spawn(async move {
            let found = match tokio::time::timeout(DEADLINE, reconcile(&services, &key, limit)).await {
                Ok(found) => found.map_err(|error| error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            Done::Mended { key, limit, found }
        });
    }

    /// A policy cancels it: requested → canceling → canceled, as StackStorm logs it.
    fn spawn_cancel(&mut self, id: Id) {
        let services = self.services.clone();
        self.tasks.spawn(async move {
            let canceled = update(&services, id, |execution, now| {
                let waits = matches!(execution.status, Status::Requested | Status::Delayed);
                if !waits || !execution.permits.is_empty() {
                    return Ok(false);
                }
                for status in [Status::Canceling, Status::Canceled] {
                    execution.advance(status, now).map_err(|e| DomainError::Superseded(e.to_string()))?;
                }
                Ok(true)
            });
            if let Err(error) = canceled.await {
                tracing::warn!(execution = %id, %error, "can't be canceled by its policy; left to recovery");
            }
            Done::Nothing
        });
    }

    // --- outcomes ----------------------------------------------------------------------------------------------

    pub(super) fn answered(&mut self, id: Id, key: &str, answer: Option<coordinator::Answer>) {
        if answer.is_some() {
            self.pace.pause = FIRST_RETRY;
        }
        self.seekers.asked(id, key, answer);
        self.act();
    }

    pub(super) fn retreated(&mut self, id: Id, done: bool) {
        self.seekers.retreated(id, done);
        self.act();
    }

    /// It was put down as waiting, unless something came before.
    pub(super) fn put_off(&mut self, id: Id, stored: Option<Stored>) {
        match stored {
            Some(execution) if is_open(execution.status) && execution.permits.is_empty() => {}
            Some(execution) => self.moved(&execution),
            None => {
                self.seekers.over(id);
                self.act();
            }
        }
    }

    pub(super) async fn admitted(&mut self, id: Id, outcome: Result<Admission, DomainError>) {
        let outcome = match outcome {
            Ok(Admission::Admitted(execution)) => {
                self.pass_on(execution).await;
                Admitted::GoesOn
            }
            Ok(Admission::Already(_)) => Admitted::GoesOn,
            Ok(Admission::NotNeeded) => Admitted::NotNeeded,
            Ok(Admission::Taken(keys)) => Admitted::Taken(keys),
            Err(error) => {
                tracing::warn!(execution = %id, %error, "can't be let go on; trying again");
                self.pace.retry = tokio::time::Instant::now() + jittered(self.pace.pause);
                Admitted::Failed
            }
        };
        self.orphans.remove(id);
        self.seekers.admitted(id, outcome);
        self.act();
    }

    pub(super) fn mended(&mut self, key: &str, limit: u32, found: Result<Reconciled, String>) {
        let found = match found {
            Ok(found) => {
                for id in &found.granted {
                    if !self.seekers.knows(*id) {
                        self.orphans.push(*id, key.to_owned(), Instant::now() + jittered(GRACE * 2));
                    }
                }
                Some(Found { restored: found.restored, free: found.held < limit as usize, granted: found.granted })
            }
            Err(error) => {
                tracing::debug!(key, error, "a policy's permits can't be compared; trying again");
                None
            }
        };
        self.seekers.mended(key, found);
        self.act();
    }

    // --- what is heard -----------------------------------------------------------------------------------------

    pub(super) fn heard_grant(&mut self, heard: Option<Heard>) {
        match heard {
            None => self.grants = None,
            Some(Heard::Lost) => self.ask_generation(true),
            Some(Heard::Granted { key, request, grant }) => {
                let Ok(id) = request.parse::<Id>() else { return };
                if !self.seekers.heard(id, &key, grant) {
                    self.listen();
                    self.orphans.push(id, key, Instant::now() + jittered(GRACE * 2));
                }
                self.act();
            }
        }
    }

    /// An execution is known to be where it is: it may want nothing any more.
    pub(super) fn moved(&mut self, execution: &Execution) {
        let id = execution.id;
        let open = is_open(execution.status);
        if open && execution.permits.is_empty() {
            return;
        }
        self.orphans.remove(id);
        // One that runs holds what it was granted; whoever ends it gives that back.
        if execution.status.is_completed() || (!open && execution.permits.is_empty()) {
            self.seekers.over(id);
        } else {
            drop(self.seekers.forget(id));
        }
        self.act();
    }

    /// Policies changed, here or on another node: those that wait may not have to any more.
    pub(super) async fn policies_changed(&mut self) {
        self.services.catalog.forget::<Policy>();
        self.counted.clear();
        let waiting = self.seekers.ids();
        self.handle_stored(&waiting).await;
        // Those of nodes that are gone.
        self.refill.start();
    }

    /// Events were lost: asks the store about all.
    pub(super) async fn events_lost(&mut self) {
        self.services.catalog.forget::<Policy>();
        self.counted.clear();
        let waiting = self.seekers.ids();
        self.handle_stored(&waiting).await;
    }

    pub(super) fn content_changed(event: &Event) -> bool {
        matches!(event, Event::Content { collection, .. } if collection == Policy::COLLECTION.name)
    }

    // --- looks -------------------------------------------------------------------------------------------------

    /// Whether there is a reason to look at all.
    pub(super) fn watches(&self) -> bool {
        !self.seekers.is_empty() || (self.generation.is_none() && self.events.is_some())
    }

    /// Compares some of the keys for which somebody waits: a release may have been lost, or memory.
    pub(super) fn look(&mut self) {
        self.pace.look = tokio::time::Instant::now() + jittered(LOOK_INTERVAL);
        self.ask_generation(false);
        let mut awaited = self.seekers.awaited();
        awaited.sort_unstable();
        let count = awaited.len().min(KEYS_PER_LOOK);
        let from = self.pace.position % awaited.len().max(1);
        self.pace.position = from + count;
        awaited.rotate_left(from);
        for (key, limit) in awaited.into_iter().take(count) {
            self.seekers.mend(key, limit);
        }
        self.act();
    }

    fn ask_generation(&mut self, lost: bool) {
        let coordinator = self.services.coordinator.clone();
        self.tasks.spawn(async move {
            Done::Generation(Generation { now: in_time(coordinator.generation()).await.ok(), lost })
        });
    }

    /// With a new generation the store's permits go into the coordinator before anybody asks again.
    pub(super) fn generation_known(&mut self, generation: Generation) {
        let Some(now) = generation.now else {
            // It can't be asked: whatever it remembers then has to be compared.
            if generation.lost {
                self.generation = None;
            }
            return;
        };
        if self.generation == Some(now) {
            if generation.lost {
                self.seekers.lost();
                self.act();
            }
            return;
        }
        let services = self.services.clone();
        self.tasks.spawn(async move {
            match mend_all(&services).await {
                Ok(_) => Done::AllMended(Some(now)),
                Err(error) => {
                    tracing::warn!(%error, "permits can't be compared with the coordinator's; trying again");
                    Done::AllMended(None)
                }
            }
        });
    }

    pub(super) fn all_mended(&mut self, generation: Option<u64>) {
        self.generation = generation;
        if generation.is_some() {
            self.seekers.lost();
            self.act();
        }
    }

    /// Tries again what failed, once the coordinator answers.
    pub(super) fn probe(&mut self) {
        if std::mem::replace(&mut self.pace.probing, true) {
            return;
        }
        let services = self.services.clone();
        self.tasks.spawn(async move { Done::Probed(in_time(services.coordinator.check()).await.is_ok()) });
    }

    pub(super) fn is_probing(&self) -> bool {
        self.pace.probing
    }

    pub(super) fn probed(&mut self, answers: bool) {
        self.pace.probing = false;
        self.pace.pause = (self.pace.pause * 2).min(LAST_RETRY);
        self.pace.retry = tokio::time::Instant::now() + jittered(self.pace.pause);
        if answers {
            self.seekers.retry();
            self.act();
        }
    }

    /// Others' executions that were granted a permit and didn't go on: this node helps.
    pub(super) async fn adopt_orphans(&mut self) {
        let due = self.orphans.due(Instant::now(), ORPHANS_PER_LOOK);
        let ids: Vec<Id> = due.iter().map(|(id, _)| *id).collect();
        let found = match self.services.store.search::<Execution>(&Query::filter(Cond::IdIn(ids))).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "can't read executions that were granted permits; trying again");
                for (id, key) in due {
                    self.orphans.push(id, key, Instant::now() + jittered(LAST_RETRY));
                }
                return;
            }
        };
        for (id, key) in due {
            match found.iter().find(|execution| execution.id == id) {
                Some(execution) if is_open(execution.status) && execution.permits.is_empty() => {
                    tracing::debug!(execution = %id, "its scheduler doesn't use its permit; taken over");
                    self.again(Arc::new(execution.clone())).await;
                }
                Some(execution) if !execution.status.is_completed() => {}
                _ => self.services.releases.give_back(id, vec![key]),
            }
        }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, coordinator::CoordinatorError>>) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
