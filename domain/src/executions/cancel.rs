//! Cancellation requests (spec/scheduling.md §6.5).

use std::sync::Arc;

use bus::Event;
use model::{Execution, Id, ResultValue, Status, Versioned};
use serde_json::json;

use super::run::{advance, update};
use crate::{DomainError, Services, workflows};

/// What a cancellation request came to.
#[derive(Debug, Clone)]
pub enum Cancellation {
    /// Canceled at once, or canceling because it runs.
    Accepted(Arc<Versioned<Execution>>),
    /// It was canceled before.
    Already(Arc<Versioned<Execution>>),
    /// Its status doesn't allow it.
    Refused(Arc<Versioned<Execution>>),
}

/// What its status asks of a workflow is written down already: if the workflow can't be told now, recovery does.
pub async fn ask_workflow(services: &Services, execution: &Versioned<Execution>) {
    if let Err(error) = workflows::ask(services, execution).await {
        tracing::warn!(execution = %execution.id, %error, "the workflow is told later what is asked of it");
    }
}

/// Cancels for `user`: running ones become `canceling` and their runner is told, others `canceled` at once.
pub async fn cancel(services: &Services, id: Id, user: &str) -> Result<Cancellation, DomainError> {
    let mut accepted = false;
    let execution = update(services, id, |execution, now| {
        accepted = execution.status.is_cancelable();
        if !accepted {
            return Ok(false);
        }
        // What a paused workflow has below it is to end with it.
        let waits = matches!(execution.status, Status::Pausing | Status::Paused | Status::Resuming);
        let runs = execution.status == Status::Running
            || execution.context.contains_key("parent")
            || (execution.action_is_workflow && waits);
        let to = if runs { Status::Canceling } else { Status::Canceled };
        execution.result = Some(ResultValue::Inline(json!({"message": "Action canceled by user.", "user": user})));
        execution.context.insert("cancelled_by".to_owned(), user.into());
        advance(execution, to, now)?;
        if to == Status::Canceling {
            // If its runner doesn't answer, recovery decides.
            execution.check_at = Some(now.plus(services.settings.redrive_after));
        }
        Ok(true)
    })
    .await?;
    if !accepted {
        let already = execution.status == Status::Canceled;
        return Ok(if already { Cancellation::Already(execution) } else { Cancellation::Refused(execution) });
    }
    services.bus.announce(Arc::new(Event::Cancel { execution: id }));
    ask_workflow(services, &execution).await;
    Ok(Cancellation::Accepted(execution))
}
