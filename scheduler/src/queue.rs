//! Taking jobs from the bus.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Consumer, Job, Queue};
use domain::{DomainError, Services};
use model::{Execution, Versioned};
use store::StoreExt;
use tokio_util::sync::CancellationToken;

/// Pauses after a failure of a dependency.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// A consumer of `queue`, asked for until the bus gives one; `None` once the bus is closed or the role is to end.
pub(crate) async fn consume(
    services: &Services,
    queue: Queue,
    prefetch: usize,
    cancel: &CancellationToken,
) -> Option<Box<dyn Consumer>> {
    loop {
        match services.bus.consume(queue, prefetch).await {
            Ok(consumer) => return Some(consumer),
            Err(BusError::Closed) => return None,
            Err(error) => tracing::warn!(queue = queue.as_str(), %error, "can't consume; trying again"),
        }
        if !pause(PAUSE, cancel).await {
            return None;
        }
    }
}

/// Sleeps; false if the role is to end.
pub(crate) async fn pause(duration: Duration, cancel: &CancellationToken) -> bool {
    tokio::select! {
        () = cancel.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}

/// The execution that a job is about: as the sender last knew it, else from the store.
pub(crate) async fn execution_of(
    services: &Services,
    job: &Job,
) -> Result<Option<Arc<Versioned<Execution>>>, DomainError> {
    match job {
        Job::Execution { hint: Some(hint), .. } => Ok(Some(hint.clone())),
        Job::Execution { id, hint: None } => Ok(services.store.read::<Execution>(*id).await?.map(Arc::new)),
        Job::TriggerInstance { .. } => Ok(None),
    }
}
