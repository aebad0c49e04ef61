//! What a workflow remembers: all that serialising and loading has to keep (spec/orquesta.md §6–§11, §19, §21).

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Timestamp;
use model::resource::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contexts::{Contexts, ListId};
use super::status::{Status, Tally};

/// Raised when an older state can't be read as it is any more.
pub const VERSION: u32 = 1;

/// The state of a workflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    pub status: Status,
    /// As the caller gave them, undeclared ones included.
    pub inputs: Object,
    pub contexts: Contexts,
    /// Details of each route: back references of the splits that lead to it. Route 0 has none.
    pub routes: Vec<Vec<Arc<str>>>,
    /// Task instances in order.
    pub tasks: Vec<TaskState>,
    /// What may run next, in the order of staging.
    pub staged: BTreeMap<u64, Staged>,
    pub next_staged: u64,
    pub errors: Vec<ErrorEntry>,
    pub output: Option<Object>,
    pub reruns: Vec<Vec<u32>>,
}

/// A task instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    pub id: Arc<str>,
    pub route: u32,
    pub status: Status,
    pub ctx_in: ListId,
    /// The last transition that published, and the context that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx_out: Option<(Arc<str>, u32)>,
    /// Instances before it, by back reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prev: BTreeMap<Arc<str>, u32>,
    /// Verdicts of its transitions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub next: BTreeMap<Arc<str>, bool>,
    #[serde(default)]
    pub term: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Statuses of its items, once it has completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Status>>,
    /// Of its last completion; of a with-items task, the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Arc<Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryState {
    pub when: Option<String>,
    pub count: i64,
    /// Seconds.
    pub delay: Option<i64>,
    /// Runs so far after the first.
    pub tally: i64,
}

/// A task that may run next, or waits to be ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    pub id: Arc<str>,
    pub route: u32,
    pub ctx_in: ListId,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prev: BTreeMap<Arc<str>, u32>,
    pub ready: bool,
    /// A with-items task that has abended, kept for a re-run.
    #[serde(default)]
    pub completed: bool,
    /// Runs although the workflow has failed: it stands beside the command `fail`.
    #[serde(default)]
    pub run_on_fail: bool,
    /// It runs again, after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
}

/// The items of a staged with-items task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredItems", into = "StoredItems")]
pub struct Items {
    statuses: Vec<Status>,
    results: Vec<Option<Arc<Value>>>,
    tally: Tally,
    /// None before it is unset.
    cursor: usize,
}

/// [`Items`] as they are serialised.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredItems {
    statuses: Vec<Status>,
    results: Vec<Option<Arc<Value>>>,
}

impl From<StoredItems> for Items {
    fn from(stored: StoredItems) -> Self {
        Self::restore(stored.statuses, stored.results)
    }
}

impl From<Items> for StoredItems {
    fn from(items: Items) -> Self {
        Self { statuses: items.statuses, results: items.results }
    }
}

impl Items {
    pub fn new(count: usize) -> Self {
        Self::restore(vec![Status::Unset; count], vec![None; count])
    }

    pub(super) fn restore(statuses: Vec<Status>, mut results: Vec<Option<Arc<Value>>>) -> Self {
        results.resize(statuses.len(), None);
        let mut tally = Tally::default();
        statuses.iter().for_each(|status| tally.add(*status));
        Self { statuses, results, tally, cursor: 0 }
    }

    pub fn len(&self) -> usize {
        self.statuses.len()
    }

    pub fn is_empty(&self) -> bool {
        self.statuses.is_empty()
    }

    pub fn statuses(&self) -> &[Status] {
        &self.statuses
    }

    pub fn result(&self, item: usize) -> Option<&Arc<Value>> {
        self.results.get(item)?.as_ref()
    }

    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Records an item's status; false if there is no such item.
    pub fn set(&mut self, item: usize, status: Status) -> bool {
        let Some(known) = self.statuses.get_mut(item) else { return false };
        self.tally.shift(*known, status);
        *known = status;
        if status == Status::Unset {
            self.cursor = self.cursor.min(item);
        }
        true
    }

    pub fn set_result(&mut self, item: usize, result: Arc<Value>) {
        if let Some(known) = self.results.get_mut(item) {
            *known = Some(result);
        }
    }

    /// Results by item; null for items that haven't run.
    pub fn accumulated(&self) -> Value {
        self.results.iter().map(|result| result.as_deref().cloned().unwrap_or_default()).collect()
    }

    /// The first items that haven't run, at most `limit`.
    pub fn unset(&mut self, limit: usize) -> Vec<usize> {
        while self.statuses.get(self.cursor).is_some_and(|status| *status != Status::Unset) {
            self.cursor += 1;
        }
        let after = self.statuses.iter().enumerate().skip(self.cursor);
        after.filter(|(_, status)| **status == Status::Unset).map(|(item, _)| item).take(limit).collect()
    }
}

/// An entry of the error log; absent keys aren't shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorEntry {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_transition_id: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Arc<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl ErrorEntry {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            kind: "error".to_owned(),
            message: message.into(),
            task_id: None,
            route: None,
            task_transition_id: None,
            result: None,
            data: None,
        }
    }

    pub fn of_task(mut self, task: &Arc<str>, route: Option<u32>) -> Self {
        self.task_id = Some(task.clone());
        self.route = route;
        self
    }
}
