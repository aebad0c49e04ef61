//! What waits in this process for too long goes to the broker.

use std::sync::Arc;
use std::time::Duration;

use bus::Job;
use futures::stream::{self, StreamExt};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::jobs::JobQueue;
use crate::publish::{JobSender, PublishError};

/// A job that no consumer of this process took within this time is anybody's.
const AGE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(50);
const BATCH: usize = 256;
const AT_ONCE: usize = 64;
/// After the broker refused some.
const REFUSED: Duration = Duration::from_secs(1);

/// Moves jobs until `cancel`.
pub(crate) async fn run(queue: Arc<JobQueue>, sender: JobSender, cancel: CancellationToken) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = look.tick() => {}
        }
        while queue.waiting() > 0 {
            let reachable = sender.publisher.obstacle().is_none();
            // Without the broker, dropped jobs are this process' own again, and the others stay where they are.
            let age = if reachable { AGE } else { Duration::MAX };
            let jobs = queue.overdue(age, BATCH);
            if jobs.is_empty() {
                break;
            }
            let left = if reachable { send(&sender, jobs).await } else { jobs };
            let refused = !left.is_empty();
            for job in left.into_iter().rev() {
                queue.restore(job);
            }
            if refused {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = sleep(REFUSED) => {}
                }
            }
        }
    }
}

/// Returns those that the broker didn't take, in order.
pub(crate) async fn send(sender: &JobSender, jobs: Vec<Job>) -> Vec<Job> {
    let sending = stream::iter(jobs).map(async |job| match sender.send(&job).await {
        Ok(()) => None,
        Err(error @ (PublishError::Refused | PublishError::Unroutable | PublishError::Failed(_))) => {
            tracing::debug!(id = %job.id(), %error, "a job stays in this process");
            Some(job)
        }
    });
    sending.buffered(AT_ONCE).filter_map(std::future::ready).collect().await
}
