//! Action executions: StackStorm's ActionExecution and LiveAction in one document (spec/model.md §8.3, §8.4).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::Id;
use crate::permit::HeldPermit;
use crate::resource::{Collection, Key, KeyKind, Keys, Object, Resource, index, unique};
use crate::status::Status;
use crate::time::Timestamp;
use crate::trace;

/// One entry per change of status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    pub timestamp: Timestamp,
    pub status: Status,
}

/// Who runs the execution, and under which fence (DESIGN §2 rules 3 and 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Node name.
    pub node: String,
    /// The node's session epoch: a node that lost its session has lost its claims.
    pub session: u64,
}

/// Where the process ran, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerInfo {
    pub hostname: String,
    pub pid: u32,
}

/// A result: in the document when small, else a blob of its own that the document refers to (DESIGN §3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResultValue {
    Blob {
        /// Content address in the `blobs` collection.
        #[serde(rename = "$blob")]
        blob: Id,
        /// The first bytes of the serialised result, for lists.
        preview: String,
    },
    Inline(Value),
}

/// The documents of the rule that fired, frozen at that moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// Names of the parts, for filters.
    pub rule_ref: String,
    pub rule_name: String,
    pub trigger_name: String,
    pub trigger_type_name: String,
    pub trigger_instance_id: Id,
    /// Ids in `snapshots`.
    pub rule: Id,
    pub trigger: Id,
    pub trigger_type: Id,
    /// The instance in API shape; it is unique to few executions, so it lies here.
    pub trigger_instance: Value,
}

/// An action execution.
///
/// The snapshots of action and runner, equal for many executions, are stored once by content
/// ([`crate::snapshot::Snapshot`]); `action` and `runner_type` are the names for filters and look-ups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    pub id: Id,
    pub liveaction_id: Id,
    pub status: Status,
    /// Action ref.
    pub action: String,
    pub action_is_workflow: bool,
    /// Runner type name.
    pub runner_type: String,
    /// Ids in `snapshots`.
    pub action_snapshot: Id,
    pub runner_snapshot: Id,
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub parameters: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultValue>,
    /// Bytes of the serialised result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub result_size: u64,
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub context: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Cause>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    pub log: Vec<LogEntry>,
    pub start_timestamp: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<Timestamp>,
    /// Milliseconds between the request and the earliest start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Object>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_execution: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_execution: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_info: Option<RunnerInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// How many times a runner claimed it; a result of an older attempt is refused (invariant E2).
    #[serde(default, skip_serializing_if = "is_zero32")]
    pub attempt: u32,
    /// When recovery looks at it if nothing moved it before; absent once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_at: Option<Timestamp>,
    /// Whether what follows completion (notifications, action trigger, retry policy) is still to be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub postrun_pending: bool,
    /// Permits of concurrency policies that it holds: [`crate::Permit`]s that go with its terminal status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permits: Vec<HeldPermit>,
    /// Keys of the concurrency policies that it waits for while it is delayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// Of an execution that stands for a workflow: what it has heard from workflows.
    #[serde(default, skip_serializing_if = "Heard::is_nothing")]
    pub heard: Heard,
    /// When the scheduler let it go. Only in messages: the runner that claims it turns it into the log's `scheduled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
}

/// Revisions of workflows that an execution has heard from. What they say arrives in any order, after crashes also much
/// later: what is older than what was heard changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Of its own workflow, that told it its status.
    #[serde(default, skip_serializing_if = "is_zero")]
    own: u64,
    /// Of the workflow that it belongs to, that asked it to pause or to go on.
    #[serde(default, skip_serializing_if = "is_zero")]
    above: u64,
}

impl Heard {
    /// Notes what its own workflow says at this revision; false if that is out of date.
    pub fn own(&mut self, revision: u64) -> bool {
        Self::note(&mut self.own, revision)
    }

    /// Notes what the workflow above asks at this revision; false if that is out of date.
    pub fn above(&mut self, revision: u64) -> bool {
        Self::note(&mut self.above, revision)
    }

    /// Versions before named no revision (0): theirs always counts.
    fn note(last: &mut u64, revision: u64) -> bool {
        let counts = revision == 0 || revision >= *last;
        *last = revision.max(*last);
        counts
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
fn is_zero32(value: &u32) -> bool {
    *value == 0
}

/// The move is not an edge of the status machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an execution can't go from {from} to {to}")]
pub struct IllegalMove {
    pub from: Status,
    pub to: Status,
}

impl Execution {
    /// The id that clients of StackStorm know as the execution's live action.
    pub fn liveaction_of(execution: Id) -> Id {
        Id::derive("liveaction", execution.time(), &[&execution.to_string()])
    }

    /// The workflow that the execution stands for, if it is one's and not a re-run of another's (spec/orquesta.md §19).
    pub fn own_workflow(&self) -> Id {
        Id::derive("workflow", self.start_timestamp, &[&self.id.to_string()])
    }

    /// Whether an Orquesta workflow stands behind it.
    pub fn is_orquesta(&self) -> bool {
        self.action_is_workflow && matches!(self.runner_type.as_str(), "orquesta" | "orchestra")
    }

    /// Moves along a legal edge, with its log entry; entering a completed status sets the end (invariant E3).
    ///
    /// Log times never go back, even when the clock does.
    pub fn advance(&mut self, to: Status, now: Timestamp) -> Result<(), IllegalMove> {
        if !self.status.may_become(to) {
            return Err(IllegalMove { from: self.status, to });
        }
        let now = self.log.last().map_or(now, |last| now.max(last.timestamp));
        self.status = to;
        self.log.push(LogEntry { timestamp: now, status: to });
        if to.is_completed() {
            self.end_timestamp = Some(now.max(self.start_timestamp));
            self.check_at = None;
            self.postrun_pending = true;
        }
        Ok(())
    }

    /// Earliest start.
    pub fn due(&self) -> Timestamp {
        self.start_timestamp.plus(Duration::from_millis(self.delay.unwrap_or(0)))
    }

    /// `context.user`.
    pub fn user(&self) -> Option<&str> {
        self.context.get("user").and_then(Value::as_str)
    }

    pub fn elapsed_seconds(&self) -> Option<f64> {
        Some(self.end_timestamp?.since(self.start_timestamp).as_micros() as f64 / 1e6)
    }
}

impl Resource for Execution {
    const COLLECTION: &'static Collection = &Collection {
        name: "executions",
        fields: &[
            ("status", KeyKind::Text),
            ("action", KeyKind::Text),
            ("runner", KeyKind::Text),
            ("liveaction", KeyKind::Text),
            ("parent", KeyKind::Text),
            ("user", KeyKind::Text),
            ("start_timestamp", KeyKind::Int),
            ("end_timestamp", KeyKind::Int),
            ("check_at", KeyKind::Int),
            ("postrun", KeyKind::Int),
            ("rule", KeyKind::Text),
            ("trigger", KeyKind::Text),
            ("trigger_type", KeyKind::Text),
            ("trigger_instance", KeyKind::Text),
            ("workflow_execution", KeyKind::Text),
            ("task_execution", KeyKind::Text),
            ("trace", KeyKind::Text),
            ("trace_start", KeyKind::Int),
            ("trace_tag", KeyKind::Text),
        ],
        indexes: &[
            index(&["start_timestamp"]),
            index(&["status", "start_timestamp"]),
            index(&["action", "status", "start_timestamp"]),
            unique(&["liveaction"]),
            index(&["parent", "start_timestamp"]),
            index(&["check_at"]),
            index(&["postrun"]),
            index(&["rule", "start_timestamp"]),
            index(&["trigger_instance"]),
            index(&["workflow_execution"]),
            index(&["task_execution"]),
            index(&["trace"]),
            index(&["trace_start"]),
            index(&["trace_tag"]),
        ],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        let mut keys: Keys = vec![
            ("status", self.status.into()),
            ("action", Key::from(self.action.as_str())),
            ("runner", Key::from(self.runner_type.as_str())),
            ("liveaction", self.liveaction_id.into()),
            ("start_timestamp", self.start_timestamp.into()),
        ];
        if let Some(user) = self.user() {
            keys.push(("user", user.into()));
        }
        if let Some(cause) = &self.cause {
            keys.push(("rule", cause.rule_name.as_str().into()));
            keys.push(("trigger", cause.trigger_name.as_str().into()));
            keys.push(("trigger_type", cause.trigger_type_name.as_str().into()));
            keys.push(("trigger_instance", cause.trigger_instance_id.into()));
        }
        let optional = [
            ("parent", self.parent.map(Key::from)),
            ("end_timestamp", self.end_timestamp.map(Key::from)),
            ("check_at", self.check_at.map(Key::from)),
            ("postrun", self.postrun_pending.then_some(Key::Int(1))),
            ("workflow_execution", self.workflow_execution.map(Key::from)),
            ("task_execution", self.task_execution.map(Key::from)),
        ];
        keys.extend(optional.into_iter().filter_map(|(field, key)| Some((field, key?))));
        trace::keys(&mut keys, self.context.get("trace_context").and_then(Value::as_object), self.start_timestamp);
        keys
    }
}

/// Which stream a chunk of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputType {
    Stdout,
    Stderr,
    Output,
}

impl OutputType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Output => "output",
        }
    }
}

/// A piece of a running action's output (spec/model.md §8.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputChunk {
    pub id: Id,
    pub execution_id: Id,
    pub action_ref: String,
    pub runner_ref: String,
    pub timestamp: Timestamp,
    pub output_type: OutputType,
    pub data: String,
    /// Order of the chunk within its attempt, from 0.
    pub seq: u64,
}

impl Resource for OutputChunk {
    const COLLECTION: &'static Collection = &Collection {
        name: "execution_outputs",
        fields: &[
            ("execution_id", KeyKind::Text),
            ("seq", KeyKind::Int),
            ("timestamp", KeyKind::Int),
            ("output_type", KeyKind::Text),
        ],
        indexes: &[index(&["execution_id", "seq"]), index(&["timestamp"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![
            ("execution_id", self.execution_id.into()),
            ("seq", Key::Int(i64::try_from(self.seq).unwrap_or(i64::MAX))),
            ("timestamp", self.timestamp.into()),
            ("output_type", self.output_type.as_str().into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_what_was_heard_changes_nothing() {
        let mut heard = Heard::default();
        assert!(heard.own(3) && heard.own(3) && heard.own(5));
        assert!(!heard.own(4), "a late one");
        assert!(heard.above(1), "the workflow above counts by itself");
        assert!(heard.own(0) && !heard.own(4), "versions before name none");
    }
}
