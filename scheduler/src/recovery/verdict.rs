//! What becomes of an execution whose runner may be lost: pure.

use std::time::Duration;

use model::{Claim, Execution, Session, Status, Timestamp};

/// A node that isn't among the live ones is given this long, for it may have joined just now.
const UNKNOWN_NODE: Duration = Duration::from_secs(2);

/// A workflow is asked again after this time.
const UNHEARD: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its runner lives, or nothing can be said.
    Leave,
    /// The attempt is over with this status.
    End(Status),
    /// Its runner should have ended it by now.
    TellAgain,
    /// Its workflow is asked again for what it didn't do yet.
    AskAgain,
}

/// `live` is `None` while the group can't say who lives.
pub(super) fn of(execution: &Execution, live: Option<&[Session]>, now: Timestamp) -> Verdict {
    let end = match execution.status {
        Status::Running | Status::Pausing | Status::Resuming => Status::Abandoned,
        Status::Canceling => Status::Canceled,
        _ => return Verdict::Leave,
    };
    let since = execution.log.last().map_or(execution.start_timestamp, |entry| entry.timestamp);
    match &execution.claim {
        // The workflow engine ends it, once its executions have ended. Asked twice, it hears it once.
        None if execution.action_is_workflow && execution.status != Status::Running && now.since(since) >= UNHEARD => {
            Verdict::AskAgain
        }
        None if execution.action_is_workflow => Verdict::Leave,
        None if execution.status == Status::Canceling && is_over(execution, now) => Verdict::End(end),
        None => Verdict::Leave,
        Some(claim) if live.is_some_and(|live| is_dead(claim, live, now.since(since))) => Verdict::End(end),
        Some(_) if execution.status == Status::Canceling && is_over(execution, now) => Verdict::TellAgain,
        Some(_) => Verdict::Leave,
    }
}

fn is_over(execution: &Execution, now: Timestamp) -> bool {
    execution.check_at.is_none_or(|at| at <= now)
}

/// A later session of the node has begun, or the node has none. An earlier one only means that the list is old.
fn is_dead(claim: &Claim, live: &[Session], unchanged: Duration) -> bool {
    match live.iter().filter(|session| session.node == claim.node).map(|session| session.epoch).max() {
        Some(epoch) => epoch > claim.session,
        None => unchanged >= UNKNOWN_NODE,
    }
}
