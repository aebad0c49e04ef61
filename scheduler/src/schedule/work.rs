//! The scheduler's state and what it does with each thing it hears.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Delivery, Event, Job, Queue, Received, Subscription, Topic};
use coordinator::{Answer, Grants, Heard};
use domain::executions::hold;
use domain::permits::{Admission, Reconciled};
use domain::{DomainError, Services};
use model::{Execution, Id, Status, Versioned};
use store::{Cond, Query, StoreExt};
use tokio::task::JoinSet;

use super::delays::Delays;
use super::limits;
use super::orphans::Orphans;
use super::policy::{Generation, Pace};
use super::refill::Refill;
use super::seek::Seekers;
use crate::queue::{PAUSE, execution_of, give_back};
use crate::settings::ScheduleSettings;

/// Sleeps end at least this often while something is delayed, because the wall clock may have been set.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// Delayed executions read at a time when they are due.
const DUE_PAGE: usize = 200;

pub(super) type Stored = Arc<Versioned<Execution>>;

/// Something to do.
#[derive(Debug)]
pub(super) enum Input {
    Event(Option<Received>),
    Grant(Option<Heard>),
    Done(Done),
    DelayOver,
    /// Executions that others were granted permits for have not gone on.
    OrphansDue,
    /// Time to compare awaited keys.
    Look,
    /// Time to try again what failed.
    Retry,
    /// The scheduler's queue refused a job.
    Overflow,
    RefillDue,
}

/// A slow step that ended.
#[derive(Debug)]
pub(super) enum Done {
    /// It is delayed now, by its own delay.
    Held(Stored),
    Asked {
        id: Id,
        key: String,
        answer: Option<Answer>,
    },
    Retreated(Id, bool),
    /// It waits for a permit, as the store has it now.
    PutDown(Id, Option<Stored>),
    Admitted {
        id: Id,
        outcome: Result<Admission, DomainError>,
    },
    Mended {
        key: String,
        limit: u32,
        found: Result<Reconciled, String>,
    },
    Generation(Generation),
    AllMended(Option<u64>),
    Probed(bool),
    Panicked,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) services: Arc<Services>,
    pub(super) settings: ScheduleSettings,
    delays: Delays,
    pub(super) seekers: Seekers,
    /// Seekers' executions as they came, until the first write.
    pub(super) fresh: HashMap<Id, Stored>,
    /// Some that wait are not among the seekers: there were too many.
    pub(super) crowded: bool,
    pub(super) orphans: Orphans,
    pub(super) pace: Pace,
    /// The coordinator's, to which the store's permits were compared.
    pub(super) generation: Option<u64>,
    /// Actions of which it is known that all that run have permits.
    pub(super) counted: HashSet<String>,
    pub(super) refill: Refill,
    pub(super) tasks: JoinSet<Done>,
    pub(super) grants: Option<Box<dyn Grants>>,
    /// Subscribed when the first execution with a policy comes by.
    pub(super) events: Option<Box<dyn Subscription>>,
}

impl Work {
    pub(super) fn new(services: Arc<Services>, settings: ScheduleSettings) -> Self {
        let mut refill = Refill::new();
        // What an earlier run left behind.
        refill.start();
        Self {
            delays: Delays::new(settings.max_delayed),
            seekers: Seekers::default(),
            fresh: HashMap::new(),
            crowded: false,
            orphans: Orphans::default(),
            pace: Pace::default(),
            generation: None,
            counted: HashSet::new(),
            refill,
            tasks: JoinSet::new(),
            grants: Some(services.coordinator.grants()),
            events: None,
            services,
            settings,
        }
    }

    /// A job from the queue.
    pub(super) async fn take(&mut self, delivery: Delivery) {
        let execution = match execution_of(&self.services, &delivery.job).await {
            Ok(Some(execution)) => execution,
            Ok(None) => return delivery.ack(),
            Err(error) => return try_again(delivery, &error).await,
        };
        match self.handle(execution).await {
            Ok(()) => delivery.ack(),
            Err(error) => try_again(delivery, &error).await,
        }
    }

    /// Decides what an execution waits for, if anything.
    async fn handle(&mut self, execution: Stored) -> Result<(), DomainError> {
        if !is_open(execution.status) {
            self.moved(&execution);
            return Ok(());
        }
        if !execution.permits.is_empty() {
            // Admitted before; recovery rings it again: perhaps the run queue lost it.
            self.moved(&execution);
            self.pass_on(execution).await;
            return Ok(());
        }
        if execution.due() > self.services.now() {
            if execution.status == Status::Delayed {
                self.delays.push(execution.due(), execution.id);
            } else {
                let until = execution.due();
                self.hold(execution, until);
            }
            return Ok(());
        }
        let policies = self.services.catalog.policies_of(&execution.action).await?;
        let limits = limits::of(policies.iter().map(AsRef::as_ref), &execution);
        if limits.is_empty() && execution.waits_for.is_empty() && !self.seekers.knows(execution.id) {
            self.pass_on(execution).await;
        } else {
            if !limits.is_empty() {
                self.count(&execution.action, &policies).await?;
            }
            self.seek(execution, limits);
        }
        Ok(())
    }

    /// Rings the run queue. When that is full, the store keeps the execution and the refill finds it.
    pub(super) async fn pass_on(&mut self, mut execution: Stored) {
        let id = execution.id;
        Arc::make_mut(&mut execution).doc.released_at = Some(self.services.now());
        let job = Job::Execution { id, hint: Some(execution) };
        match self.services.bus.enqueue(Queue::Run, job).await {
            Ok(()) => self.refill.passed_on(id),
            Err(BusError::Full(_)) => self.refill.start(),
            Err(error) => tracing::debug!(execution = %id, %error, "left to recovery"),
        }
    }

    fn hold(&mut self, execution: Stored, until: model::Timestamp) {
        let services = self.services.clone();
        self.tasks.spawn(async move {
            match hold(&services, &execution, until).await {
                Ok(held) => Done::Held(held),
                Err(DomainError::Superseded(_)) => Done::Nothing,
                Err(error) => {
                    tracing::warn!(execution = %execution.id, %error, "can't be put off; left to recovery");
                    Done::Nothing
                }
            }
        });
    }

    /// What happens next, beside jobs. Cancel safe.
    pub(super) async fn next(&mut self) -> Input {
        let (looks, retries) = (self.watches(), self.seekers.any_stalled() && !self.is_probing());
        let Self { events, grants, tasks, delays, refill, services, orphans, pace, .. } = self;
        tokio::select! {
            biased;
            // Completions first: they free what others wait for.
            received = next_event(events) => Input::Event(received),
            heard = next_grant(grants) => Input::Grant(heard),
            done = next_done(tasks) => Input::Done(done),
            () = delay_over(delays, services) => Input::DelayOver,
            () = orphans_due(orphans) => Input::OrphansDue,
            () = tokio::time::sleep_until(pace.retry), if retries => Input::Retry,
            () = tokio::time::sleep_until(pace.look), if looks => Input::Look,
            () = services.overflow.noted(Queue::Schedule) => Input::Overflow,
            () = refill_due(refill) => Input::RefillDue,
        }
    }

    pub(super) async fn handle_input(&mut self, input: Input) {
        match input {
            Input::Event(received) => self.heard(received).await,
            Input::Grant(heard) => self.heard_grant(heard),
            Input::Done(done) => self.done(done).await,
            Input::DelayOver => self.release_due().await,
            Input::OrphansDue => self.adopt_orphans().await,
            Input::Look => self.look(),
            Input::Retry => self.probe(),
            Input::Overflow => self.refill.start(),
            Input::RefillDue => self.refill().await,
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Held(execution) => self.again(execution).await,
            Done::Asked { id, key, answer } => self.answered(id, &key, answer),
            Done::Retreated(id, done) => self.retreated(id, done),
            Done::PutDown(id, stored) => self.put_off(id, stored),
            Done::Admitted { id, outcome } => self.admitted(id, outcome).await,
            Done::Mended { key, limit, found } => self.mended(&key, limit, found),
            Done::Generation(generation) => self.generation_known(generation),
            Done::AllMended(generation) => self.all_mended(generation),
            Done::Probed(answers) => self.probed(answers),
            Done::Panicked => {
                // Whose step it was is not known: all begin anew.
                self.seekers = Seekers::default();
                self.pace = Pace::default();
                self.refill.start();
            }
            Done::Nothing => {}
        }
    }

    pub(super) async fn again(&mut self, execution: Stored) {
        let id = execution.id;
        if let Err(error) = self.handle(execution).await {
            tracing::warn!(execution = %id, %error, "can't be scheduled now; left to recovery");
        }
    }

    // --- events ------------------------------------------------------------------------------------------------

    /// Policies matter from now on.
    pub(super) fn listen(&mut self) {
        if self.events.is_none() {
            self.events = Some(self.services.bus.subscribe(&[Topic::Execution, Topic::Content]));
        }
    }

    async fn heard(&mut self, received: Option<Received>) {
        match received {
            None => self.events = None,
            Some(Received::Lost(_)) => self.events_lost().await,
            Some(Received::Event(event)) => match event.as_ref() {
                Event::Execution(_, execution) => self.moved(execution),
                event if Self::content_changed(event) => self.policies_changed().await,
                _ => {}
            },
        }
    }

    /// Reads executions and decides about them anew, in the given order.
    pub(super) async fn handle_stored(&mut self, ids: &[Id]) {
        for chunk in ids.chunks(500) {
            match self.services.store.search::<Execution>(&Query::filter(Cond::IdIn(chunk.to_vec()))).await {
                Ok(mut found) => {
                    found.sort_by_key(|execution| (execution.start_timestamp, execution.id));
                    for execution in found {
                        self.again(Arc::new(execution)).await;
                    }
                }
                Err(error) => tracing::warn!(%error, count = chunk.len(), "can't read executions; left to recovery"),
            }
        }
    }

    // --- delays ------------------------------------------------------------------------------------------------

    async fn release_due(&mut self) {
        let now = self.services.now();
        let due = self.delays.due(now, DUE_PAGE);
        self.handle_stored(&due).await;
        if self.delays.take_horizon(now) {
            self.refill.start();
        }
    }

    // --- backlog -----------------------------------------------------------------------------------------------

    /// Passes on a page of the backlog, if the run queue has room.
    async fn refill(&mut self) {
        let waiting = self.services.bus.waiting(Queue::Run).await;
        if !waiting.is_ok_and(|waiting| waiting < self.settings.refill_below) {
            return self.refill.postpone(self.settings.refill_interval);
        }
        let page = match self.refill.page(self.services.store.as_ref(), self.settings.refill_page).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "can't read the backlog; trying again");
                return self.refill.postpone(PAUSE);
            }
        };
        for execution in page {
            let id = execution.id;
            self.refill.reached(&execution);
            if !(self.refill.was_passed_on(id) || self.delays.contains(id) || self.seekers.knows(id)) {
                self.again(Arc::new(execution)).await;
            }
        }
    }
}

async fn next_event(events: &mut Option<Box<dyn Subscription>>) -> Option<Received> {
    match events {
        Some(events) => events.next().await,
        None => pending().await,
    }
}

async fn next_grant(grants: &mut Option<Box<dyn Grants>>) -> Option<Heard> {
    match grants {
        Some(grants) => grants.next().await,
        None => pending().await,
    }
}

async fn orphans_due(orphans: &Orphans) {
    match orphans.next(std::time::Instant::now()) {
        Some(pause) => tokio::time::sleep(pause).await,
        None => pending().await,
    }
}

async fn next_done(tasks: &mut JoinSet<Done>) -> Done {
    match tasks.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(error)) => {
            tracing::error!(%error, "a step of the scheduler failed");
            Done::Panicked
        }
        None => pending().await,
    }
}

async fn delay_over(delays: &Delays, services: &Services) {
    match delays.next() {
        None => pending().await,
        Some(due) => tokio::time::sleep(due.since(services.now()).min(CLOCK_CHECK)).await,
    }
}

async fn refill_due(refill: &Refill) {
    match refill.due() {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// Statuses in which an execution may still be let go on.
pub(super) const fn is_open(status: Status) -> bool {
    matches!(status, Status::Requested | Status::Delayed | Status::Scheduled)
}

async fn try_again(delivery: Delivery, error: &DomainError) {
    tracing::warn!(execution = %delivery.job.id(), %error, "can't be scheduled now; trying again");
    give_back(delivery, error).await;
}
