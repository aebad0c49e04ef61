//! What travels.

use std::sync::Arc;

use model::{ActionAlias, Execution, Id, OutputChunk, TriggerInstance, Versioned};
use serde::{Deserialize, Serialize};

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Create,
    Update,
    Delete,
}

/// Kinds of events that a subscriber chooses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Topic {
    Execution,
    Output,
    Announcement,
    Alias,
    /// Actions, runner types, rules, triggers, trigger types, policies, configs, keys: caches drop what they hold.
    Content,
    Cancel,
}

impl Topic {
    pub const ALL: [Topic; 6] =
        [Self::Execution, Self::Output, Self::Announcement, Self::Alias, Self::Content, Self::Cancel];
}

/// Something that everybody interested hears about, if they listen at that moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    Execution(Change, Arc<Versioned<Execution>>),
    Output(Arc<OutputChunk>),
    Announcement {
        route: String,
        payload: serde_json::Value,
        trace_context: Option<serde_json::Value>,
    },
    Alias(Change, Arc<ActionAlias>),
    /// A document of the named collection changed; `reference` is its ref or name.
    Content {
        change: Change,
        collection: String,
        id: Id,
        reference: String,
    },
    /// The execution is canceling (or over): whoever runs it ends it.
    Cancel {
        execution: Id,
    },
}

impl Event {
    pub const fn topic(&self) -> Topic {
        match self {
            Self::Execution(..) => Topic::Execution,
            Self::Output(_) => Topic::Output,
            Self::Announcement { .. } => Topic::Announcement,
            Self::Alias(..) => Topic::Alias,
            Self::Content { .. } => Topic::Content,
            Self::Cancel { .. } => Topic::Cancel,
        }
    }
}

/// Queues with competing consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Queue {
    /// Trigger instances to match against rules.
    Rules,
    /// Requested executions to schedule.
    Schedule,
    /// Executions that may run now.
    Run,
    /// Completed executions: notifications, action trigger, policies' release and retry.
    PostRun,
}

impl Queue {
    pub const ALL: [Queue; 4] = [Queue::Rules, Queue::Schedule, Queue::Run, Queue::PostRun];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Schedule => "schedule",
            Self::Run => "run",
            Self::PostRun => "postrun",
        }
    }
}

/// Work on a document: its id, and in the same process the document itself, so that the consumer need not read it.
///
/// The hint is what the sender last wrote or read; a consumer's compare-and-set tells when it is out of date.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Job {
    Execution {
        id: Id,
        #[serde(skip)]
        hint: Option<Arc<Versioned<Execution>>>,
    },
    TriggerInstance {
        id: Id,
        #[serde(skip)]
        hint: Option<Arc<Versioned<TriggerInstance>>>,
    },
}

impl Job {
    pub const fn id(&self) -> Id {
        match self {
            Self::Execution { id, .. } | Self::TriggerInstance { id, .. } => *id,
        }
    }
}
