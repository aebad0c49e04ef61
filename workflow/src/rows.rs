//! What is kept of a workflow: one head, and rows beside it that are read and written one by one.

use model::{Id, Timestamp};

/// The small row of a workflow that every drain reads and writes: keep its body in the order of a kilobyte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Derived from the execution that first asked for it.
    pub id: Id,
    /// Whose bodies these are: `orquesta`, `mistral`, `action-chain`.
    pub engine: String,
    /// The action execution that shows the workflow; a re-run gives it another one (spec/orquesta.md §19).
    pub execution: Id,
    pub status: String,
    /// Raised by one by each commit; the first is 1.
    pub rev: u64,
    /// How many events were appended; the next gets this number.
    pub events: u64,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub finished: Option<Timestamp>,
    /// The engine's counters and flags.
    pub body: String,
}

/// What a commit says of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadState {
    pub execution: Id,
    pub status: String,
    pub finished: Option<Timestamp>,
    pub body: String,
}

impl From<&Head> for HeadState {
    fn from(head: &Head) -> Self {
        Self {
            execution: head.execution,
            status: head.status.clone(),
            finished: head.finished,
            body: head.body.clone(),
        }
    }
}

/// A task instance: one place of the sequence (spec/orquesta.md §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Place in the sequence, from 0.
    pub seq: u32,
    /// The id of its task execution in the API.
    pub id: Id,
    pub task: String,
    pub route: u32,
    pub status: String,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub body: String,
}

/// An item of a with-items task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The task instance, by its place in the sequence.
    pub task: u32,
    pub item: u32,
    pub status: String,
    pub body: String,
}

/// Anything else that the engine keeps by key: staged entries, routes, verdicts of joins, errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub space: String,
    pub key: String,
    pub body: String,
}

/// An entry of the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// From 0, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub kind: String,
    pub body: String,
}

/// What happened outside: a completion, a request to pause, an answer. Unique by (workflow, source, attempt, kind).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The execution that completed, or the id of the request.
    pub source: Id,
    pub attempt: u32,
    /// Such as `succeeded` or `request`; one source and attempt may send one of each.
    pub kind: String,
    pub at: Timestamp,
    /// Small: a large result stays where it is and is referred to.
    pub body: String,
}

/// A message in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Rises with arrival; messages that one caller delivered one after the other keep their order.
    pub seq: u64,
    pub message: Message,
}

/// Something due at a time, unique by key within the workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    pub key: String,
    pub due: Timestamp,
    pub body: String,
}

/// An entry of the outbox: what is to be launched, by a derived id, so that launching twice is launching once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Derived from (workflow, task, route, item, attempt).
    pub id: Id,
    pub kind: String,
    /// Not before.
    pub due: Timestamp,
    pub body: String,
}

/// An entry of the outbox as a relay has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenLaunch {
    pub workflow: Id,
    pub launch: Launch,
    /// How often it was taken, this time included.
    pub tries: u32,
}

/// A document without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentInfo {
    pub key: String,
    /// Before compression.
    pub size: u64,
    /// [`Id::of_content`] of its bytes: whoever has bytes of this hash need not read them again.
    pub hash: Id,
}

/// A page of task instances, by place in the sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskQuery {
    pub status: Option<String>,
    pub task: Option<String>,
    pub route: Option<u32>,
    /// Only places beyond this one (before it, if `descending`).
    pub after: Option<u32>,
    pub descending: bool,
    pub limit: u32,
}

/// A page of items of a task instance, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemQuery {
    pub status: Option<String>,
    pub after: Option<u32>,
    pub limit: u32,
}

/// A page of workflows, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadQuery {
    pub status: Option<String>,
    /// Only those that haven't finished.
    pub live: bool,
    /// Only those that finished before.
    pub finished_before: Option<Timestamp>,
    /// Only those whose last change was before.
    pub idle_since: Option<Timestamp>,
    pub after: Option<Id>,
    pub limit: u32,
}
