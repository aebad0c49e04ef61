//! Steps that the scheduler and the runners take: hold, release, claim, finish.

use std::sync::Arc;

use model::{Claim, Execution, Id, Object, RunnerInfo, Status, Timestamp, Versioned};
use serde_json::Value;

use crate::{DomainError, Services};

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// A completed status.
    pub status: Status,
    pub result: Value,
    /// Merged into the execution's context.
    pub context: Object,
}

/// Puts a requested execution off until `until` (status `delayed`); recovery or the scheduler releases it.
pub async fn hold(
    services: &Services,
    execution: &Versioned<Execution>,
    until: Timestamp,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let _ = (services, execution, until);
    Err(DomainError::Superseded(String::new()))
}

/// Lets an execution run: rings the run queue. No write: the runner's claim moves it (DESIGN §3).
pub async fn release(services: &Services, execution: Arc<Versioned<Execution>>) {
    let _ = (services, execution);
}

/// A runner takes the execution: requested, delayed or scheduled → (scheduled →) running, attempt + 1, in one
/// compare-and-set (DESIGN §2 rule 4). [`DomainError::Superseded`] when it is no longer there to be taken.
pub async fn claim(
    services: &Services,
    execution: &Versioned<Execution>,
    claim: Claim,
    runner_info: RunnerInfo,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let _ = (services, execution, claim, runner_info);
    Err(DomainError::Superseded(String::new()))
}

/// Stores the outcome of the attempt that `claimed` holds: result (as a blob if large) and status in one
/// compare-and-set; the output chunks that are still unsaved may ride along in `append_output` before it.
///
/// If the execution is `canceling`, it ends `canceled` whatever the outcome says. A result of an older attempt or of
/// a completed execution is refused as `Superseded` (invariant E2).
pub async fn finish(
    services: &Services,
    claimed: &Versioned<Execution>,
    outcome: Outcome,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let _ = (services, claimed, outcome);
    Err(DomainError::Superseded(String::new()))
}

/// Reads, lets `change` decide, writes with compare-and-set, again if another came first; then announces.
/// `change` returns false to leave it as it is.
pub async fn update(
    services: &Services,
    id: Id,
    change: impl FnMut(&mut Execution, Timestamp) -> Result<bool, DomainError> + Send,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let _ = (services, id, change);
    Err(DomainError::NotFound(String::new()))
}
