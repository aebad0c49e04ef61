//! How what happens to executions reaches the workflows that they belong to. The node sets who takes it in
//! ([`crate::Services::workflows`]); scheduler and workflow engine don't know each other.

use async_trait::async_trait;
use model::{Execution, Id, Status, Versioned};
use serde_json::Value;

use crate::{DomainError, Services};

/// Takes in what happened to executions of workflows.
#[async_trait]
pub trait Workflows: Send + Sync + std::fmt::Debug {
    /// An execution of a workflow's task has completed, or waits for an answer. May come again; it counts once. When
    /// this returns `Ok`, the workflow is sure to hear of it.
    async fn completed(&self, execution: &Versioned<Execution>) -> Result<(), DomainError>;

    /// The workflow that an execution stands for shall pause, go on or stop, as the execution's status says. May come
    /// again; it counts once.
    async fn asked(&self, execution: &Versioned<Execution>) -> Result<(), DomainError>;

    /// Whether the workflow that an execution stands for has begun: then it goes on whatever becomes of the runner.
    async fn has_begun(&self, execution: Id) -> Result<bool, DomainError>;

    /// What is wrong with an Orquesta definition (spec/orquesta.md §22); [`DomainError::Invalid`] if it is none at all.
    async fn inspect(&self, definition: &str) -> Result<Vec<Value>, DomainError>;

    /// The workflow that an execution stands for, with its graph and what ran when; none if there is none.
    async fn picture(&self, execution: Id) -> Result<Option<Value>, DomainError>;
}

/// Tells the workflow that an execution stands for what its new status asks of it, if it does.
pub async fn ask(services: &Services, execution: &Versioned<Execution>) -> Result<(), DomainError> {
    let asks = matches!(execution.status, Status::Pausing | Status::Resuming | Status::Canceling);
    match services.workflows.get() {
        Some(workflows) if asks && execution.action_is_workflow => workflows.asked(execution).await,
        _ => Ok(()),
    }
}

/// Tells the workflow of a completed execution, if it belongs to one.
pub async fn tell(services: &Services, execution: &Versioned<Execution>) -> Result<(), DomainError> {
    if execution.workflow_execution.is_none() {
        return Ok(());
    }
    match services.workflows.get() {
        Some(workflows) => workflows.completed(execution).await,
        None => {
            tracing::warn!(execution = %execution.id, "no workflow engine is set up: its workflow doesn't hear of it");
            Ok(())
        }
    }
}
