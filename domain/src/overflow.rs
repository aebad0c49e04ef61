//! Word of full queues.

use bus::{BusError, Queue};
use tokio::sync::Notify;

/// Tells a queue's consumer on this node that a job was refused: when it has caught up, it looks into the store for
/// what it was not told of, rather than leaving that to recovery (DESIGN §2 rule 1).
#[derive(Debug, Default)]
pub struct Overflow([Notify; Queue::ALL.len()]);

impl Overflow {
    /// A job for the queue was refused with `error`.
    pub fn note(&self, queue: Queue, error: &BusError) {
        if matches!(error, BusError::Full(_)) {
            self.0[queue as usize].notify_one();
        }
    }

    /// Waits until a job is refused; one that was refused since the last call counts. Cancel safe.
    pub async fn noted(&self, queue: Queue) {
        self.0[queue as usize].notified().await;
    }
}
