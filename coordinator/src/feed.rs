//! Telling grants to everybody on this node who listens.

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::port::{Grants, Heard};

/// Grants that a slow listener may be behind before it is told [`Heard::Lost`].
const BUFFER: usize = 4096;

/// The sending end, one per adapter instance. Listeners end when it is dropped.
#[derive(Debug, Clone)]
pub struct Feed(broadcast::Sender<Heard>);

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::Sender::new(BUFFER))
    }
}

impl Feed {
    pub fn tell(&self, heard: Heard) {
        // Nobody may listen.
        let _ = self.0.send(heard);
    }

    pub fn listen(&self) -> Box<dyn Grants> {
        Box::new(Listener(self.0.subscribe()))
    }
}

#[derive(Debug)]
struct Listener(broadcast::Receiver<Heard>);

#[async_trait]
impl Grants for Listener {
    async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(heard) => Some(heard),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Heard::Lost),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
