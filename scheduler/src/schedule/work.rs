//! The scheduler's state and what it does with each thing it hears.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Delivery, Event, Job, Queue, Received, Subscription, Topic};
use domain::executions::{hold, update};
use domain::{DomainError, Services};
use model::{Execution, Id, Policy, Resource, Status, Versioned};
use store::{Cond, Query, StoreExt};
use tokio::task::JoinSet;

use super::delays::Delays;
use super::gate::{Gate, Limit, Verdict};
use super::limits;
use super::refill::Refill;
use crate::queue::{PAUSE, execution_of};
use crate::settings::ScheduleSettings;

/// Sleeps end at least this often while something is delayed, because the wall clock may have been set.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// Delayed executions read at a time when they are due.
const DUE_PAGE: usize = 200;

type Stored = Arc<Versioned<Execution>>;

/// Something to do.
#[derive(Debug)]
pub(super) enum Input {
    Event(Option<Received>),
    Done(Done),
    DelayOver,
    /// The scheduler's queue refused a job.
    Overflow,
    RefillDue,
}

/// A slow step that ended.
#[derive(Debug)]
pub(super) enum Done {
    /// It is delayed now: by its own delay or by a policy.
    Held(Stored),
    /// A policy let it go on, and the store says so.
    Admitted(Stored),
    /// It is over, or could not be changed (recovery looks at it later): it holds nothing any more.
    Gone(Id),
    Nothing,
}

#[derive(Debug)]
pub(super) struct Work {
    services: Arc<Services>,
    settings: ScheduleSettings,
    delays: Delays,
    gate: Gate,
    refill: Refill,
    tasks: JoinSet<Done>,
    /// Subscribed when the first execution with a policy comes by.
    events: Option<Box<dyn Subscription>>,
    /// Actions whose running executions were counted.
    counted: HashSet<String>,
}

impl Work {
    pub(super) fn new(services: Arc<Services>, settings: ScheduleSettings) -> Self {
        let mut refill = Refill::new();
        // What an earlier run left behind.
        refill.start();
        Self {
            delays: Delays::new(settings.max_delayed),
            gate: Gate::default(),
            refill,
            tasks: JoinSet::new(),
            events: None,
            counted: HashSet::new(),
            services,
            settings,
        }
    }

    /// A job from the queue.
    pub(super) async fn take(&mut self, delivery: Delivery) {
        let execution = match execution_of(&self.services, &delivery.job).await {
            Ok(Some(execution)) => execution,
            Ok(None) => return delivery.ack(),
            Err(error) => return give_back(delivery, &error).await,
        };
        match self.handle(execution).await {
            Ok(()) => delivery.ack(),
            Err(error) => give_back(delivery, &error).await,
        }
    }

    /// Decides what an execution waits for, if anything.
    async fn handle(&mut self, execution: Stored) -> Result<(), DomainError> {
        if !matches!(execution.status, Status::Requested | Status::Delayed | Status::Scheduled) {
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
        if !policies.iter().any(|policy| limits::is_concurrency(policy)) {
            self.pass_on(execution).await;
            return Ok(());
        }
        self.count(&execution.action).await?;
        // What the sender knew may be out of date, and one that is over by now would hold its place for ever.
        let Some(execution) = self.services.store.read::<Execution>(execution.id).await?.map(Arc::new) else {
            return Ok(());
        };
        if !counts(execution.status) || execution.status == Status::Running {
            return Ok(());
        }
        let limits = limits::of(policies.iter().map(AsRef::as_ref), &execution);
        self.decide(execution, limits).await;
        Ok(())
    }

    async fn decide(&mut self, execution: Stored, limits: Vec<Limit>) {
        match self.gate.ask(execution.id, &limits) {
            Verdict::Admit if execution.status == Status::Delayed => self.requested_again(execution.id),
            // Known ones are rung again by recovery: perhaps the run queue lost them.
            Verdict::Admit | Verdict::Known => self.pass_on(execution).await,
            Verdict::Wait if execution.status == Status::Delayed => {
                if self.gate.waiting_count() < self.settings.max_waiting {
                    self.gate.wait(execution.id, execution.start_timestamp, limits);
                }
            }
            Verdict::Wait => {
                let until = self.services.now().plus(self.settings.policy_recheck);
                self.hold(execution, until);
            }
            Verdict::Cancel => self.cancel(execution.id),
        }
    }

    /// Rings the run queue. When that is full, the store keeps the execution and the refill finds it.
    async fn pass_on(&mut self, execution: Stored) {
        let id = execution.id;
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

    /// delayed → requested: the policy lets it go on.
    fn requested_again(&mut self, id: Id) {
        let services = self.services.clone();
        let check_at = services.now().plus(services.settings.redrive_after);
        self.tasks.spawn(async move {
            let moved = update(&services, id, |execution, now| {
                if execution.status != Status::Delayed {
                    return Ok(false);
                }
                execution.advance(Status::Requested, now).map_err(|e| DomainError::Superseded(e.to_string()))?;
                execution.check_at = Some(check_at);
                Ok(true)
            });
            match moved.await {
                Ok(execution) if matches!(execution.status, Status::Requested | Status::Scheduled) => {
                    Done::Admitted(execution)
                }
                Ok(execution) if execution.status == Status::Running => Done::Nothing,
                Ok(_) => Done::Gone(id),
                Err(error) => {
                    tracing::warn!(execution = %id, %error, "can't be let go on; left to recovery");
                    Done::Gone(id)
                }
            }
        });
    }

    /// A policy cancels it: requested → canceling → canceled, as StackStorm logs it.
    fn cancel(&mut self, id: Id) {
        let services = self.services.clone();
        self.tasks.spawn(async move {
            let canceled = update(&services, id, |execution, now| {
                if !matches!(execution.status, Status::Requested | Status::Delayed) {
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

    /// What happens next, beside jobs. Cancel safe.
    pub(super) async fn next(&mut self) -> Input {
        let Self { events, tasks, delays, refill, services, .. } = self;
        tokio::select! {
            biased;
            // Completions first: they free what others wait for.
            received = next_event(events) => Input::Event(received),
            done = next_done(tasks) => Input::Done(done),
            () = delay_over(delays, services) => Input::DelayOver,
            () = services.overflow.noted(Queue::Schedule) => Input::Overflow,
            () = refill_due(refill) => Input::RefillDue,
        }
    }

    pub(super) async fn handle_input(&mut self, input: Input) {
        match input {
            Input::Event(received) => self.heard(received).await,
            Input::Done(done) => self.done(done).await,
            Input::DelayOver => self.release_due().await,
            Input::Overflow => self.refill.start(),
            Input::RefillDue => self.refill().await,
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Held(execution) => self.again(execution).await,
            Done::Admitted(execution) => self.pass_on(execution).await,
            Done::Gone(id) => self.ended(id),
            Done::Nothing => {}
        }
    }

    async fn again(&mut self, execution: Stored) {
        let id = execution.id;
        if let Err(error) = self.handle(execution).await {
            tracing::warn!(execution = %id, %error, "can't be scheduled now; left to recovery");
        }
    }

    fn ended(&mut self, id: Id) {
        for admitted in self.gate.ended(id) {
            self.requested_again(admitted);
        }
    }

    // --- concurrency -------------------------------------------------------------------------------------------

    /// Counts the action's running executions, once. Completions are heard from before the count is taken.
    async fn count(&mut self, action: &str) -> Result<(), DomainError> {
        if self.events.is_none() {
            self.events = Some(self.services.bus.subscribe(&[Topic::Execution, Topic::Content]));
        }
        if self.counted.contains(action) {
            return Ok(());
        }
        let busy = Cond::In("status", vec![Status::Scheduled.into(), Status::Running.into()]);
        let running = self.services.store.search::<Execution>(&Query::eq("action", action).and(busy)).await?;
        let policies = self.services.catalog.policies_of(action).await?;
        for execution in running {
            let limits = limits::of(policies.iter().map(AsRef::as_ref), &execution);
            self.gate.adopt(execution.id, &limits);
        }
        self.counted.insert(action.to_owned());
        Ok(())
    }

    async fn heard(&mut self, received: Option<Received>) {
        match received {
            None => self.events = None,
            Some(Received::Lost(_)) => self.check_admitted().await,
            Some(Received::Event(event)) => match event.as_ref() {
                Event::Execution(_, execution) if self.gate.knows(execution.id) && !counts(execution.status) => {
                    self.ended(execution.id);
                }
                Event::Content { collection, .. } if collection == Policy::COLLECTION.name => self.ask_waiters().await,
                _ => {}
            },
        }
    }

    /// Events were lost: asks the store about all that are counted.
    async fn check_admitted(&mut self) {
        let ids = self.gate.admitted();
        for chunk in ids.chunks(500) {
            let Ok(found) = self.services.store.search::<Execution>(&Query::filter(Cond::IdIn(chunk.to_vec()))).await
            else {
                // They stay counted until a later event; recovery rings waiters again.
                return;
            };
            let busy: HashSet<Id> = found.iter().filter(|e| counts(e.status)).map(|e| e.id).collect();
            for id in chunk.iter().filter(|id| !busy.contains(id)) {
                self.ended(*id);
            }
        }
    }

    /// Policies changed: those that wait may not have to any more.
    async fn ask_waiters(&mut self) {
        self.counted.clear();
        let waiters = self.gate.waiters();
        for id in &waiters {
            self.gate.ended(*id);
        }
        self.handle_stored(&waiters).await;
    }

    /// Reads executions and decides about them anew, in the given order.
    async fn handle_stored(&mut self, ids: &[Id]) {
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
            if !(self.refill.was_passed_on(id) || self.delays.contains(id) || self.gate.knows(id)) {
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

async fn next_done(tasks: &mut JoinSet<Done>) -> Done {
    match tasks.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(error)) => {
            tracing::error!(%error, "a step of the scheduler failed");
            Done::Nothing
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

/// Statuses in which an admitted execution still holds its place.
const fn counts(status: Status) -> bool {
    matches!(status, Status::Requested | Status::Delayed | Status::Scheduled | Status::Running)
}

/// The job goes back to its queue after a pause: a dependency failed.
async fn give_back(delivery: Delivery, error: &DomainError) {
    tracing::warn!(execution = %delivery.job.id(), %error, "can't be scheduled now; trying again");
    tokio::time::sleep(PAUSE).await;
    drop(delivery);
}
