//! Edges of a task instance.

use super::super::status::Status;
use Status::{
    Abandoned, Canceled, Canceling, Delayed, Failed, Paused, Pausing, Pending, Requested, Resuming, Retrying, Running,
    Scheduled, Succeeded, Timeout, Unset,
};

/// The items of a with-items task apart from the one that the event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// At least one is active.
    Active,
    Dormant(Rest),
}

/// What dormant items are, the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Paused,
    Canceled,
    Failed,
    Incomplete,
    Completed,
}

/// An engine command that is run as a task, or asks for another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Continue,
    Noop,
    Fail,
    Retry,
}

/// What happens to a task instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its action, or one of its items (then with what the others are, for statuses where that matters).
    Action(Status, Option<Others>),
    /// The workflow is to pause or cancel.
    Workflow(Status, Option<Others>),
    Command(Command),
}

/// Whether an item's event of this status depends on the other items.
pub const fn regards_others(status: Status) -> bool {
    matches!(status, Resuming | Pending | Paused | Succeeded | Failed | Timeout | Abandoned | Canceled)
}

/// Where the event leads; `None` leaves the status.
pub fn next(from: Status, event: Event) -> Option<Status> {
    match (from, event) {
        (Unset, Event::Command(Command::Continue | Command::Noop)) => Some(Succeeded),
        (Unset, Event::Command(Command::Fail)) => Some(Failed),
        (Succeeded | Failed, Event::Command(Command::Retry)) => Some(Retrying),
        (Unset, Event::Action(to @ (Requested | Scheduled | Delayed | Running | Pending), None)) => Some(to),
        (Requested | Scheduled | Delayed, Event::Action(to, None)) => started(from, to),
        (Running, Event::Action(status, others)) => running(status, others),
        (Pausing, Event::Action(status, others)) => pausing(status, others),
        (Canceling, Event::Action(status, others)) => canceling(status, others),
        (Pending, Event::Action(status, None)) => match status {
            Canceled | Succeeded => Some(status),
            Failed | Timeout | Abandoned => Some(Failed),
            _ => None,
        },
        (Paused, Event::Action(to @ (Running | Resuming | Canceling | Canceled), None))
        | (Resuming | Retrying, Event::Action(to @ (Running | Canceling | Canceled), None)) => Some(to),
        (Retrying, Event::Workflow(Canceling | Canceled, _)) => Some(Canceled),
        (Running, Event::Workflow(status, others)) => interrupted(status, others),
        _ => None,
    }
}

const fn started(from: Status, to: Status) -> Option<Status> {
    match (from, to) {
        (Requested, Scheduled) | (Requested | Scheduled, Delayed) => Some(to),
        (_, Running | Pending | Pausing | Paused | Canceling | Canceled | Failed | Timeout | Abandoned) => Some(to),
        _ => None,
    }
}

/// The end of the last active item, by what the others are; `by_itself` where nothing else decides.
const fn settled(rest: Rest, by_itself: Status) -> Status {
    match rest {
        Rest::Canceled => Canceled,
        Rest::Failed => Failed,
        Rest::Paused | Rest::Incomplete | Rest::Completed => by_itself,
    }
}

const fn running(status: Status, others: Option<Others>) -> Option<Status> {
    match (status, others) {
        (Running, _) | (Succeeded, Some(Others::Active | Others::Dormant(Rest::Incomplete))) => Some(Running),
        (Succeeded, None) => Some(Succeeded),
        (Succeeded, Some(Others::Dormant(rest))) => Some(match rest {
            Rest::Paused => Paused,
            _ => settled(rest, Succeeded),
        }),
        (Pending, None) => Some(Pending),
        (Paused, None) => Some(Paused),
        (Pausing, _) | (Pending | Paused, Some(Others::Active)) => Some(Pausing),
        (Pending | Paused, Some(Others::Dormant(rest))) => Some(settled(rest, Paused)),
        (Canceling, _) | (Canceled, Some(Others::Active)) => Some(Canceling),
        (Canceled, None | Some(Others::Dormant(_)))
        | (Failed | Timeout | Abandoned, Some(Others::Dormant(Rest::Canceled))) => Some(Canceled),
        (Failed | Timeout | Abandoned, None | Some(Others::Dormant(_))) => Some(Failed),
        _ => None,
    }
}

const fn pausing(status: Status, others: Option<Others>) -> Option<Status> {
    match (status, others) {
        (Pending | Paused, Some(Others::Dormant(rest))) => Some(settled(rest, Paused)),
        (Paused, None) => Some(Paused),
        (Succeeded, None) => Some(Succeeded),
        (Succeeded, Some(Others::Dormant(rest))) => Some(match rest {
            Rest::Paused | Rest::Incomplete => Paused,
            _ => settled(rest, Succeeded),
        }),
        (Canceled, None | Some(Others::Dormant(_)))
        | (Failed | Timeout | Abandoned, Some(Others::Dormant(Rest::Canceled))) => Some(Canceled),
        (Failed | Timeout | Abandoned, None | Some(Others::Dormant(_))) => Some(Failed),
        (Resuming, None) => Some(Resuming),
        (Canceling, _) => Some(Canceling),
        _ => None,
    }
}

const fn canceling(status: Status, others: Option<Others>) -> Option<Status> {
    match (status, others) {
        (Succeeded, None | Some(Others::Dormant(Rest::Completed))) => Some(Succeeded),
        (Failed | Timeout | Abandoned, None) => Some(Failed),
        (Paused | Canceled, None)
        | (Pending | Paused | Canceled | Failed | Timeout | Abandoned | Succeeded, Some(Others::Dormant(_))) => {
            Some(Canceled)
        }
        _ => None,
    }
}

/// The workflow pauses or cancels: only a with-items task feels it, plain actions run to their end.
const fn interrupted(status: Status, others: Option<Others>) -> Option<Status> {
    match (status, others) {
        (Pausing | Paused, Some(Others::Active)) => Some(Pausing),
        (Pausing | Paused, Some(Others::Dormant(Rest::Incomplete))) => Some(Paused),
        (Canceling | Canceled, Some(Others::Active)) => Some(Canceling),
        (Canceling | Canceled, Some(Others::Dormant(Rest::Incomplete))) => Some(Canceled),
        _ => None,
    }
}
