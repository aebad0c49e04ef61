//! Policies as limits of one execution (spec/scheduling.md §5).

use model::{Execution, Id, Policy};
use serde_json::Value;

use super::seek::Limit;

const PLAIN: &str = "action.concurrency";
const BY_ATTRIBUTES: &str = "action.concurrency.attr";

fn is_concurrency(policy: &Policy) -> bool {
    policy.policy_type == PLAIN || policy.policy_type == BY_ATTRIBUTES
}

/// Keys of permits begin with the id of their policy: its threshold, or `None` if it is gone or of another type.
pub(crate) fn threshold_of(policy: &Policy) -> Option<u32> {
    let threshold = policy.parameters.get("threshold").and_then(Value::as_i64)?;
    (is_concurrency(policy) && policy.enabled).then(|| u32::try_from(threshold.max(0)).unwrap_or(u32::MAX))
}

/// The limits that the action's enabled policies put on this execution.
pub(super) fn of<'a>(policies: impl IntoIterator<Item = &'a Policy>, execution: &Execution) -> Vec<Limit> {
    policies.into_iter().filter_map(|policy| limit(policy, execution)).collect()
}

fn limit(policy: &Policy, execution: &Execution) -> Option<Limit> {
    if !is_concurrency(policy) {
        return None;
    }
    let Some(threshold) = threshold_of(policy) else {
        tracing::warn!(policy = policy.reference, "a concurrency policy without a threshold has no effect");
        return None;
    };
    let mut values = String::new();
    if policy.policy_type == BY_ATTRIBUTES {
        let names =
            policy.parameters.get("attributes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        for name in names {
            // Attributes that the execution doesn't have don't count: with none at all it is plain concurrency.
            if let Some(value) = execution.parameters.get(name) {
                values.push_str(&format!("{}={},", Value::from(name), canonical(value)));
            }
        }
    }
    // Values may be long, and secret: their hash stands for them.
    let key = match values.is_empty() {
        true => policy.id.to_string(),
        false => format!("{}:{}", policy.id, Id::of_content(values.as_bytes())),
    };
    Some(Limit { key, threshold, cancel: policy.parameters.get("action").and_then(Value::as_str) == Some("cancel") })
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
