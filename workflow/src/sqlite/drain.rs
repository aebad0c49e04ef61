//! A workflow that is held in this process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Inner;
use super::claims::Guard;
use super::failure::Failed;
use super::readers::{Lease, closed};
use super::writer::Work;
use crate::changes::Changes;
use crate::error::StateError;
use crate::port::{Committed, Drain};
use crate::rows::{Head, Received, Timer};

/// The [`Drain`] on SQLite: nobody else writes while it holds the claim, so any connection reads what it claimed.
#[derive(Debug)]
pub(super) struct SqliteDrain {
    pub head: Head,
    pub messages: Vec<Received>,
    pub due: Vec<Timer>,
    pub guard: Option<Guard>,
    pub inner: Arc<Inner>,
}

impl SqliteDrain {
    async fn read<T, F, S>(&self, step: F) -> Result<T, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, T), Failed>> + Send,
    {
        self.inner.readers.read(step).await
    }
}

reader!(SqliteDrain);

#[async_trait]
impl Drain for SqliteDrain {
    fn state(&self) -> &Head {
        &self.head
    }

    fn messages(&self) -> &[Received] {
        &self.messages
    }

    fn due(&self) -> &[Timer] {
        &self.due
    }

    async fn commit(mut self: Box<Self>, changes: Changes, hold: Duration) -> Result<Committed, StateError> {
        let held = changes.at.plus(hold);
        let rings = !changes.launches.is_empty() || !changes.timers.is_empty();
        let prepared = changes.prepare().await?;
        let guard = self.guard.take().ok_or_else(closed)?;
        let (workflow, rev, events) = (self.head.id, self.head.rev, self.head.events);
        self.inner.write(Work::Commit { workflow, rev, events, prepared, held, guard }).await?;
        if rings {
            self.inner.bell.ring();
        }
        // After the claim was let go: a deliverer that found it busy relies on this look.
        let more = self.inner.waiting(workflow).await.unwrap_or(true);
        Ok(Committed { rev: rev + 1, more })
    }

    async fn release(self: Box<Self>) {}
}
