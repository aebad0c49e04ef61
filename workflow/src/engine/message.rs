//! What is put into a workflow's inbox.

use model::resource::Object;
use model::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::host::Wish;
use crate::limits::MAX_BODY_BYTES;
use crate::orquesta::{RerunRequest, Status};
use crate::rows::Message;

/// Larger results stay with their executions.
const MAX_RESULT_BYTES: usize = MAX_BODY_BYTES / 4;

const STATUS: &str = "status";
const WISH: &str = "wish";
const RERUN: &str = "rerun";

/// A message as the engine reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "lowercase")]
pub enum Content {
    /// An execution of the workflow has a status; of a completed one `result`, or nothing where it is too large.
    Status {
        status: Status,
        result: Option<Value>,
    },
    /// An execution couldn't be requested at all; `known` is false where there is no such action.
    Refused {
        reason: String,
        known: bool,
    },
    Wish {
        wish: Wish,
    },
    /// Run again, shown by another execution.
    Rerun {
        execution: Id,
        #[serde(flatten)]
        rerun: Rerun,
    },
}

/// How a workflow is run again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rerun {
    /// These tasks, or all that abended.
    pub tasks: Option<Vec<Again>>,
    /// Tasks whose workflows go on from some of their own tasks instead of beginning anew.
    #[serde(default)]
    pub below: Vec<Below>,
    /// What expressions see of the new execution: `st2` and `parent`.
    #[serde(default)]
    pub context: Object,
}

/// A task, or an item of it, whose workflow goes on where it failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Below {
    pub task: String,
    pub route: u32,
    pub item: Option<u32>,
    /// The execution to run again and the tasks in it: what the context of the next one says under `re-run`.
    pub link: Value,
}

impl Below {
    pub(super) fn is_for(&self, task: &str, route: u32, item: Option<u32>) -> bool {
        self.task == task && self.route == route && self.item == item
    }
}

/// A task to run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    pub task: String,
    pub route: u32,
    pub reset_items: bool,
}

impl From<Again> for RerunRequest {
    fn from(again: Again) -> Self {
        Self { task: again.task, route: again.route, reset_items: again.reset_items }
    }
}

/// An execution has a status that a workflow wants to know: completed, pending, paused or running again.
pub fn status(execution: Id, attempt: u32, status: Status, result: Option<&Value>, at: Timestamp) -> Message {
    let small = result.filter(|result| result.to_string().len() <= MAX_RESULT_BYTES);
    let content = Content::Status { status, result: small.cloned() };
    message(execution, attempt, &format!("{STATUS}:{status}"), &content, at)
}

/// An execution can't be requested, ever.
pub fn refused(execution: Id, reason: String, known: bool, at: Timestamp) -> Message {
    message(execution, 1, "refused", &Content::Refused { reason, known }, at)
}

/// Somebody wants a workflow to pause, resume or cancel; `request` tells one wish from the next.
pub fn wish(request: Id, wish: Wish, at: Timestamp) -> Message {
    message(request, 1, WISH, &Content::Wish { wish }, at)
}

/// A new execution runs a completed workflow again.
pub fn rerun(execution: Id, rerun: Rerun, at: Timestamp) -> Message {
    message(execution, 1, RERUN, &Content::Rerun { execution, rerun }, at)
}

fn message(source: Id, attempt: u32, kind: &str, content: &Content, at: Timestamp) -> Message {
    let body = serde_json::to_string(content).unwrap_or_default();
    Message { source, attempt, kind: kind.to_owned(), at, body }
}
