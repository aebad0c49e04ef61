//! An engine small enough to see through: one with-items task with concurrency and one retry per item.
//!
//! Its decider is pure: messages and timers become events, and the state is the fold of the events (W1). A step
//! touches the head and the rows of its own item, however many there are.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Id, Timestamp};
use serde::{Deserialize, Serialize};

use super::{HOLD, at, id};
use crate::changes::{Changes, Creation};
use crate::error::StateError;
use crate::port::{Committed, Drain, WorkflowState};
use crate::rows::{HeadState, Item, ItemQuery, Launch, Message, Received, TakenLaunch, Timer};

/// How long after a failure an item is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub items: u32,
    pub concurrency: u32,
    pub next: u32,
    pub active: u32,
    pub done: u32,
    pub sum: u64,
}

/// What the log holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Started { items: u32, concurrency: u32 },
    Launched { item: u32, attempt: u32 },
    Finished { item: u32, attempt: u32, value: u64 },
    Postponed { item: u32, attempt: u32 },
    Resumed { item: u32 },
}

/// All of a workflow's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whole {
    pub counts: Counts,
    /// Status and body.
    pub items: BTreeMap<u32, (String, String)>,
    /// Items whose retry waits, and for when.
    pub timers: BTreeMap<u32, Timestamp>,
}

impl Whole {
    /// The fold: one event more.
    pub fn apply(&mut self, event: &Event, at: Timestamp) {
        let counts = &mut self.counts;
        match *event {
            Event::Started { items, concurrency } => {
                *counts = Counts { items, concurrency, ..Counts::default() };
            }
            Event::Launched { item, attempt } => {
                if attempt == 1 {
                    counts.next += 1;
                    counts.active += 1;
                }
                self.items.insert(item, ("running".to_owned(), format!("{attempt}")));
            }
            Event::Finished { item, value, .. } => {
                counts.active -= 1;
                counts.done += 1;
                counts.sum += value;
                self.items.insert(item, ("succeeded".to_owned(), format!("{value}")));
            }
            Event::Postponed { item, attempt } => {
                self.items.insert(item, ("delayed".to_owned(), format!("{attempt}")));
                self.timers.insert(item, at.plus(RETRY_AFTER));
            }
            Event::Resumed { item } => {
                self.timers.remove(&item);
            }
        }
    }

    /// What is stored.
    pub async fn stored(state: &dyn WorkflowState, workflow: Id) -> Result<Self, StateError> {
        let head = state.head(workflow).await?;
        let mut whole = Self::default();
        if let Some(head) = head {
            whole.counts = serde_json::from_str(&head.body).unwrap_or_default();
        }
        let mut after = None;
        loop {
            let page = state.items(workflow, 0, &ItemQuery { after, limit: 1_000, status: None }).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.item);
            whole.items.extend(page.into_iter().map(|item| (item.item, (item.status, item.body))));
        }
        for timer in state.timers(workflow, None, 10_000).await? {
            whole.timers.insert(timer.key.parse().unwrap_or(u32::MAX), timer.due);
        }
        Ok(whole)
    }

    /// What the log says.
    pub async fn replayed(state: &dyn WorkflowState, workflow: Id) -> Result<Self, StateError> {
        let mut whole = Self::default();
        let mut from = 0;
        loop {
            let page = state.events(workflow, from, 777).await?;
            if page.is_empty() {
                return Ok(whole);
            }
            for event in page {
                assert_eq!(event.seq, from, "the log has a gap");
                from += 1;
                whole.apply(&serde_json::from_str(&event.body).unwrap(), event.at);
            }
        }
    }
}

/// The execution that runs an item: the id of its launch.
pub fn execution_of(workflow: Id, item: u32, attempt: u32) -> Id {
    Id::derive("toy", at(0), &[&workflow.to_string(), &item.to_string(), &attempt.to_string()])
}

/// What a launch asks for.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: u32,
    attempt: u32,
}

/// What its result says.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    item: u32,
    value: Option<u64>,
}

/// The item's part of the state, and the change so far.
struct Step {
    whole: Whole,
    changes: Changes,
    workflow: Id,
}

impl Step {
    fn emit(&mut self, event: &Event) {
        let at = self.changes.at;
        self.whole.apply(event, at);
        self.changes.event("toy", serde_json::to_string(event).unwrap());
        match *event {
            Event::Launched { item, attempt } => {
                let id = execution_of(self.workflow, item, attempt);
                let body = serde_json::to_string(&Order { item, attempt }).unwrap();
                self.changes.launches.push(Launch { id, kind: "toy".to_owned(), due: at, body });
            }
            Event::Postponed { item, .. } => {
                let due = at.plus(RETRY_AFTER);
                self.changes.timers.push(Timer { key: format!("{item:08}"), due, body: String::new() });
            }
            Event::Resumed { item } => self.changes.cleared_timers.push(format!("{item:08}")),
            _ => {}
        }
        if let Event::Launched { item, .. } | Event::Finished { item, .. } | Event::Postponed { item, .. } = *event {
            let (status, body) = self.whole.items[&item].clone();
            self.changes.items.push(Item { task: 0, item, status, body });
        }
    }

    fn fill(&mut self) {
        while self.whole.counts.active < self.whole.counts.concurrency
            && self.whole.counts.next < self.whole.counts.items
        {
            let item = self.whole.counts.next;
            self.emit(&Event::Launched { item, attempt: 1 });
        }
    }

    fn done(mut self) -> Changes {
        let counts = &self.whole.counts;
        let finished = counts.done == counts.items;
        self.changes.head.status = if finished { "succeeded" } else { "running" }.to_owned();
        self.changes.head.finished = finished.then_some(self.changes.at);
        self.changes.head.body = serde_json::to_string(counts).unwrap();
        self.changes
    }
}

/// Begins a workflow; its first launches are the caller's.
pub async fn start(
    state: &dyn WorkflowState,
    workflow: Id,
    items: u32,
    concurrency: u32,
) -> Result<Vec<Launch>, StateError> {
    let head = HeadState { execution: id(7), status: "running".to_owned(), finished: None, body: String::new() };
    let mut step = Step { whole: Whole::default(), changes: Changes::new(head, at(0)), workflow };
    step.emit(&Event::Started { items, concurrency });
    step.fill();
    let changes = step.done();
    let launches = changes.launches.clone();
    state.create(Creation { id: workflow, engine: "toy".to_owned(), changes }, HOLD).await?;
    Ok(launches)
}

/// What a drain leads to.
pub async fn decide(drain: &dyn Drain, now: Timestamp) -> Result<Changes, StateError> {
    let workflow = drain.state().id;
    let mut step = Step { whole: Whole::default(), changes: Changes::new(drain.state().into(), now), workflow };
    step.whole.counts = serde_json::from_str(&drain.state().body).unwrap();
    for timer in drain.due() {
        let item = timer.key.parse().unwrap();
        step.emit(&Event::Resumed { item });
        step.emit(&Event::Launched { item, attempt: 2 });
    }
    // The rows of these items, and no others.
    let outcome_of = |received: &Received| -> Outcome { serde_json::from_str(&received.message.body).unwrap() };
    let numbers: Vec<u32> = drain.messages().iter().map(|received| outcome_of(received).item).collect();
    let rows = if numbers.is_empty() { Vec::new() } else { drain.some_items(workflow, 0, &numbers).await? };
    let rows: BTreeMap<u32, (String, String)> =
        rows.into_iter().map(|row| (row.item, (row.status, row.body))).collect();
    for received in drain.messages() {
        let outcome = outcome_of(received);
        let item = outcome.item;
        let attempt = received.message.attempt;
        let known = step.whole.items.get(&item).or_else(|| rows.get(&item));
        let running = known.is_some_and(|(status, of)| status == "running" && *of == attempt.to_string());
        assert!(running, "item {item} attempt {attempt} was used before");
        match outcome.value {
            Some(value) => step.emit(&Event::Finished { item, attempt, value }),
            None if attempt == 1 => step.emit(&Event::Postponed { item, attempt }),
            None => step.emit(&Event::Finished { item, attempt, value: 0 }),
        }
        step.changes.used.push(received.seq);
    }
    step.fill();
    Ok(step.done())
}

/// One step of the engine; returns what it has to launch.
pub async fn advance(drain: Box<dyn Drain>, now: Timestamp) -> Result<(Committed, Vec<Launch>), StateError> {
    let changes = decide(&*drain, now).await?;
    let launches = changes.launches.clone();
    let committed = drain.commit(changes, HOLD).await?;
    Ok((committed, launches))
}

/// The result of a launch: some fail the first time.
pub fn result_of(launch: &Launch, fails: impl Fn(u32) -> bool) -> Message {
    let order: Order = serde_json::from_str(&launch.body).unwrap();
    let failed = order.attempt == 1 && fails(order.item);
    let value = (!failed).then(|| value_of(order.item));
    Message {
        source: launch.id,
        attempt: order.attempt,
        kind: "completed".to_owned(),
        at: at(1),
        body: serde_json::to_string(&Outcome { item: order.item, value }).unwrap(),
    }
}

/// What an item gives in the end.
pub fn value_of(item: u32) -> u64 {
    u64::from(item) * 3 + 1
}

/// Launches of a relay.
pub fn launches_of(taken: Vec<TakenLaunch>) -> Vec<(Id, Launch)> {
    taken.into_iter().map(|taken| (taken.workflow, taken.launch)).collect()
}
