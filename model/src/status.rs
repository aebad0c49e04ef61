//! Execution statuses, their sets and their legal edges (spec/model.md §6.1, invariant E3).

use serde::{Deserialize, Serialize};

/// Status of an action execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Requested,
    Scheduled,
    Delayed,
    Running,
    Succeeded,
    Failed,
    Timeout,
    Abandoned,
    Canceling,
    Canceled,
    Pending,
    Pausing,
    Paused,
    Resuming,
}

use Status::{
    Abandoned, Canceled, Canceling, Delayed, Failed, Paused, Pausing, Pending, Requested, Resuming, Running, Scheduled,
    Succeeded, Timeout,
};

impl Status {
    /// In the order in which StackStorm lists them in error messages.
    pub const ALL: [Status; 14] = [
        Requested, Scheduled, Delayed, Running, Succeeded, Failed, Timeout, Abandoned, Canceling, Canceled, Pending,
        Pausing, Paused, Resuming,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Requested => "requested",
            Scheduled => "scheduled",
            Delayed => "delayed",
            Running => "running",
            Succeeded => "succeeded",
            Failed => "failed",
            Timeout => "timeout",
            Abandoned => "abandoned",
            Canceling => "canceling",
            Canceled => "canceled",
            Pending => "pending",
            Pausing => "pausing",
            Paused => "paused",
            Resuming => "resuming",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Terminal: nothing changes afterwards.
    pub const fn is_completed(self) -> bool {
        matches!(self, Succeeded | Failed | Timeout | Canceled | Abandoned)
    }

    pub const fn is_failed(self) -> bool {
        matches!(self, Failed | Timeout | Abandoned)
    }

    pub const fn is_cancelable(self) -> bool {
        matches!(self, Requested | Scheduled | Delayed | Running | Pausing | Paused | Resuming)
    }

    /// May move to `to`. A completed status has no edge at all; staying is not an edge.
    pub const fn may_become(self, to: Status) -> bool {
        match self {
            Requested | Delayed => {
                matches!(to, Requested | Delayed | Scheduled | Canceling | Canceled | Failed | Abandoned | Timeout)
                    && !matches!((self, to), (Requested, Requested) | (Delayed, Delayed))
            }
            Scheduled => {
                matches!(to, Running | Delayed | Requested | Canceling | Canceled | Failed | Abandoned | Timeout)
            }
            Running => matches!(
                to,
                Succeeded | Failed | Timeout | Abandoned | Canceling | Canceled | Pending | Pausing | Paused
            ),
            Pending => matches!(to, Succeeded | Failed | Timeout | Canceling | Canceled | Running | Abandoned),
            Pausing => matches!(to, Paused | Running | Canceling | Canceled | Succeeded | Failed | Timeout | Abandoned),
            Paused => matches!(to, Resuming | Running | Canceling | Canceled | Failed | Timeout | Abandoned),
            Resuming => matches!(
                to,
                Running | Pausing | Paused | Canceling | Canceled | Succeeded | Failed | Timeout | Abandoned
            ),
            // A result that arrives while a cancellation is under way loses: the execution ends canceled,
            // unless its runner is lost (abandoned).
            Canceling => matches!(to, Canceled | Abandoned),
            Succeeded | Failed | Timeout | Abandoned | Canceled => false,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completed_statuses_are_final() {
        for from in Status::ALL.into_iter().filter(|s| s.is_completed()) {
            for to in Status::ALL {
                assert!(!from.may_become(to), "{from} → {to}");
            }
        }
    }

    #[test]
    fn every_open_status_can_end_and_none_stays() {
        for from in Status::ALL.into_iter().filter(|s| !s.is_completed()) {
            assert!(Status::ALL.into_iter().any(|to| to.is_completed() && from.may_become(to)), "{from}");
            assert!(!from.may_become(from), "{from}");
            assert_eq!(Status::parse(from.as_str()), Some(from));
        }
    }
}
