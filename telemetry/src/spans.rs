//! The spans of a trace, from the event to the task that it ended in.
//!
//! ```text
//! event core.st2.webhook            occurrence → rules ended
//! └─ rule examples.on_hook          occurrence → execution requested
//!    └─ examples.workflow           request → end; an event for each status
//!       ├─ queued                   request → claim
//!       ├─ run                      claim → end
//!       └─ task one (core.local)    …
//! ```
//!
//! Parameters and results stay out: they may hold secrets.

use model::{Execution, Id, Status, Timestamp, TriggerInstance};
use sha2::{Digest, Sha256};

use crate::otlp::{Event, KeyValue, Span, SpanStatus, code, kind};
use crate::stages::claimed;

fn hash<const N: usize>(kind: &str, parts: &[&str]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for part in std::iter::once(&kind).chain(parts) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()[..N].to_vec()
}

/// The 16 bytes that a trace's name in StackStorm's sense (`context.trace_context.id_`) gives.
fn trace_id(trace: &str) -> Vec<u8> {
    hash::<16>("trace", &[trace])
}

fn event_span(instance: &str) -> Vec<u8> {
    hash::<8>("event", &[instance])
}

fn rule_span(rule: &str, instance: &str) -> Vec<u8> {
    hash::<8>("rule", &[rule, instance])
}

fn execution_span(execution: Id) -> Vec<u8> {
    hash::<8>("execution", &[&execution.to_string()])
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap_or(0).saturating_mul(1_000)
}

/// An event whose rules have ended.
pub(crate) fn event(instance: &TriggerInstance, status: &str, ended: Timestamp) -> Span {
    Span {
        trace_id: trace_id(&instance.trace().to_string()),
        span_id: event_span(&instance.id.to_string()),
        name: format!("event {}", instance.trigger),
        kind: kind::CONSUMER,
        start_time_unix_nano: nanos(instance.occurrence_time),
        end_time_unix_nano: nanos(ended.max(instance.occurrence_time)),
        attributes: vec![
            KeyValue::text("squall.trigger_instance.id", instance.id.to_string()),
            KeyValue::text("squall.trigger", instance.trigger.as_str()),
            KeyValue::text("squall.status", status),
        ],
        status: (status != "processed").then(|| SpanStatus { message: status.to_owned(), code: code::ERROR }),
        ..Span::default()
    }
}

/// The rule that made an execution, if one did.
pub(crate) fn rule(execution: &Execution) -> Option<Span> {
    let cause = execution.cause.as_ref()?;
    let instance = cause.trigger_instance_id.to_string();
    let occurred = cause.trigger_instance.get("occurrence_time").cloned().unwrap_or_default();
    let occurred: Timestamp = serde_json::from_value(occurred).unwrap_or(execution.start_timestamp);
    Some(Span {
        trace_id: trace_id(&execution.trace().to_string()),
        span_id: rule_span(&cause.rule_ref, &instance),
        parent_span_id: event_span(&instance),
        name: format!("rule {}", cause.rule_ref),
        kind: kind::INTERNAL,
        start_time_unix_nano: nanos(occurred.min(execution.start_timestamp)),
        end_time_unix_nano: nanos(execution.start_timestamp),
        attributes: vec![KeyValue::text("squall.rule", cause.rule_ref.as_str())],
        ..Span::default()
    })
}

fn task(execution: &Execution) -> Option<&str> {
    let names = [("orquesta", "task_name"), ("mistral", "task_name"), ("chain", "name")];
    names.iter().find_map(|(engine, key)| execution.context.get(*engine)?.get(*key)?.as_str())
}

/// A completed execution: itself, how long it waited, how long it ran.
pub(crate) fn execution(execution: &Execution, node: &str) -> Vec<Span> {
    let Some(end) = execution.end_timestamp else { return Vec::new() };
    let trace_id = trace_id(&execution.trace().to_string());
    let own = execution_span(execution.id);
    let parent = match (execution.parent, &execution.cause) {
        (Some(parent), _) => execution_span(parent),
        (None, Some(cause)) => rule_span(&cause.rule_ref, &cause.trigger_instance_id.to_string()),
        (None, None) => Vec::new(),
    };
    let status = execution.status.as_str();
    let mut attributes = vec![
        KeyValue::text("squall.execution.id", execution.id.to_string()),
        KeyValue::text("squall.action", execution.action.as_str()),
        KeyValue::text("squall.runner", execution.runner_type.as_str()),
        KeyValue::text("squall.status", status),
        KeyValue::text("squall.node", node),
        KeyValue::int("squall.attempt", i64::from(execution.attempt)),
    ];
    attributes.extend(task(execution).map(|task| KeyValue::text("squall.task", task)));
    let failed = matches!(execution.status, Status::Failed | Status::Timeout | Status::Abandoned);
    let part = |name: &str, from: Timestamp, to: Timestamp| Span {
        trace_id: trace_id.clone(),
        span_id: hash::<8>(name, &[&execution.id.to_string()]),
        parent_span_id: own.clone(),
        name: name.to_owned(),
        kind: kind::INTERNAL,
        start_time_unix_nano: nanos(from),
        end_time_unix_nano: nanos(to.max(from)),
        ..Span::default()
    };
    let mut spans = vec![Span {
        span_id: own.clone(),
        parent_span_id: parent,
        name: task(execution)
            .map_or_else(|| execution.action.clone(), |task| format!("task {task} ({})", execution.action)),
        attributes,
        events: execution.log.iter().map(happened).collect(),
        status: Some(match failed {
            true => SpanStatus { message: status.to_owned(), code: code::ERROR },
            false => SpanStatus { message: String::new(), code: code::OK },
        }),
        ..part("execution", execution.start_timestamp, end)
    }];
    if let Some((_, running)) = claimed(execution) {
        spans.push(part("queued", execution.start_timestamp, running));
        spans.push(part("run", running, end));
    }
    spans
}

fn happened(entry: &model::LogEntry) -> Event {
    Event { time_unix_nano: nanos(entry.timestamp), name: entry.status.as_str().to_owned(), attributes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stages::tests::{at, execution as made};

    #[test]
    fn a_task_is_the_child_of_its_workflow() {
        use Status::{Failed, Requested, Running, Scheduled};
        let mut parent = made(&[(Requested, 0), (Scheduled, 1), (Running, 2), (Failed, 90)]);
        parent.context.insert("trace_context".to_owned(), json!({"id_": "t"}));
        let mut child = made(&[(Requested, 10), (Scheduled, 11), (Running, 12), (Failed, 80)]);
        child.parent = Some(parent.id);
        child.context.insert("trace_context".to_owned(), json!({"id_": "t"}));
        child.context.insert("orquesta".to_owned(), json!({"task_name": "one"}));
        let (parent, child) = (execution(&parent, "n"), execution(&child, "n"));
        assert_eq!(child[0].parent_span_id, parent[0].span_id);
        assert_eq!(child[0].trace_id, parent[0].trace_id);
        assert_eq!((child[0].trace_id.len(), child[0].span_id.len()), (16, 8));
        assert_eq!(child[0].name, "task one (core.noop)");
        assert_eq!(child[0].status.as_ref().unwrap().code, code::ERROR);
        assert_eq!(child[0].events.len(), 4);
        let names: Vec<&str> = child.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names[1..], ["queued", "run"]);
        assert_eq!(child[2].end_time_unix_nano - child[2].start_time_unix_nano, 68_000_000);
    }

    #[test]
    fn what_still_runs_has_no_span() {
        assert!(execution(&made(&[(Status::Requested, 0)]), "n").is_empty());
        assert_eq!(nanos(at(0)), 1_790_000_000_000_000_000);
    }
}
