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
            "created_at": self.created,
            "updated_at": self.updated,
            "state": self.status,
            "result": self.result,
        })
    }
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
