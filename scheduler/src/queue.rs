//! Taking jobs from the bus.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Consumer, Delivery, Job, Queue};
use domain::{DomainError, Services};
use model::{Execution, Versioned};
use store::{StoreError, StoreExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pauses after a failure of a dependency.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);
/// What is in work may take this long to end after the role was told to.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause between looks at the queue while the store has a backlog.
const REFILL_INTERVAL: Duration = Duration::from_millis(20);
const REFILL_PAGE: usize = 500;

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

/// What serves a queue's jobs one by one, several at a time.
#[async_trait]
pub(crate) trait Handler: Send + Sync + 'static {
    const QUEUE: Queue;
    /// How far the backlog was read.
    type Cursor: Default + Send;

    fn services(&self) -> &Services;

    /// Does the job; repeating it must be harmless. An error leaves it to another try.
    async fn handle(&self, job: &Job) -> Result<(), DomainError>;

    /// Work that the store has and the queue perhaps hasn't, after `cursor`; and where to go on, unless it was all.
    async fn backlog(&self, cursor: Self::Cursor, limit: usize)
    -> Result<(Vec<Job>, Option<Self::Cursor>), StoreError>;
}

/// Serves a queue until `cancel`, or until the bus is closed; what is in work then is finished, or done again later.
///
/// At the start, and when the queue was full, the store's backlog is worked off beside the queue's jobs.
pub(crate) async fn serve<H: Handler>(handler: Arc<H>, concurrency: usize, cancel: &CancellationToken) {
    let concurrency = concurrency.max(1);
    let Some(mut jobs) = consume(handler.services(), H::QUEUE, concurrency, cancel).await else { return };
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut backlog = Some(H::Cursor::default());
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => if let Err(error) = ended {
                tracing::error!(queue = H::QUEUE.as_str(), %error, "a job failed");
            },
            () = handler.services().overflow.noted(H::QUEUE) => { backlog.get_or_insert_default(); }
            () = tokio::time::sleep(REFILL_INTERVAL), if backlog.is_some() && tasks.len() < concurrency => {
                backlog = refill(&handler, backlog.unwrap_or_default(), concurrency, &mut tasks).await;
            }
            delivery = jobs.next() => match delivery {
                Some(delivery) => {
                    let handler = handler.clone();
                    tasks.spawn(async move { take(handler.as_ref(), delivery).await });
                }
                None => break,
            },
        }
    }
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(queue = H::QUEUE.as_str(), "jobs in work were left to recovery");
    }
}

async fn take<H: Handler>(handler: &H, delivery: Delivery) {
    match handler.handle(&delivery.job).await {
        Ok(()) => delivery.ack(),
        Err(error) => {
            let id = delivery.job.id();
            tracing::warn!(queue = H::QUEUE.as_str(), %id, %error, "the job can't be done now; trying again");
            give_back(delivery, &error).await;
        }
    }
}

/// Back to the queue, after a pause. Only what may be the job's own fault counts as a failed try.
pub(crate) async fn give_back(delivery: Delivery, error: &DomainError) {
    tokio::time::sleep(PAUSE).await;
    match error {
        DomainError::Store(error) if error.is_retryable() => delivery.release(),
        _ => drop(delivery),
    }
}

/// Takes a page of the backlog, once few jobs wait in the queue. Returns where to go on.
async fn refill<H: Handler>(
    handler: &Arc<H>,
    cursor: H::Cursor,
    concurrency: usize,
    tasks: &mut JoinSet<()>,
) -> Option<H::Cursor> {
    let waiting = handler.services().bus.waiting(H::QUEUE).await;
    if !waiting.is_ok_and(|waiting| waiting <= concurrency) {
        return Some(cursor);
    }
    let room = concurrency.saturating_sub(tasks.len()).clamp(1, REFILL_PAGE);
    let (jobs, next) = match handler.backlog(cursor, room).await {
        Ok(found) => found,
        Err(error) => {
            // From the beginning: what was done meanwhile is no longer there.
            tracing::warn!(queue = H::QUEUE.as_str(), %error, "can't read the backlog; trying again");
            tokio::time::sleep(PAUSE).await;
            return Some(H::Cursor::default());
        }
    };
    for job in jobs {
        let handler = handler.clone();
        tasks.spawn(async move {
            if let Err(error) = handler.handle(&job).await {
                let id = job.id();
                tracing::warn!(queue = H::QUEUE.as_str(), %id, %error, "the job can't be done now; left to recovery");
            }
        });
    }
    next
}
