//! Every metric's name, kind, labels and meaning; a test holds `docs/metrics.md` and what a node prints against it.

/// One name.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

/// All of them, sorted by name.
pub const METRICS: &[Metric] = &[
    metric("squall_build_info", "gauge", &["version"], "Always 1; the label tells the version."),
    metric("squall_dependency_up", "gauge", &["dependency"], "1 while a thing the node stands on works, else 0."),
    metric(
        "squall_execution_stage_seconds",
        "histogram",
        &["stage"],
        "How long executions stay in each stage of their life: schedule, claim, start, run, and total.",
    ),
    metric(
        "squall_executions_completed_total",
        "counter",
        &["runner", "status"],
        "Executions whose end this node stored, by runner and terminal status.",
    ),
    metric(
        "squall_executions_recovered_total",
        "counter",
        &["outcome"],
        "Executions that recovery decided because their runner was lost.",
    ),
    metric("squall_executions_requested_total", "counter", &[], "Executions stored by this node."),
    metric("squall_executions_running", "gauge", &[], "Executions that this node runs now."),
    metric("squall_garbage_deleted_total", "counter", &["collection"], "Old records that were deleted."),
    metric(
        "squall_http_request_seconds",
        "histogram",
        &["service"],
        "Time from a request's head to its answer's head, by service (auth, api, stream, health).",
    ),
    metric("squall_http_requests_total", "counter", &["service", "method", "status"], "Requests that were answered."),
    metric("squall_jobs_rung_again_total", "counter", &["queue"], "Jobs whose first message was lost or late."),
    metric("squall_metrics_series_refused_total", "counter", &[], "Metrics with too many combinations of labels."),
    metric("squall_permits_recovered_total", "counter", &[], "Permits of policies given back by recovery."),
    metric("squall_process_cpu_seconds_total", "counter", &[], "Processor time that the node took."),
    metric("squall_process_open_files", "gauge", &[], "Open file descriptors of the node."),
    metric("squall_process_resident_bytes", "gauge", &[], "Memory of the node."),
    metric("squall_process_threads", "gauge", &[], "Threads of the node."),
    metric(
        "squall_python_interpreters_lost_total",
        "counter",
        &[],
        "Warm Python interpreters that crashed or were killed; their actions went on.",
    ),
    metric(
        "squall_python_starts_total",
        "counter",
        &["kind"],
        "Python processes for actions and sensors: warm or fresh.",
    ),
    metric("squall_rule_seconds", "histogram", &[], "From the occurrence of an event to the end of its rules."),
    metric("squall_sensor_failures_total", "counter", &["sensor"], "How often a sensor of this node failed."),
    metric("squall_sensors", "gauge", &["state"], "Sensors that this node owns, by state."),
    metric("squall_spans_dropped_total", "counter", &["reason"], "Spans that no collector got: full, refused, away."),
    metric("squall_spans_exported_total", "counter", &[], "Spans that the collector took."),
    metric("squall_timer_lateness_seconds", "histogram", &[], "From a tick's scheduled time to when it was durable."),
    metric("squall_timer_slots_missed_total", "counter", &[], "Ticks that were too late to be fired by themselves."),
    metric("squall_trigger_instances_matched_total", "counter", &[], "Events that were held against rules."),
    metric("squall_trigger_instances_total", "counter", &["status"], "Events whose rules ended, by status."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_follow_prometheus_rules() {
        assert!(METRICS.windows(2).all(|pair| pair[0].name < pair[1].name), "not sorted or not unique");
        for metric in METRICS {
            assert!(metric.name.starts_with("squall_") && !metric.help.is_empty(), "{}", metric.name);
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.kind != "histogram" || metric.name.ends_with("_seconds"), "{}", metric.name);
        }
    }

    #[test]
    fn the_page_lists_every_name() {
        let page = include_str!("../../docs/metrics.md");
        for metric in METRICS {
            let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let labels = if labels.is_empty() { "–".to_owned() } else { labels };
            let row = format!("| `{}` | {} | {labels} | {} |", metric.name, metric.kind, metric.help);
            assert!(page.contains(&row), "docs/metrics.md lacks this row:\n{row}");
        }
    }
}
