//! Work under a lease.

use std::future::Future;
use std::time::{Duration, Instant};

use model::{Duty, Lease};
use store::Fence;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Work stops this long before the lease ends, for what is under way then.
const MARGIN: Duration = Duration::from_millis(100);

/// Pause before work that ended by itself is begun anew.
const AGAIN: Duration = Duration::from_secs(1);

/// The fence that writes under this lease carry.
pub(crate) fn fence(duty: Duty, lease: Lease) -> Fence {
    Fence { name: duty.as_str().to_owned(), epoch: lease.epoch }
}

/// Runs `work` each time the duty is held, until `cancel`. The token given to `work` is canceled when the lease
/// ends unrenewed, passes to another epoch, or the role is to end; if `work` doesn't return then, it is dropped just
/// before the lease is over (DESIGN §2 rule 5).
pub(crate) async fn while_held<F, W>(
    duty: Duty,
    mut leases: watch::Receiver<Option<Lease>>,
    cancel: &CancellationToken,
    work: F,
) where
    F: Fn(Lease, CancellationToken) -> W + Send,
    W: Future<Output = ()> + Send,
{
    loop {
        let Some(lease) = acquired(&mut leases, cancel).await else { return };
        tracing::info!(duty = duty.as_str(), epoch = lease.epoch, "duty taken up");
        let stop = cancel.child_token();
        let mut watched = leases.clone();
        let ended_by_itself = {
            let work = work(lease, stop.clone());
            tokio::pin!(work);
            tokio::select! {
                () = &mut work => true,
                () = lost(&mut watched, lease) => {
                    stop.cancel();
                    // The margin is left for a clean end; then the future is dropped.
                    let _ = tokio::time::timeout(MARGIN / 2, &mut work).await;
                    false
                }
            }
        };
        tracing::info!(duty = duty.as_str(), epoch = lease.epoch, "duty laid down");
        if cancel.is_cancelled() {
            return;
        }
        // Work that ended by itself while the lease goes on (another holder was seen) is begun anew, but not at once.
        if ended_by_itself && !crate::queue::pause(AGAIN, cancel).await {
            return;
        }
    }
}

/// The next valid lease.
async fn acquired(leases: &mut watch::Receiver<Option<Lease>>, cancel: &CancellationToken) -> Option<Lease> {
    loop {
        if let Some(lease) = *leases.borrow_and_update()
            && usable_until(lease) > Instant::now()
        {
            return Some(lease);
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            changed = leases.changed() => if changed.is_err() {
                // Nobody gives leases any more.
                cancel.cancelled().await;
                return None;
            }
        }
    }
}

/// Returns when the lease of this epoch is over: not renewed in time, or another's.
async fn lost(leases: &mut watch::Receiver<Option<Lease>>, held: Lease) {
    loop {
        let end = match *leases.borrow_and_update() {
            Some(lease) if lease.epoch == held.epoch => usable_until(lease),
            _ => return,
        };
        tokio::select! {
            () = tokio::time::sleep_until(end.into()) => {
                let renewed = (*leases.borrow()).filter(|lease| lease.epoch == held.epoch).map(usable_until);
                if renewed.is_none_or(|renewed| renewed <= Instant::now()) {
                    return;
                }
            }
            changed = leases.changed() => if changed.is_err() {
                tokio::time::sleep_until(end.into()).await;
                return;
            }
        }
    }
}

fn usable_until(lease: Lease) -> Instant {
    lease.valid_until.checked_sub(MARGIN).unwrap_or(lease.valid_until)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn lease(epoch: u64, millis: u64) -> Option<Lease> {
        Some(Lease { epoch, valid_until: Instant::now() + Duration::from_millis(millis) })
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn work_stops_before_the_lease_ends_and_starts_with_the_next() {
        let (sender, leases) = watch::channel(None);
        let cancel = CancellationToken::new();
        let at_work = Arc::new(AtomicU64::new(0));
        let role = {
            let (at_work, cancel) = (at_work.clone(), cancel.clone());
            tokio::spawn(async move {
                while_held(Duty::Timers, leases, &cancel, |lease, stop| {
                    let at_work = at_work.clone();
                    async move {
                        at_work.store(lease.epoch, Ordering::SeqCst);
                        stop.cancelled().await;
                        at_work.store(0, Ordering::SeqCst);
                    }
                })
                .await;
            })
        };
        let first = lease(1, 300);
        sender.send_replace(first);
        until("first epoch", || at_work.load(Ordering::SeqCst) == 1).await;
        until("end of the first", || at_work.load(Ordering::SeqCst) == 0).await;
        assert!(Instant::now() < first.unwrap().valid_until);
        sender.send_replace(lease(2, 60_000));
        until("second epoch", || at_work.load(Ordering::SeqCst) == 2).await;
        sender.send_replace(lease(3, 60_000));
        until("third epoch", || at_work.load(Ordering::SeqCst) == 3).await;
        cancel.cancel();
        role.await.unwrap();
        assert_eq!(at_work.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_renewed_lease_goes_on() {
        let (sender, leases) = watch::channel(lease(1, 250));
        let cancel = CancellationToken::new();
        let ended = Arc::new(AtomicU64::new(0));
        let role = {
            let (ended, cancel) = (ended.clone(), cancel.clone());
            tokio::spawn(async move {
                while_held(Duty::Timers, leases, &cancel, |_, stop| {
                    let ended = ended.clone();
                    async move {
                        stop.cancelled().await;
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                })
                .await;
            })
        };
        for _ in 0..20 {
            sender.send_replace(lease(1, 250));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        cancel.cancel();
        role.await.unwrap();
    }
}
