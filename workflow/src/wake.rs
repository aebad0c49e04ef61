//! Doorbells: something may be to do. A ring is a hint that may be lost or repeated.

use tokio::sync::watch;

/// Rings for everybody who listens in this process.
#[derive(Debug)]
pub(crate) struct Bell(watch::Sender<u64>);

impl Bell {
    pub fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    pub fn listen(&self) -> Wakes {
        Wakes(self.0.subscribe())
    }
}

/// Hears of work: messages, launches, timers set, drains abandoned. Rings while nobody waits are kept as one.
#[derive(Debug, Clone)]
pub struct Wakes(watch::Receiver<u64>);

impl Wakes {
    /// Returns at the first ring since the last return; false once the state is closed and gone.
    ///
    /// Cancel safe. Wait with a deadline: whoever dies between a write and its ring leaves work that only a look finds.
    pub async fn wait(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}
