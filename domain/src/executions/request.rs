//! Requests: from an action's name and parameters to a stored execution that the scheduler knows of.

use std::sync::Arc;

use model::{Cause, Execution, Id, Object, Snapshot, Versioned};
use serde_json::Value;
use store::Batch;

use crate::{DomainError, Services};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Action ref.
    pub action: String,
    pub parameters: Object,
    /// Must hold `user`; `pack` is added.
    pub context: Object,
    /// Milliseconds.
    pub delay: Option<u64>,
    pub notify: Option<Value>,
    pub callback: Option<Object>,
    pub parent: Option<Id>,
    pub cause: Option<Box<Cause>>,
    pub workflow_execution: Option<Id>,
    pub task_execution: Option<Id>,
    /// Derived id; fresh if none is given. An execution that is there under it is returned, not made again.
    pub id: Option<Id>,
    /// Leave out the check of the parameters (re-runs).
    pub unchecked: bool,
}

/// An execution ready to be stored, with the snapshots it refers to.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub execution: Execution,
    pub snapshots: Vec<Arc<Snapshot>>,
    /// Set when the parameters could not be rendered: the execution is stored as failed with this as its result,
    /// and the requester gets the text.
    pub failure: Option<String>,
}

/// Renders and checks; stores nothing. Errors: unknown or disabled action, bad parameters.
pub async fn prepare(services: &Services, request: Request) -> Result<Prepared, DomainError> {
    let _ = (services, request);
    Err(DomainError::Invalid(String::new()))
}

/// Stores executions together with the writes of `batch` in one commit, then announces them and rings the scheduler.
/// Executions whose id was there are left alone.
pub async fn submit(
    services: &Services,
    prepared: Vec<Prepared>,
    batch: Batch,
) -> Result<Vec<Arc<Versioned<Execution>>>, DomainError> {
    let _ = (services, prepared, batch);
    Ok(Vec::new())
}

/// [`prepare`] and [`submit`] one. A rendering failure stores the failed execution and returns its text as
/// [`DomainError::Invalid`].
pub async fn request(services: &Services, request: Request) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let prepared = prepare(services, request).await?;
    let failure = prepared.failure.clone();
    let mut stored = submit(services, vec![prepared], Batch::new()).await?;
    match (failure, stored.pop()) {
        (Some(text), _) => Err(DomainError::Invalid(text)),
        (None, Some(execution)) => Ok(execution),
        (None, None) => Err(DomainError::Superseded("the execution was not stored".to_owned())),
    }
}

/// A new execution with the parameters of `original`, overridden by `parameters` (spec/api.md §7.2).
pub async fn rerun(
    services: &Services,
    original: &Execution,
    parameters: Object,
    user: &str,
    delay: Option<u64>,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let _ = (services, original, parameters, user, delay);
    Err(DomainError::Invalid(String::new()))
}
