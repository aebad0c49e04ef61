//! Whether something follows an execution's completion. Most have nothing: then the notifier is never rung and a
//! plain execution costs three durable writes (DESIGN §3).

use model::Execution;

use crate::{DomainError, Services};

/// Trigger that every completed execution may fire (spec/rules.md §2.2).
pub const ACTION_TRIGGER: &str = "core.st2.generic.actiontrigger";
/// Tells of what an action's `notify` asks for.
pub const NOTIFY_TRIGGER: &str = "core.st2.generic.notifytrigger";

/// A notification, a retry policy, a workflow, or a rule on the action trigger waits for it.
pub async fn needed(services: &Services, execution: &Execution) -> Result<bool, DomainError> {
    if execution.notify.is_some() || execution.parent.is_some() || execution.workflow_execution.is_some() {
        return Ok(true);
    }
    if !services.catalog.policies_of(&execution.action).await?.is_empty() {
        return Ok(true);
    }
    Ok(!services.catalog.rules_of(ACTION_TRIGGER).await?.is_empty())
}
