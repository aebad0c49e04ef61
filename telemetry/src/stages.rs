//! The stages of an execution's life, read from its log.

use std::time::Duration;

use model::{Execution, Status, Timestamp};

/// One stage. What an execution goes through several times (a new attempt) is measured at the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From the request (or the time it was put off to) until the scheduler let it go: policies decide.
    Schedule,
    /// Until a runner had claimed it.
    Claim,
    /// Until the runner began with the action itself: definitions, parameters, configuration.
    Start,
    /// From the claim to the terminal status: the action.
    Run,
    /// From the request to the terminal status.
    Total,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Claim => "claim",
            Self::Start => "start",
            Self::Run => "run",
            Self::Total => "total",
        }
    }
}

/// When the last claim was, and when the scheduler had let the execution go before.
pub(crate) fn claimed(execution: &Execution) -> Option<(Timestamp, Timestamp)> {
    let index = execution.log.iter().rposition(|entry| entry.status == Status::Running)?;
    let running = execution.log[index].timestamp;
    let scheduled = index.checked_sub(1).map(|before| &execution.log[before]);
    let scheduled = scheduled.filter(|entry| entry.status == Status::Scheduled);
    Some((scheduled.map_or(running, |entry| entry.timestamp), running))
}

/// What a change from `was` to the execution's status has brought to an end.
pub fn ended(execution: &Execution, was: Status) -> Vec<(Stage, Duration)> {
    let between = |from: Timestamp, to: Timestamp| if to > from { to.since(from) } else { Duration::ZERO };
    let mut stages = Vec::new();
    let claimed = claimed(execution);
    if execution.status == Status::Running
        && matches!(was, Status::Requested | Status::Delayed | Status::Scheduled)
        && let Some((scheduled, running)) = claimed
    {
        stages.push((Stage::Schedule, between(execution.due(), scheduled)));
        stages.push((Stage::Claim, between(scheduled, running)));
    }
    if let Some(end) = execution.end_timestamp.filter(|_| execution.status.is_completed() && !was.is_completed()) {
        if let Some((_, running)) = claimed {
            stages.push((Stage::Run, between(running, end)));
        }
        stages.push((Stage::Total, between(execution.start_timestamp, end)));
    }
    stages
}

#[cfg(test)]
pub(crate) mod tests {
    use model::{Id, LogEntry, Object};

    use super::*;

    pub(crate) fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_790_000_000_000_000 + millis * 1_000)
    }

    /// An execution whose log has these entries.
    pub(crate) fn execution(log: &[(Status, i64)]) -> Execution {
        let first = at(log[0].1);
        let mut execution: Execution = serde_json::from_value(serde_json::json!({
            "id": Id::derive("test", first, &["execution"]),
            "liveaction_id": Id::derive("test", first, &["live"]),
            "status": "requested",
            "action": "core.noop",
            "action_is_workflow": false,
            "runner_type": "noop",
            "action_snapshot": Id::derive("test", first, &["a"]),
            "runner_snapshot": Id::derive("test", first, &["r"]),
            "log": [],
            "start_timestamp": first,
        }))
        .unwrap();
        execution.context = Object::new();
        execution.log.push(LogEntry { timestamp: first, status: Status::Requested });
        for (status, millis) in &log[1..] {
            execution.advance(*status, at(*millis)).unwrap();
        }
        execution
    }

    fn millis(stages: Vec<(Stage, Duration)>) -> Vec<(&'static str, u128)> {
        stages.into_iter().map(|(stage, time)| (stage.as_str(), time.as_millis())).collect()
    }

    #[test]
    fn stages_follow_each_other_without_gaps() {
        use Status::{Requested, Running, Scheduled, Succeeded};
        let mut execution = execution(&[(Requested, 0), (Scheduled, 3), (Running, 10)]);
        assert_eq!(millis(ended(&execution, Requested)), [("schedule", 3), ("claim", 7)]);
        assert_eq!(millis(ended(&execution, Running)), []);
        execution.advance(Succeeded, at(110)).unwrap();
        assert_eq!(millis(ended(&execution, Running)), [("run", 100), ("total", 110)]);
        assert_eq!(millis(ended(&execution, Succeeded)), []);
    }

    #[test]
    fn a_wait_that_was_asked_for_does_not_count() {
        use Status::{Delayed, Requested, Running, Scheduled};
        let mut execution = execution(&[(Requested, 0), (Delayed, 1), (Scheduled, 502), (Running, 503)]);
        execution.delay = Some(500);
        assert_eq!(millis(ended(&execution, Delayed)), [("schedule", 2), ("claim", 1)]);
    }

    #[test]
    fn what_never_ran_has_no_run() {
        use Status::{Canceled, Requested};
        let execution = execution(&[(Requested, 0), (Canceled, 4)]);
        assert_eq!(millis(ended(&execution, Requested)), [("total", 4)]);
    }
}
