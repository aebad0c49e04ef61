//! Statuses of workflows, task instances and items, and the sets that the rules speak of (spec/orquesta.md §15).

use std::fmt;

use serde::{Deserialize, Serialize};

/// One set of names for workflows, tasks and items; each has its own edges (see [`super::machines`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing has happened yet; shown as `null`.
    #[default]
    #[serde(rename = "null")]
    Unset,
    Requested,
    Scheduled,
    Delayed,
    Running,
    Pending,
    Pausing,
    Paused,
    Resuming,
    Succeeded,
    Failed,
    Timeout,
    Abandoned,
    Retrying,
    Canceling,
    Canceled,
}

use Status::{
    Abandoned, Canceled, Canceling, Delayed, Failed, Paused, Pausing, Pending, Requested, Resuming, Retrying, Running,
    Scheduled, Succeeded, Timeout, Unset,
};

impl Status {
    pub const ALL: [Self; 16] = [
        Unset, Requested, Scheduled, Delayed, Running, Pending, Pausing, Paused, Resuming, Succeeded, Failed, Timeout,
        Abandoned, Retrying, Canceling, Canceled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Unset => "null",
            Requested => "requested",
            Scheduled => "scheduled",
            Delayed => "delayed",
            Running => "running",
            Pending => "pending",
            Pausing => "pausing",
            Paused => "paused",
            Resuming => "resuming",
            Succeeded => "succeeded",
            Failed => "failed",
            Timeout => "timeout",
            Abandoned => "abandoned",
            Retrying => "retrying",
            Canceling => "canceling",
            Canceled => "canceled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// An execution begins: an event of such a status makes a new instance of a task that was completed.
    pub const fn is_starting(self) -> bool {
        matches!(self, Requested | Scheduled | Delayed | Running | Pending)
    }

    /// A workflow of this status hands out tasks.
    pub const fn is_schedulable(self) -> bool {
        matches!(self, Requested | Scheduled | Delayed | Running | Resuming | Retrying)
    }

    /// Something runs, or will without further ado.
    pub const fn is_active(self) -> bool {
        matches!(self, Requested | Scheduled | Delayed | Running | Resuming | Pausing | Canceling)
    }

    pub const fn is_abended(self) -> bool {
        matches!(self, Failed | Timeout | Abandoned)
    }

    pub const fn is_completed(self) -> bool {
        matches!(self, Succeeded | Failed | Timeout | Abandoned | Canceled)
    }

    /// Held up, or about to be.
    pub const fn is_held(self) -> bool {
        matches!(self, Pausing | Paused | Pending)
    }

    pub const fn is_cancelled(self) -> bool {
        matches!(self, Canceling | Canceled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<model::Status> for Status {
    fn from(status: model::Status) -> Self {
        match status {
            model::Status::Requested => Requested,
            model::Status::Scheduled => Scheduled,
            model::Status::Delayed => Delayed,
            model::Status::Running => Running,
            model::Status::Succeeded => Succeeded,
            model::Status::Failed => Failed,
            model::Status::Timeout => Timeout,
            model::Status::Abandoned => Abandoned,
            model::Status::Canceling => Canceling,
            model::Status::Canceled => Canceled,
            model::Status::Pending => Pending,
            model::Status::Pausing => Pausing,
            model::Status::Paused => Paused,
            model::Status::Resuming => Resuming,
        }
    }
}

/// How many of something have which status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally([u32; Status::ALL.len()]);

impl Tally {
    pub const fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
    }

    pub const fn remove(&mut self, status: Status) {
        self.0[status as usize] -= 1;
    }

    pub const fn shift(&mut self, from: Status, to: Status) {
        self.remove(from);
        self.add(to);
    }

    pub const fn of(&self, status: Status) -> u32 {
        self.0[status as usize]
    }

    /// How many have a status of a set.
    pub fn count(&self, set: impl Fn(Status) -> bool) -> u32 {
        Status::ALL.into_iter().filter(|status| set(*status)).map(|status| self.of(status)).sum()
    }

    pub fn any(&self, set: impl Fn(Status) -> bool) -> bool {
        self.count(set) > 0
    }
}
