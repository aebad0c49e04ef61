//! The retry policy (spec/scheduling.md §5, spec/ha.md I-P4).

use domain::executions::{Prepared, Request, prepare};
use domain::{DomainError, Services};
use model::{Execution, Id, Object, Policy, Status};
use serde_json::{Value, json};

use super::ended;

const RETRY: &str = "action.retry";

/// What a retry policy says about an execution that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// Which retry it will be, from 1.
    pub count: u64,
    pub delay_ms: u64,
}

/// Whether the policy retries it.
pub(super) fn decide(policy: &Policy, execution: &Execution) -> Option<Retry> {
    let wanted = match execution.status {
        Status::Failed => "failure",
        Status::Timeout => "timeout",
        // Abandoned: its outcome is unknown, so it is never run again by itself.
        _ => return None,
    };
    let has_parent =
        execution.parent.is_some() || execution.context.get("parent").is_some_and(|parent| parent != &json!({}));
    let parameters = &policy.parameters;
    if policy.policy_type != RETRY || has_parent || parameters.get("retry_on").and_then(Value::as_str) != Some(wanted) {
        return None;
    }
    let max = parameters.get("max_retry_count").and_then(Value::as_u64).unwrap_or(2);
    let before = execution.context.get("policies").and_then(|policies| policies.get("retry"));
    let count = before.and_then(|retry| retry.get("retry_count")).and_then(Value::as_u64).unwrap_or(0) + 1;
    let delay = parameters.get("delay").and_then(Value::as_f64).unwrap_or(0.0).clamp(0.0, 120.0);
    (count <= max).then_some(Retry { count, delay_ms: (delay * 1_000.0) as u64 })
}

/// New executions in the place of this one. Their delay is their own, and so survives restarts.
pub(super) async fn of(services: &Services, execution: &Execution) -> Result<Vec<Prepared>, DomainError> {
    if !matches!(execution.status, Status::Failed | Status::Timeout) {
        return Ok(Vec::new());
    }
    let mut retries = Vec::new();
    for policy in services.catalog.policies_of(&execution.action).await?.iter() {
        let Some(retry) = decide(policy, execution) else { continue };
        match prepare(services, request(policy, execution, retry)).await {
            Ok(prepared) => retries.push(prepared),
            Err(error @ DomainError::Store(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(execution = %execution.id, policy = policy.reference, %error, "can't be retried");
            }
        }
    }
    Ok(retries)
}

fn request(policy: &Policy, execution: &Execution, retry: Retry) -> Request {
    let mut context: Object = execution.context.clone();
    context.insert(
        "policies".to_owned(),
        json!({"retry": {
            "applied_policy": policy.reference,
            "retry_count": retry.count,
            "retried_liveaction_id": execution.liveaction_id,
        }}),
    );
    let parts = [execution.id.to_string(), retry.count.to_string(), policy.id.to_string()];
    Request {
        action: execution.action.clone(),
        parameters: execution.parameters.clone(),
        context,
        delay: Some(retry.delay_ms),
        notify: execution.notify.clone(),
        callback: execution.callback.clone(),
        cause: execution.cause.clone(),
        id: Some(Id::derive("retry", ended(execution), &[&parts[0], &parts[1], &parts[2]])),
        verbatim: true,
        ..Request::default()
    }
}
