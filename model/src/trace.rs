//! Traces: what followed from an event or a request (spec/model.md §8.24).
//!
//! A trace is no document. It begins with an execution or a trigger instance that names no other trace, and has that
//! one's id; whatever follows names it in its `trace_context`. So a trace costs no write and is never half-written.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::execution::Execution;
use crate::id::Id;
use crate::resource::{Keys, Object};
use crate::time::Timestamp;
use crate::trigger::TriggerInstance;

/// The trace that somebody named.
fn named(trace_context: Option<&Object>) -> Option<Id> {
    trace_context?.get("id_")?.as_str()?.parse().ok()
}

fn tag(trace_context: Option<&Object>) -> Option<&str> {
    trace_context?.get("trace_tag")?.as_str().filter(|tag| !tag.is_empty())
}

/// `trace` of what belongs to another one's; `trace_start`, and `trace_tag` if it was given, of what begins its own.
pub(crate) fn keys(keys: &mut Keys, trace_context: Option<&Object>, start: Timestamp) {
    if let Some(id) = named(trace_context) {
        keys.push(("trace", id.into()));
        return;
    }
    keys.push(("trace_start", start.into()));
    keys.extend(tag(trace_context).map(|tag| ("trace_tag", tag.into())));
}

/// What grants of permissions call a trace.
pub fn uid_of(id: Id) -> String {
    let digest = Sha256::digest(id.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("trace:{digest}")
}

impl Execution {
    fn trace_context(&self) -> Option<&Object> {
        self.context.get("trace_context").and_then(Value::as_object)
    }

    /// The trace it belongs to.
    pub fn trace(&self) -> Id {
        named(self.trace_context()).unwrap_or(self.id)
    }

    pub fn begins_trace(&self) -> bool {
        named(self.trace_context()).is_none()
    }

    /// Of the trace that it begins.
    pub fn trace_tag(&self) -> String {
        tag(self.trace_context()).map_or_else(|| format!("{EXECUTION_TAG}{}", self.liveaction_id), str::to_owned)
    }

    /// For what follows from it: the same trace.
    pub fn trace_link(&self) -> Object {
        let mut link = self.trace_context().cloned().unwrap_or_default();
        link.insert("id_".to_owned(), self.trace().to_string().into());
        link
    }
}

/// Before the live action's id, in the tag of a trace that an execution began without naming one.
pub const EXECUTION_TAG: &str = "execution-";
/// Before its id, in the tag of a trace that a trigger instance began without naming one.
pub const INSTANCE_TAG: &str = "trigger_instance-";

impl TriggerInstance {
    /// The trace it belongs to.
    pub fn trace(&self) -> Id {
        named(self.trace_context.as_ref()).unwrap_or(self.id)
    }

    pub fn begins_trace(&self) -> bool {
        named(self.trace_context.as_ref()).is_none()
    }

    /// Of the trace that it begins.
    pub fn trace_tag(&self) -> String {
        tag(self.trace_context.as_ref()).map_or_else(|| format!("{INSTANCE_TAG}{}", self.id), str::to_owned)
    }
}
