//! The shell: triggers in, ticks out.

use std::collections::{HashSet, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bus::{Event as BusEvent, Received, Subscription, Topic};
use domain::Services;
use model::timer::{Schedule, TYPES, TimerCursor};
use model::{Duty, Id, Lease, Resource, Timestamp, Trigger, Versioned};
use store::{Applied, Batch, Cond, Fence, Query, StoreError, StoreExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decider::{Decider, Definition, Effects, Event, Policy};
use super::emit::{Ticks, instance};
use super::stats::TimerStats;
use crate::duty::fence;
use crate::instances::ring;
use crate::queue::{PAUSE, pause};
use crate::settings::TimerSettings;

/// Sleeps end at least this often, because the wall clock may have been set.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
const PAGE: u64 = 1_000;

/// Fires timers under one lease, until `stop`. What was not committed then is fired by the next holder.
pub(super) async fn fire_while_held(
    services: Arc<Services>,
    settings: TimerSettings,
    stats: Arc<TimerStats>,
    lease: Lease,
    stop: CancellationToken,
) {
    let changes = services.bus.subscribe(&[Topic::Content]);
    let Some(cursor) = read_cursor(&services, &stop).await else { return };
    let policy = Policy { misfire: settings.misfire, window: settings.catch_up_window, grace: settings.grace };
    let floor = cursor.as_ref().map(|cursor| cursor.at).unwrap_or_default();
    let mut engine = Engine {
        decider: Decider::new(policy, floor),
        fence: fence(Duty::Timers, lease),
        cursor: Cursor { stored: cursor, in_flight: false, written: Instant::now() },
        waiting: VecDeque::new(),
        commits: JoinSet::new(),
        in_flight: Vec::new(),
        next_batch: 0,
        is_loaded: false,
        changes,
        services,
        settings,
        stats,
    };
    while !engine.load().await {
        if !pause(PAUSE, &stop).await {
            return;
        }
    }
    tracing::info!(timers = engine.decider.ids().len(), from = %floor, "timers loaded");
    engine.run(&stop).await;
}

/// How far an earlier holder fired; `None` if `stop` came first.
async fn read_cursor(services: &Services, stop: &CancellationToken) -> Option<Option<Versioned<TimerCursor>>> {
    loop {
        match services.store.read::<TimerCursor>(TimerCursor::only_id()).await {
            Ok(found) => return Some(found),
            Err(error) => tracing::warn!(%error, "can't read the timers' cursor; trying again"),
        }
        if !pause(PAUSE, stop).await {
            return None;
        }
    }
}

#[derive(Debug)]
struct Cursor {
    stored: Option<Versioned<TimerCursor>>,
    /// A commit under way carries it.
    in_flight: bool,
    written: Instant,
}

/// A commit that ended.
#[derive(Debug)]
struct Ended {
    batch: u64,
    ticks: Ticks,
    outcome: Result<(), StoreError>,
    /// The cursor that it carried.
    cursor: Option<TimerCursor>,
}

#[derive(Debug)]
struct Engine {
    services: Arc<Services>,
    settings: TimerSettings,
    stats: Arc<TimerStats>,
    fence: Fence,
    decider: Decider,
    changes: Box<dyn Subscription>,
    cursor: Cursor,
    /// Ticks to commit, in order.
    waiting: VecDeque<Ticks>,
    commits: JoinSet<Ended>,
    /// Batch number and earliest slot of the commits under way.
    in_flight: Vec<(u64, Timestamp)>,
    next_batch: u64,
    /// Whether all timers were read; until then the cursor stays, for slots of the others may be earlier.
    is_loaded: bool,
}

/// What happens next.
#[derive(Debug)]
enum Input {
    Clock,
    Change(Option<Received>),
    Ended(Box<Ended>),
}

impl Engine {
    async fn run(&mut self, stop: &CancellationToken) {
        loop {
            self.tick();
            let input = tokio::select! {
                () = stop.cancelled() => break,
                input = next_input(&self.decider, &self.services, &mut self.changes, &mut self.commits) => input,
            };
            match input {
                Input::Clock => {}
                Input::Change(None) => break,
                Input::Change(Some(Received::Event(event))) => self.changed(&event).await,
                Input::Change(Some(Received::Lost(_))) => {
                    self.load().await;
                }
                Input::Ended(ended) => {
                    if !self.ended(*ended, stop).await {
                        break;
                    }
                }
            }
        }
        // Commits under way may still succeed; nobody waits for them longer than the lease allows.
        while let Some(Ok(ended)) = self.commits.join_next().await {
            self.count(&ended);
        }
    }

    /// Decides what is due and starts to commit it.
    fn tick(&mut self) {
        let now = self.services.now();
        while self.waiting.len() < self.settings.commits_in_flight
            && self.decider.next().is_some_and(|next| next <= now)
        {
            let limit = self.settings.ticks_per_commit.max(1);
            let Effects { ticks, missed } = self.decider.step(Event::Clock { limit }, now);
            for missed in missed {
                self.stats.missed(missed.count);
                let (count, coalesced) = (missed.count, missed.coalesced);
                tracing::warn!(trigger = %missed.reference, count, coalesced, "timer slots were missed");
            }
            if !ticks.is_empty() {
                self.waiting.push_back(Ticks(Arc::new(ticks)));
            }
        }
        self.decider.step(Event::Clock { limit: 0 }, now);
        while self.in_flight.len() < self.settings.commits_in_flight.max(1)
            && let Some(ticks) = self.waiting.pop_front()
        {
            self.commit(ticks);
        }
    }

    fn commit(&mut self, ticks: Ticks) {
        let number = self.next_batch;
        self.next_batch += 1;
        self.in_flight.extend(ticks.first().map(|first| (number, first)));
        let mut batch = Batch::under(self.fence.clone());
        let cursor = self.take_cursor();
        match (&cursor, &self.cursor.stored) {
            (Some(cursor), Some(stored)) => {
                batch.update(&Versioned { rev: stored.rev, doc: *cursor });
            }
            (Some(cursor), None) => {
                batch.insert(cursor);
            }
            (None, _) => {}
        }
        let services = self.services.clone();
        self.commits.spawn(async move {
            let outcome = store_ticks(&services, batch, &ticks).await;
            Ended { batch: number, ticks, outcome, cursor }
        });
    }

    /// The cursor, if it is time that a commit takes it along.
    fn take_cursor(&mut self) -> Option<TimerCursor> {
        let early = self.cursor.stored.is_some() && self.cursor.written.elapsed() < self.settings.cursor_interval;
        if early || self.cursor.in_flight || !self.is_loaded {
            return None;
        }
        let open = self.in_flight.iter().map(|(_, first)| *first).chain(self.waiting.iter().filter_map(Ticks::first));
        let open = open.min().map(|first| first.minus(Duration::from_micros(1)));
        let decided = self.decider.decided();
        let at = open.map_or(decided, |open| open.min(decided));
        if self.cursor.stored.as_ref().is_some_and(|stored| stored.at >= at) {
            return None;
        }
        self.cursor.in_flight = true;
        Some(TimerCursor::new(at))
    }

    fn count(&mut self, ended: &Ended) {
        if ended.outcome.is_ok() {
            let now = self.services.now();
            for tick in ended.ticks.0.iter() {
                self.stats.fired(now.since(tick.at));
            }
        }
    }

    /// False when the duty is lost.
    async fn ended(&mut self, ended: Ended, stop: &CancellationToken) -> bool {
        self.count(&ended);
        if ended.cursor.is_some() {
            self.cursor.in_flight = false;
        }
        self.in_flight.retain(|(number, _)| *number != ended.batch);
        match ended.outcome {
            Ok(()) => {
                if let Some(cursor) = ended.cursor {
                    let rev = self.cursor.stored.as_ref().map_or(0, |stored| stored.rev) + 1;
                    self.cursor.stored = Some(Versioned { rev, doc: cursor });
                    self.cursor.written = Instant::now();
                }
                return true;
            }
            Err(StoreError::StaleFence { current, .. }) => {
                tracing::warn!(current, "another node has the timers");
                return false;
            }
            Err(error) => tracing::warn!(%error, ticks = ended.ticks.0.len(), "can't store ticks; trying again"),
        }
        self.waiting.push_front(ended.ticks);
        if !pause(PAUSE, stop).await {
            return false;
        }
        if ended.cursor.is_some()
            && let Ok(found) = self.services.store.read::<TimerCursor>(TimerCursor::only_id()).await
        {
            // Perhaps it was stored, and only the answer was lost.
            self.cursor.stored = found;
        }
        true
    }

    /// Reads all timer triggers; those that are gone are removed. False if the store could not be read.
    async fn load(&mut self) -> bool {
        let mut gone: HashSet<Id> = self.decider.ids().into_iter().collect();
        let mut after: Option<Id> = None;
        loop {
            let types = TYPES.iter().map(|name| (*name).into()).collect();
            let mut query = Query::filter(Cond::In("type", types)).limit(PAGE);
            query.conds.extend(after.map(Cond::IdAfter));
            let page: Vec<Versioned<Trigger>> = match self.services.store.search(&query).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "can't read the timers; trying again");
                    return false;
                }
            };
            after = page.last().map(|last| last.id);
            let more = page.len() as u64 == PAGE;
            for trigger in page {
                gone.remove(&trigger.id);
                self.put(&trigger);
            }
            // What is due doesn't wait for the others.
            self.tick();
            if !more {
                break;
            }
        }
        for id in gone {
            self.decider.step(Event::Removed(id), self.services.now());
        }
        self.is_loaded = true;
        true
    }

    async fn changed(&mut self, event: &BusEvent) {
        let BusEvent::Content { collection, id, .. } = event else { return };
        if collection != Trigger::COLLECTION.name {
            return;
        }
        match self.services.store.read::<Trigger>(*id).await {
            Ok(Some(trigger)) => self.put(&trigger),
            Ok(None) => {
                self.decider.step(Event::Removed(*id), self.services.now());
            }
            Err(error) => {
                tracing::warn!(trigger = %id, %error, "can't read a changed trigger; reading all");
                // Another try is due in any case: a load reads it too.
                while !self.load().await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn put(&mut self, trigger: &Trigger) {
        if !TYPES.contains(&trigger.type_ref.as_str()) {
            return;
        }
        let schedule = match Schedule::parse(&trigger.type_ref, &trigger.parameters, trigger.created_at) {
            Ok(schedule) => schedule.with_overlap(self.settings.overlap),
            Err(error) => {
                tracing::warn!(trigger = trigger.reference, %error, "the timer can't fire");
                return;
            }
        };
        let type_name = trigger.type_ref.split_once('.').map_or(trigger.type_ref.as_str(), |(_, name)| name);
        let definition = Definition {
            trigger: trigger.id,
            reference: trigger.reference.as_str().into(),
            trace_tag: format!("{type_name}-{}", trigger.name).into(),
            created_at: trigger.created_at,
            schedule,
        };
        self.decider.step(Event::Put(definition), self.services.now());
    }
}

async fn next_input(
    decider: &Decider,
    services: &Services,
    changes: &mut Box<dyn Subscription>,
    commits: &mut JoinSet<Ended>,
) -> Input {
    let next = async {
        match decider.next() {
            Some(next) => {
                // When commits are behind, their end comes first.
                let wait = next.since(services.now()).max(Duration::from_millis(1)).min(CLOCK_CHECK);
                tokio::time::sleep(wait).await;
            }
            None => pending().await,
        }
    };
    tokio::select! {
        Some(ended) = commits.join_next(), if !commits.is_empty() => match ended {
            Ok(ended) => Input::Ended(Box::new(ended)),
            Err(error) => {
                tracing::error!(%error, "a commit of ticks failed");
                Input::Clock
            }
        },
        () = next => Input::Clock,
        received = changes.next() => Input::Change(received),
    }
}

/// Commits the instances of ticks and tells the rules engines. Those that are there were fired before.
async fn store_ticks(services: &Services, mut batch: Batch, ticks: &Ticks) -> Result<(), StoreError> {
    let now = services.now();
    let instances: Vec<_> = ticks.0.iter().map(|tick| instance(services, tick, now)).collect();
    let others = batch.writes.len();
    for instance in &instances {
        batch.insert_or_ignore(instance);
    }
    let applied = services.store.commit(batch).await?;
    for (instance, applied) in instances.into_iter().zip(applied.into_iter().skip(others)) {
        if applied == Applied::Inserted {
            ring(services, Arc::new(Versioned { rev: 1, doc: instance })).await;
        }
    }
    Ok(())
}
