//! Policies as limits of one execution (spec/scheduling.md §5).

use model::{Execution, Policy};
use serde_json::Value;

use super::gate::Limit;

const PLAIN: &str = "action.concurrency";
const BY_ATTRIBUTES: &str = "action.concurrency.attr";

pub(super) fn is_concurrency(policy: &Policy) -> bool {
    policy.policy_type == PLAIN || policy.policy_type == BY_ATTRIBUTES
}

/// The limits that the action's enabled policies put on this execution.
pub(super) fn of<'a>(policies: impl IntoIterator<Item = &'a Policy>, execution: &Execution) -> Vec<Limit> {
    policies.into_iter().filter_map(|policy| limit(policy, execution)).collect()
}

fn limit(policy: &Policy, execution: &Execution) -> Option<Limit> {
    if !is_concurrency(policy) {
        return None;
    }
    let Some(threshold) = policy.parameters.get("threshold").and_then(Value::as_i64) else {
        tracing::warn!(policy = policy.reference, "a concurrency policy without a threshold has no effect");
        return None;
    };
    let mut key = policy.id.to_string();
    if policy.policy_type == BY_ATTRIBUTES {
        let names =
            policy.parameters.get("attributes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        for name in names {
            // Attributes that the execution doesn't have don't count: with none at all it is plain concurrency.
            if let Some(value) = execution.parameters.get(name) {
                key.push_str(&format!(":{name}={}", canonical(value)));
            }
        }
    }
    Some(Limit {
        key: key.into(),
        threshold: usize::try_from(threshold).unwrap_or(0),
        cancel: policy.parameters.get("action").and_then(Value::as_str) == Some("cancel"),
    })
}

/// Equal for equal values, whatever the order of keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}
