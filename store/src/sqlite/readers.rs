//! Read-only connections: few, opened when first needed, and handed out one per query.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::failure;
use crate::error::StoreError;

/// The pool. sqlx's own would ping before each use (a thread hop) and keep a timer going for idle connections.
#[derive(Debug)]
pub(super) struct Readers {
    options: SqliteConnectOptions,
    free: Arc<Semaphore>,
    size: u32,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    pub(super) fn new(options: SqliteConnectOptions, size: u32) -> Arc<Self> {
        let size = size.max(1);
        Arc::new(Self { options, free: Arc::new(Semaphore::new(size as usize)), size, idle: Mutex::new(Vec::new()) })
    }

    /// Waits for a connection that is free.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Reader, StoreError> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| closed())?;
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(|error| failure(&error))?,
        };
        Ok(Reader { connection: Some(connection), pool: Arc::clone(self), _permit: permit })
    }

    /// Waits for the queries that are under way, then closes every connection.
    pub(super) async fn close(&self) {
        if let Ok(all) = self.free.acquire_many(self.size).await {
            self.free.close();
            drop(all);
        }
        let idle = std::mem::take(&mut *self.idle.lock());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "closing a read connection");
            }
        }
    }
}

pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

/// A connection in use; dropped, it goes back. A query that was abandoned half-way ends at its next row.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Option<SqliteConnection>,
    pool: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// Maps an error; after one that isn't about the query itself the connection is not used again.
    pub(super) fn failed(mut self, error: &sqlx::Error) -> StoreError {
        self.discard();
        failure(error)
    }

    fn discard(&mut self) {
        self.connection = None;
    }
}

impl Deref for Reader {
    type Target = SqliteConnection;

    #[expect(clippy::expect_used, reason = "taken only by `failed` and `drop`, which end the reader")]
    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("a live reader has its connection")
    }
}

impl DerefMut for Reader {
    #[expect(clippy::expect_used, reason = "taken only by `failed` and `drop`, which end the reader")]
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("a live reader has its connection")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.idle.lock().push(connection);
        }
    }
}
