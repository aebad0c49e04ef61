//! Edges of a workflow.

use super::super::status::Status;
use Status::{
    Abandoned, Canceled, Canceling, Delayed, Failed, Paused, Pausing, Pending, Requested, Resuming, Retrying, Running,
    Scheduled, Succeeded, Timeout, Unset,
};

/// How the workflow stands after a task has ended well, the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Some task is canceled, or about to be.
    Canceled,
    /// Some task is held up, or about to be.
    Paused,
    /// There is more to run.
    Incomplete,
    Completed,
}

/// What happens to a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks for a status. `active`: some task is; `over`: nothing is active, staged or paused.
    Request { status: Status, active: bool, over: bool },
    /// A task instance has got a status.
    Task { status: Status, remediated: bool, active: bool, standing: Standing },
}

/// Where the event leads; `None` leaves the status.
pub fn next(from: Status, event: Event) -> Option<Status> {
    match event {
        Event::Request { status, active, over } => requested(from, status, active, over),
        Event::Task { status, remediated, active, standing } => {
            let well = status == Succeeded || remediated;
            match from {
                Running if well => Some(ended_running(active, standing)),
                Running => running(status, active),
                Pausing if well => Some(ended_pausing(remediated, active, standing)),
                Pausing => pausing(status, active),
                Resuming if well => ended_resuming(active, standing),
                Resuming => resuming(status, active),
                Canceling => canceling(status, well, active),
                Paused if matches!(status, Running | Resuming) => Some(Running),
                _ => None,
            }
        }
    }
}

const fn pause(active: bool) -> Status {
    if active { Pausing } else { Paused }
}

const fn cancel(active: bool) -> Status {
    if active { Canceling } else { Canceled }
}

const fn requested(from: Status, to: Status, active: bool, over: bool) -> Option<Status> {
    match (from, to) {
        (Unset, Requested | Scheduled | Delayed | Running)
        | (Requested, Scheduled | Delayed | Running)
        | (Scheduled, Delayed | Running)
        | (Delayed, Scheduled | Running)
        | (Pausing, Running | Resuming)
        | (Resuming, Running)
        | (Running, Succeeded) => Some(to),
        (
            Unset | Requested | Scheduled | Delayed | Running | Pausing | Paused | Resuming | Canceling | Succeeded,
            Failed,
        ) => Some(Failed),
        (Requested | Scheduled | Delayed, Pausing | Paused) if !active => Some(Paused),
        (Requested | Scheduled | Delayed | Paused, Canceling | Canceled) if !active => Some(Canceled),
        (Running | Pausing | Resuming, Pausing | Paused) => Some(pause(active)),
        (Running | Pausing | Resuming | Canceling, Canceling | Canceled) => Some(cancel(active)),
        (Paused, Running | Resuming) => Some(if over { Succeeded } else { to }),
        _ => None,
    }
}

const fn ended_running(active: bool, standing: Standing) -> Status {
    match standing {
        Standing::Paused => pause(active),
        Standing::Canceled => cancel(active),
        Standing::Completed if !active => Succeeded,
        Standing::Incomplete | Standing::Completed => Running,
    }
}

const fn running(status: Status, active: bool) -> Option<Status> {
    match status {
        Pending => Some(pause(active)),
        Paused if !active => Some(Paused),
        Canceling => Some(Canceling),
        Canceled => Some(cancel(active)),
        Failed | Timeout | Abandoned => Some(Failed),
        _ => None,
    }
}

const fn ended_pausing(remediated: bool, active: bool, standing: Standing) -> Status {
    match standing {
        Standing::Canceled if active && !remediated => Pausing,
        Standing::Canceled => cancel(active),
        Standing::Paused | Standing::Incomplete | Standing::Completed => pause(active),
    }
}

const fn pausing(status: Status, active: bool) -> Option<Status> {
    match status {
        Pending | Paused | Retrying => Some(pause(active)),
        Canceling => Some(Canceling),
        Canceled => Some(cancel(active)),
        Failed | Timeout | Abandoned => Some(Failed),
        _ => None,
    }
}

const fn ended_resuming(active: bool, standing: Standing) -> Option<Status> {
    match standing {
        Standing::Paused | Standing::Canceled if active => None,
        Standing::Paused => Some(Paused),
        Standing::Canceled => Some(Canceled),
        Standing::Completed if !active => Some(Succeeded),
        Standing::Incomplete | Standing::Completed => Some(Running),
    }
}

const fn resuming(status: Status, active: bool) -> Option<Status> {
    match status {
        Pending => Some(pause(active)),
        Running => Some(Running),
        Canceling => Some(Canceling),
        Canceled => Some(cancel(active)),
        Failed | Timeout | Abandoned => Some(Failed),
        _ => None,
    }
}

const fn canceling(status: Status, well: bool, active: bool) -> Option<Status> {
    match status {
        _ if well => Some(cancel(active)),
        Pending | Paused | Canceled | Retrying | Failed | Timeout | Abandoned => Some(cancel(active)),
        _ => None,
    }
}
