//! Read-only connections: few, opened when first needed, and given out one per query.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::failure::Failed;
use super::select::Reading;
use crate::error::StateError;
use crate::stats::Counters;

#[derive(Debug)]
pub(super) struct Readers {
    options: SqliteConnectOptions,
    free: Arc<Semaphore>,
    size: u32,
    idle: Mutex<Vec<SqliteConnection>>,
    timeout: Duration,
    pub counters: Arc<Counters>,
}

impl Readers {
    pub fn new(options: SqliteConnectOptions, size: u32, timeout: Duration) -> Arc<Self> {
        let size = size.max(1);
        let free = Arc::new(Semaphore::new(size as usize));
        Arc::new(Self { options, free, size, idle: Mutex::default(), timeout, counters: Arc::default() })
    }

    /// Runs a step that gives its connection back; after an error or if it is abandoned, the connection is closed.
    pub async fn read<T, F, S>(self: &Arc<Self>, step: F) -> Result<T, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, T), Failed>> + Send,
    {
        let one = async {
            let (lease, done) = step(self.take().await?).await?;
            lease.give_back();
            Ok::<_, Failed>(done)
        };
        let late = || StateError::Unavailable(format!("no answer within {:?}", self.timeout));
        timeout(self.timeout, one).await.map_err(|_| late())?.map_err(StateError::from)
    }

    async fn take(self: &Arc<Self>) -> Result<Lease, Failed> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| closed())?;
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lease { connection, pool: Arc::clone(self), permit })
    }

    /// Waits for the queries that are under way, then closes every connection.
    pub async fn close(&self) {
        let all = timeout(self.timeout, self.free.acquire_many(self.size)).await;
        self.free.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle.lock());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "closing a read connection");
            }
        }
    }
}

pub(super) fn closed() -> StateError {
    StateError::Unavailable("the workflow state is closed".to_owned())
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    connection: SqliteConnection,
    pool: Arc<Readers>,
    permit: OwnedSemaphorePermit,
}

impl Lease {
    #[expect(clippy::unnecessary_wraps, reason = "as the other adapter's, for the shared macros")]
    pub fn reading(&mut self) -> Result<Reading<'_>, StateError> {
        Ok(Reading { connection: &mut self.connection, counters: &self.pool.counters })
    }

    fn give_back(self) {
        let Self { connection, pool, permit } = self;
        pool.idle.lock().push(connection);
        drop(permit);
    }
}
