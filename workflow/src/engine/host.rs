//! What the engine asks of the system around it.

use std::collections::HashMap;
use std::fmt::Debug;

use async_trait::async_trait;
use expr::{KeyAnswer, KeyRequest};
use model::resource::Object;
use model::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::orquesta::expression::Expressions;

/// Keys of the datastore, fetched before expressions that read them are evaluated again.
pub type Answers = HashMap<KeyRequest, KeyAnswer>;

/// The system around the engine: executions, their results, the datastore.
///
/// To ensure correctness, calls with an id may be repeated at any time, also after the workflow has ended: the same id
/// makes nothing twice. An error leaves the outcome open, and the call is made again later, here or on another node.
#[async_trait]
pub trait Host: Send + Sync + Debug {
    /// Requests the execution of an action, under the order's id. What can't be requested at all (an unknown action,
    /// parameters that don't fit) is [`Launched::Refused`]: the task fails with that.
    async fn launch(&self, workflow: Id, order: &Order) -> Result<Launched, HostError>;

    /// Shows a workflow's status on the execution that stands for it; a completed one also ends it.
    async fn report(&self, workflow: Id, report: &Report) -> Result<(), HostError>;

    /// Passes a pause, resume or cancel on to executions of a workflow that may feel it: workflows, and what is
    /// delayed or waits for an answer. Plain actions run to their end.
    async fn signal(&self, workflow: Id, signal: &Signal) -> Result<(), HostError>;

    /// The result of an execution whose message only refers to it.
    async fn result(&self, execution: Id) -> Result<Value, HostError>;

    /// Evaluates expressions with the keys that are known.
    fn expressions(&self, answers: Answers) -> Box<dyn Expressions>;

    /// The keys that are known, for templates of chains.
    fn keys(&self, answers: Answers) -> Box<dyn expr::KeySource>;

    /// Fetches keys for a workflow, whose initial context tells the user.
    async fn fetch_keys(&self, context: &Object, keys: &[KeyRequest]) -> Result<Answers, HostError>;
}

/// The system around the engine didn't do what it was asked; it may later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

/// What came of a launch.
#[derive(Debug, Clone, PartialEq)]
pub enum Launched {
    /// The execution is there.
    Requested,
    /// It can't be, ever. The text says why.
    Refused(String),
    /// There is no such action.
    Unknown(String),
}

/// An action to execute for a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The execution's.
    pub id: Id,
    /// The action execution that stands for the workflow.
    pub parent: Id,
    /// The task execution's.
    pub task_execution: Id,
    pub task: String,
    pub route: u32,
    pub item: Option<u32>,
    pub action: String,
    /// A mapping, or null.
    pub input: Value,
    /// Milliseconds.
    pub delay: Option<u64>,
    pub at: Timestamp,
    /// Of a chain's node.
    #[serde(default)]
    pub chain: Option<Box<ChainLink>>,
    /// Of a workflow that goes on from some of its tasks: what its execution's context says under `re-run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Value>,
}

/// What an execution keeps of the chain it belongs to (spec/actionchain.md §3, §7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The node's definition.
    pub node: Value,
    pub notify: Option<Value>,
}

/// A workflow's status for its execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub execution: Id,
    pub status: crate::orquesta::Status,
    /// Of a completed workflow: `output`, and `errors` if it has failed (spec/orquesta.md §23).
    pub result: Option<Value>,
    pub at: Timestamp,
    /// The first one to this execution: what was asked of the execution before it, no workflow has heard.
    #[serde(default)]
    pub first: bool,
    /// Of the workflow, once it is stored: reports arrive in any order.
    #[serde(default)]
    pub revision: u64,
}

/// A request for executions under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub wish: Wish,
    pub executions: Vec<Id>,
    /// Of the workflow, once it is stored: signals arrive in any order.
    #[serde(default)]
    pub revision: u64,
}

/// What may be asked of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    Pause,
    Resume,
    Cancel,
}
