//! A workflow held by an open transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout_at;

use super::apply::Writing;
use super::claim::Locked;
use super::failure::Failed;
use super::listen::Doorbell;
use super::pool::Lease;
use super::select::text;
use crate::changes::Changes;
use crate::error::StateError;
use crate::failpoint;
use crate::port::{Committed, Drain};
use crate::rows::{Head, Received, Timer};

/// The [`Drain`] on PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresDrain {
    locked: Locked,
    /// None once finished or lost.
    lease: Mutex<Option<Lease>>,
    finished: bool,
    bell: Arc<Doorbell>,
    abandoned: mpsc::UnboundedSender<Abandoned>,
}

/// The connection of a drain that was dropped: whoever gets it ends the transaction.
#[derive(Debug)]
pub(super) struct Abandoned(Lease);

impl Abandoned {
    /// Ends the transaction; returns when the workflow is free.
    pub async fn let_go(self) {
        let Self(mut lease) = self;
        let deadline = lease.pool().deadline();
        let Ok(connection) = lease.connection() else { return };
        let rolled_back = sqlx::raw_sql("ROLLBACK").execute(connection);
        if matches!(timeout_at(deadline, rolled_back).await, Ok(Ok(_))) {
            lease.give_back();
        }
    }
}

impl PostgresDrain {
    pub fn new(locked: Locked, lease: Lease, bell: Arc<Doorbell>, abandoned: mpsc::UnboundedSender<Abandoned>) -> Self {
        Self { locked, lease: Mutex::new(Some(lease)), finished: false, bell, abandoned }
    }

    async fn read<T, F, S>(&self, step: F) -> Result<T, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, T), Failed>> + Send,
    {
        let mut slot = self.lease.lock().await;
        // Taken out while it works: after an error or an abandoned read the transaction is of no use, and the
        // connection is closed.
        let lease = slot.take().ok_or_else(lost)?;
        let pool = Arc::clone(lease.pool());
        let (lease, done) = timeout_at(pool.deadline(), step(lease)).await.map_err(|_| pool.late())??;
        *slot = Some(lease);
        Ok(done)
    }
}

/// The transaction ended with an error before.
fn lost() -> StateError {
    StateError::Unavailable("the lock of the workflow was lost".to_owned())
}

impl Drop for PostgresDrain {
    fn drop(&mut self) {
        match self.lease.get_mut().take() {
            // Without a receiver the state is gone, and dropping the connection does.
            Some(lease) => drop(self.abandoned.send(Abandoned(lease))),
            None if !self.finished => self.bell.ring(),
            None => {}
        }
    }
}

reader!(PostgresDrain);

#[async_trait]
impl Drain for PostgresDrain {
    fn state(&self) -> &Head {
        &self.locked.head
    }

    fn messages(&self) -> &[Received] {
        &self.locked.messages
    }

    fn due(&self) -> &[Timer] {
        &self.locked.due
    }

    async fn commit(mut self: Box<Self>, changes: Changes, hold: Duration) -> Result<Committed, StateError> {
        let held_until = changes.at.plus(hold);
        let rings = !changes.launches.is_empty() || !changes.timers.is_empty();
        let prepared = changes.prepare().await?;
        let workflow = self.locked.head.id;
        let (rev, events) = (self.locked.head.rev, self.locked.head.events);
        // From here on an error or an abandoned future closes the connection.
        let mut lease = self.lease.get_mut().take().ok_or_else(lost)?;
        let pool = Arc::clone(lease.pool());
        let connection = lease.connection()?;
        let write = async {
            let mut writing = Writing { connection: &mut *connection, counters: &pool.counters, workflow };
            writing.update_head(rev, &prepared.changes).await?;
            writing.rows(&prepared, rev + 1, events, held_until).await?;
            failpoint::hit(failpoint::BEFORE_COMMIT);
            pool.counters.statement();
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
            failpoint::hit(failpoint::COMMITTED);
            Ok::<_, Failed>(())
        };
        timeout_at(pool.deadline_for(prepared.bytes), write).await.map_err(|_| pool.late())??;
        // It is committed: whatever fails from here on is no failure of the commit.
        self.finished = true;
        if rings {
            self.bell.ring();
        }
        pool.counters.statement();
        let look = sqlx::query("SELECT EXISTS (SELECT 1 FROM inbox WHERE workflow = $1 AND used IS NULL)")
            .bind(text(workflow))
            .fetch_one(connection);
        let more = match timeout_at(pool.deadline(), look).await {
            Ok(Ok(row)) => {
                lease.give_back();
                row.try_get(0).unwrap_or(true)
            }
            // The caller looks for itself.
            _ => true,
        };
        Ok(Committed { rev: rev + 1, more })
    }

    async fn release(mut self: Box<Self>) {
        if let Some(lease) = self.lease.get_mut().take() {
            self.finished = true;
            Abandoned(lease).let_go().await;
        }
    }
}
