//! Counts and measures what the domain tells.

use std::fmt;

use domain::Observer;
use model::{Execution, InstanceStatus, Status, Timestamp, TriggerInstance};

use crate::exporter::SpanQueue;
use crate::{spans, stages};

/// The node's observer: metrics always, spans if somebody wants them.
pub struct Watcher {
    node: String,
    spans: Option<SpanQueue>,
}

impl Watcher {
    pub fn new(node: impl Into<String>, spans: Option<SpanQueue>) -> Self {
        Self { node: node.into(), spans }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("node", &self.node).field("traces", &self.spans.is_some()).finish()
    }
}

impl Watcher {
    fn completed(&self, execution: &Execution) {
        let status = execution.status.as_str();
        metrics::counter!(
            "squall_executions_completed_total", "runner" => execution.runner_type.clone(), "status" => status
        )
        .increment(1);
        if let Some(queue) = &self.spans {
            queue.add(spans::execution(execution, &self.node));
        }
    }
}

impl Observer for Watcher {
    fn requested(&self, execution: &Execution) {
        metrics::counter!("squall_executions_requested_total").increment(1);
        if let Some(queue) = &self.spans {
            queue.add(spans::rule(execution));
        }
        if execution.status.is_completed() {
            self.completed(execution);
        }
    }

    fn moved(&self, execution: &Execution, was: Status) {
        for (stage, time) in stages::ended(execution, was) {
            metrics::histogram!("squall_execution_stage_seconds", "stage" => stage.as_str()).record(time.as_secs_f64());
        }
        if execution.status.is_completed() && !was.is_completed() {
            self.completed(execution);
        }
    }

    fn processed(&self, instance: &TriggerInstance, now: Timestamp) {
        let status = match instance.status {
            InstanceStatus::Processed => "processed",
            InstanceStatus::ProcessingFailed => "processing_failed",
            InstanceStatus::Pending | InstanceStatus::Processing => return,
        };
        metrics::counter!("squall_trigger_instances_total", "status" => status).increment(1);
        let time = if now > instance.occurrence_time { now.since(instance.occurrence_time).as_secs_f64() } else { 0.0 };
        metrics::histogram!("squall_rule_seconds").record(time);
        if let Some(queue) = &self.spans {
            queue.add([spans::event(instance, status, now)]);
        }
    }
}
