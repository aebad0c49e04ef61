//! The port: what engines, relays, the API and the garbage collector ask of the workflow state.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use model::{Id, Timestamp};

use crate::changes::{Changes, Creation};
use crate::error::StateError;
use crate::rows::{
    Cell, DocumentInfo, Event, Head, HeadQuery, Item, ItemQuery, Message, Received, TakenLaunch, Task, TaskQuery, Timer,
};
use crate::stats::Stats;
use crate::wake::Wakes;

/// Reading what is committed. A [`Drain`] reads its own workflow as it claimed it.
#[async_trait]
pub trait Reader: Send + Sync + Debug {
    async fn head(&self, workflow: Id) -> Result<Option<Head>, StateError>;

    /// A task instance by its place in the sequence.
    async fn task(&self, workflow: Id, seq: u32) -> Result<Option<Task>, StateError>;

    /// The latest instance of a task in a route.
    async fn latest_task(&self, workflow: Id, task: &str, route: u32) -> Result<Option<Task>, StateError> {
        let query = TaskQuery {
            task: Some(task.to_owned()),
            route: Some(route),
            descending: true,
            limit: 1,
            ..TaskQuery::default()
        };
        Ok(self.tasks(workflow, &query).await?.pop())
    }

    async fn tasks(&self, workflow: Id, query: &TaskQuery) -> Result<Vec<Task>, StateError>;

    async fn items(&self, workflow: Id, task: u32, query: &ItemQuery) -> Result<Vec<Item>, StateError>;

    async fn item(&self, workflow: Id, task: u32, item: u32) -> Result<Option<Item>, StateError> {
        let query = ItemQuery { after: item.checked_sub(1), limit: 1, ..ItemQuery::default() };
        Ok(self.items(workflow, task, &query).await?.pop().filter(|found| found.item == item))
    }

    /// Items by their numbers, in one statement: those that a page of messages is about. Unknown ones are left out.
    async fn some_items(&self, workflow: Id, task: u32, items: &[u32]) -> Result<Vec<Item>, StateError>;

    async fn cell(&self, workflow: Id, space: &str, key: &str) -> Result<Option<Cell>, StateError>;

    /// Cells of a space by key, beyond `after`.
    async fn cells(&self, workflow: Id, space: &str, after: Option<&str>, limit: u32) -> Result<Vec<Cell>, StateError>;

    /// The event log from number `from` on.
    async fn events(&self, workflow: Id, from: u64, limit: u32) -> Result<Vec<Event>, StateError>;

    /// Timers by key, beyond `after`.
    async fn timers(&self, workflow: Id, after: Option<&str>, limit: u32) -> Result<Vec<Timer>, StateError>;

    /// Documents by key, beyond `after`, without their bytes.
    async fn documents(&self, workflow: Id, after: Option<&str>, limit: u32) -> Result<Vec<DocumentInfo>, StateError>;

    async fn document_info(&self, workflow: Id, key: &str) -> Result<Option<DocumentInfo>, StateError>;

    /// The bytes of a document.
    async fn document(&self, workflow: Id, key: &str) -> Result<Option<Vec<u8>>, StateError>;
}

/// Durable state of workflows.
///
/// To ensure correctness, an adapter guarantees:
/// * when a call that writes returns `Ok`, all it wrote survives any crash, and readers see it at once;
/// * when it returns an error other than `Unavailable`, nothing was written; after `Unavailable`, all or nothing;
/// * a workflow has at most one [`Drain`] at any time on all nodes; a drain that lost its lock commits nothing;
/// * a message is used by at most one commit, however often it is delivered;
/// * a launch stays in the outbox until it is marked.
///
/// Cancel safety: dropping the future of a call leaves its outcome open, as `Unavailable` does. All calls may be
/// repeated.
#[async_trait]
pub trait WorkflowState: Reader {
    /// Begins a workflow; its inbox, outbox, timers and documents may be used from then on. Launches are held for
    /// the caller as by [`Drain::commit`].
    async fn create(&self, creation: Creation, hold: Duration) -> Result<Created, StateError>;

    /// Puts messages into the inbox of a workflow, in order; those that were delivered before are left out.
    async fn deliver(&self, workflow: Id, messages: &[Message]) -> Result<Delivered, StateError>;

    /// Locks a workflow that has messages or due timers.
    async fn claim(&self, claim: &Claim) -> Result<Claimed, StateError>;

    /// Takes due launches from the outbox, of any workflow, earliest first, and keeps them from other relays until
    /// `now + hold`; those not marked by then come again, here or elsewhere.
    async fn take_launches(&self, now: Timestamp, hold: Duration, limit: u32) -> Result<Vec<TakenLaunch>, StateError>;

    /// Takes launches out of the outbox: what they ask for exists, durably. Unknown ones are ignored.
    async fn mark_launched(&self, workflow: Id, launches: &[Id]) -> Result<(), StateError>;

    /// When the earliest timer or launch is due, of all workflows.
    async fn next_due(&self) -> Result<Option<Timestamp>, StateError>;

    async fn heads(&self, query: &HeadQuery) -> Result<Vec<Head>, StateError>;

    /// The latest workflow of an action execution.
    async fn head_of_execution(&self, execution: Id) -> Result<Option<Head>, StateError>;

    /// A task instance by the id of its task execution, and its workflow.
    async fn task_by_id(&self, id: Id) -> Result<Option<(Id, Task)>, StateError>;

    /// Messages of a workflow that aren't used yet, in order.
    async fn inbox(&self, workflow: Id, limit: u32) -> Result<Vec<Received>, StateError>;

    /// Launches of a workflow that aren't marked, by id.
    async fn outbox(&self, workflow: Id, limit: u32) -> Result<Vec<TakenLaunch>, StateError>;

    /// Removes at most about `rows` rows of a workflow. From the first call on it is not claimed, takes no messages
    /// and launches nothing; call again until [`Deletion::Done`].
    async fn delete(&self, workflow: Id, rows: u32) -> Result<Deletion, StateError>;

    /// The database's clock. Engines on several nodes go by one clock if each adds its offset from this one.
    async fn time(&self) -> Result<Timestamp, StateError>;

    /// Rings when there may be something to claim or to launch, on this node or another.
    fn wakes(&self) -> Wakes;

    /// Whether it answers and takes writes, for readiness; within a second.
    async fn check(&self) -> Result<(), StateError>;

    fn stats(&self) -> Stats;

    /// Lets go of all connections. Calls after it are `Unavailable`.
    async fn close(&self);
}

/// Which workflow to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// This one; or the next that has something to do, in an order that lets none starve.
    pub workflow: Option<Id>,
    /// Timers due by then count.
    pub now: Timestamp,
    /// Most messages to read; at least 1.
    pub messages: u32,
    /// Most due timers to read; at least 1.
    pub timers: u32,
}

impl Claim {
    pub const fn next(now: Timestamp) -> Self {
        Self { workflow: None, now, messages: 100, timers: 100 }
    }

    pub const fn one(workflow: Id, now: Timestamp) -> Self {
        Self { workflow: Some(workflow), now, messages: 100, timers: 100 }
    }
}

/// What came of a claim.
#[derive(Debug)]
pub enum Claimed {
    Drain(Box<dyn Drain>),
    /// The workflow is being drained; whoever does it will see the new messages (see [`Committed::more`]).
    Busy,
    /// Nothing to do.
    Idle,
}

/// A workflow that is locked for its holder: it sees the state, and commits one change or none. Dropped without a
/// commit, it lets the workflow go as it was.
#[async_trait]
pub trait Drain: Reader {
    /// The head as locked.
    fn state(&self) -> &Head;

    /// The first unused messages, in order.
    fn messages(&self) -> &[Received];

    /// Timers that are due, earliest first.
    fn due(&self) -> &[Timer];

    /// Writes the change, if the head is still at the revision of [`Drain::state`], and lets the workflow go.
    ///
    /// Its launches are kept from relays for the time `hold`: the holder launches them by itself, and marks them.
    /// If it dies, they come to a relay.
    async fn commit(self: Box<Self>, changes: Changes, hold: Duration) -> Result<Committed, StateError>;

    /// Lets the workflow go as it was.
    async fn release(self: Box<Self>);
}

/// What a commit gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The new revision.
    pub rev: u64,
    /// More messages are waiting: claim this workflow again. Looked up after the lock was let go, so that a message
    /// whose deliverer found the workflow busy is seen by either of the two.
    pub more: bool,
}

/// What came of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    New,
    /// A workflow of this id is there, and stays as it is.
    Present,
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// For each message, whether it is new.
    Known(Vec<bool>),
    /// There is no such workflow (any more).
    Unknown,
}

/// How far a deletion got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Nothing of it is left.
    Done,
    More,
    /// It is being drained.
    Busy,
}
