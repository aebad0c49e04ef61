//! What a chain shows of itself (spec/actionchain.md §5).

use model::{Execution, Id, Object, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::orquesta::Status;

/// A node that was run: one for each pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    /// None if it couldn't be requested.
    pub execution: Option<Id>,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub status: Status,
    pub result: Value,
}

impl Entry {
    fn shown(&self) -> Value {
        json!({
            "id": self.name,
            "name": self.name,
            "execution_id": self.execution,
            "liveaction_id": self.execution.map(Execution::liveaction_of),
            "workflow": null,
            "created_at": spelled(self.created),
            "updated_at": spelled(self.updated),
            "state": self.status,
            "result": self.result,
        })
    }
}

/// As chains spell times: with an offset for UTC, unlike the API's own.
fn spelled(time: Timestamp) -> String {
    time.datetime().format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

/// Why a chain ended without an action's doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub error: String,
    pub traceback: String,
}

impl Error {
    pub fn new(message: &str, cause: &str) -> Self {
        Self { error: format!("{message}. {cause}"), traceback: cause.to_owned() }
    }
}

/// The result of a chain's execution; `published` unless it isn't to be shown.
pub fn of_chain(entries: &[Entry], published: Option<&Object>, error: Option<&Error>) -> Value {
    let mut result = Object::new();
    result.insert("tasks".to_owned(), entries.iter().map(Entry::shown).collect());
    if let Some(published) = published {
        result.insert("published".to_owned(), Value::Object(published.clone()));
    }
    if let Some(Error { error, traceback }) = error {
        result.insert("error".to_owned(), json!(error));
        result.insert("traceback".to_owned(), json!(traceback));
    }
    Value::Object(result)
}
