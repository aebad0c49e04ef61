//! Telling a run to stop.

use tokio::sync::watch;

/// Why a run is stopped before it ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// Somebody canceled the execution.
    Cancel,
    /// The node shuts down and the time to wait for runs is over.
    Shutdown,
    /// The session under which the execution was claimed has ended: its result will be refused.
    SessionLost,
}

/// The side that stops. Reasons only grow: a lost session outdoes a cancellation.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Option<StopReason>>);

impl Stopper {
    pub fn stop(&self, reason: StopReason) {
        self.0.send_if_modified(|current| {
            let grows = *current < Some(reason);
            if grows {
                *current = Some(reason);
            }
            grows
        });
    }
}

/// The side that is stopped.
#[derive(Debug, Clone)]
pub struct Stop {
    receiver: watch::Receiver<Option<StopReason>>,
    seen: Option<StopReason>,
}

impl Stop {
    pub fn new() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(None);
        (Stopper(sender), Self { receiver, seen: None })
    }

    /// The reason, if there is one by now.
    pub fn reason(&self) -> Option<StopReason> {
        *self.receiver.borrow()
    }

    /// The next reason that this side has not seen; never returns if none comes. Cancel safe.
    pub async fn next(&mut self) -> StopReason {
        let seen = self.seen;
        let reason = match self.receiver.wait_for(|reason| *reason > seen).await {
            Ok(reason) => *reason,
            Err(_) => None,
        };
        match reason {
            Some(reason) => {
                self.seen = Some(reason);
                reason
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_stronger_reason_is_seen_once() {
        let (stopper, mut stop) = Stop::new();
        assert_eq!(stop.reason(), None);
        stopper.stop(StopReason::Cancel);
        assert_eq!(stop.next().await, StopReason::Cancel);
        stopper.stop(StopReason::Cancel);
        stopper.stop(StopReason::SessionLost);
        stopper.stop(StopReason::Shutdown);
        assert_eq!(stop.next().await, StopReason::SessionLost);
        drop(stopper);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), stop.next()).await.is_err());
    }
}
