//! `core.st2.generic.actiontrigger` (spec/rules.md §2.2).

use domain::executions::follow_up::ACTION_TRIGGER;
use domain::view::{self, ViewOptions};
use domain::{DomainError, Services};
use model::{Execution, Id, ResultValue, TriggerInstance};
use serde_json::{Value, json};

use super::ended;
use crate::instances;

/// Larger results come as their first bytes: a payload lies in one document, and rules rarely look there.
const MAX_RESULT: u64 = 4 << 20;

/// The instance that tells of the completion; none while no enabled rule would see it.
pub(super) async fn of(services: &Services, execution: &Execution) -> Result<Option<TriggerInstance>, DomainError> {
    if services.catalog.rules_of(ACTION_TRIGGER).await?.is_empty()
        || services.catalog.trigger(ACTION_TRIGGER).await?.is_none()
    {
        return Ok(None);
    }
    let shown = view::execution(services, execution, ViewOptions::default()).await?;
    let payload = json!({
        "execution_id": execution.id,
        "status": execution.status,
        "start_timestamp": execution.start_timestamp.datetime().format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string(),
        "action_name": execution.action,
        "action_ref": execution.action,
        "runner_ref": execution.runner_type,
        "parameters": shown.get("parameters").cloned().unwrap_or_else(|| json!({})),
        "result": result(services, execution).await?,
    });
    let id = Id::derive("action-trigger", ended(execution), &[&execution.id.to_string(), execution.status.as_str()]);
    Ok(Some(instances::pending(services, id, ACTION_TRIGGER, payload, services.now(), Some(execution.trace_link()))))
}

/// What the action gave, as its runner said it.
async fn result(services: &Services, execution: &Execution) -> Result<Value, DomainError> {
    if execution.result_size > MAX_RESULT
        && let Some(ResultValue::Blob { preview, .. }) = &execution.result
    {
        return Ok(json!({"preview": preview}));
    }
    view::result(services, execution).await
}
