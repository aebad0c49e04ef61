//! The only connection that writes, and the task that owns it.
//!
//! Group commit: whatever waits in the queue when a transaction begins goes into it, up to a limit, and one sync to
//! disk serves all. Callers are answered after the commit. Between transactions nothing is running and no timer
//! ticks.

use std::collections::HashMap;
use std::sync::Arc;

use model::Id;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::mpsc;

use super::failure::failure;
use super::lock::DirectoryLock;
use super::table::Tables;
use super::work::{Outcome, Pending, Trouble, Values, Work, apply, run_fixed};
use crate::batch::{Applied, Batch, Fence};
use crate::error::StoreError;

/// Most requests in one transaction.
const MAX_GROUP: usize = 256;
/// Most bytes in one transaction, but for a single request that is larger.
const MAX_GROUP_BYTES: usize = 8 << 20;

/// State of the writer task.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    tables: Arc<Tables>,
    requests: mpsc::Receiver<Pending>,
    /// None after a failure that may have left it in an unknown state; the next request opens another.
    connection: Option<SqliteConnection>,
    /// Highest epoch of each fence, as committed.
    fences: HashMap<String, u64>,
    /// Let go last.
    _lock: DirectoryLock,
}

impl Writer {
    pub(super) fn new(
        options: SqliteConnectOptions,
        tables: Arc<Tables>,
        requests: mpsc::Receiver<Pending>,
        connection: SqliteConnection,
        fences: HashMap<String, u64>,
        lock: DirectoryLock,
    ) -> Self {
        Self { options, tables, requests, connection: Some(connection), fences, _lock: lock }
    }

    /// Serves requests until every sender is gone, then closes the database.
    pub(super) async fn run(mut self) {
        let mut group = Vec::with_capacity(MAX_GROUP);
        while let Some(first) = self.requests.recv().await {
            let mut bytes = first.bytes;
            group.push(first);
            while group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES {
                let Ok(next) = self.requests.try_recv() else { break };
                bytes += next.bytes;
                group.push(next);
            }
            self.serve(&mut group).await;
        }
        if let Some(mut connection) = self.connection.take() {
            let _ = run_fixed(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)", SqliteArguments::default()).await;
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "closing the database");
            }
        }
    }

    /// Carries out a group in one transaction and answers.
    async fn serve(&mut self, group: &mut Vec<Pending>) {
        let mut replies = Vec::with_capacity(group.len());
        let mut works = Vec::with_capacity(group.len());
        for pending in group.drain(..) {
            works.push(pending.work);
            replies.push((pending.reply, pending._memory));
        }
        let count = works.len();
        let outcomes = match self.transact(works).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.recover(&error).await;
                vec![Err(error); count]
            }
        };
        for ((reply, _memory), outcome) in replies.into_iter().zip(outcomes) {
            // A caller that went away doesn't want to know.
            let _ = reply.send(outcome);
        }
    }

    async fn transact(&mut self, works: Vec<Work>) -> Result<Vec<Outcome>, StoreError> {
        let mut connection = self.connected().await?;
        let result = self.transact_on(&mut connection, works).await;
        self.connection = Some(connection);
        match result {
            Ok(outcomes) => Ok(outcomes),
            Err(Trouble::Failed(error) | Trouble::Refused(error)) => Err(error),
        }
    }

    async fn transact_on(
        &mut self,
        connection: &mut SqliteConnection,
        mut works: Vec<Work>,
    ) -> Result<Vec<Outcome>, Trouble> {
        if let [Work::Commit(batch)] = works.as_mut_slice()
            && batch.fence.is_none()
            && batch.writes.len() == 1
            && let Some(write) = batch.writes.pop()
        {
            // Alone: the statement is its own transaction.
            return match apply(connection, &self.tables, write).await {
                Ok(applied) => Ok(vec![Ok(vec![applied])]),
                Err(Trouble::Refused(error)) => Ok(vec![Err(error)]),
                Err(failed) => Err(failed),
            };
        }
        run_fixed(connection, "BEGIN IMMEDIATE", SqliteArguments::default()).await?;
        let mut raised = HashMap::new();
        let mut outcomes = Vec::with_capacity(works.len());
        for work in works {
            outcomes.push(match self.carry_out(connection, work, &mut raised).await {
                Ok(applied) => Ok(applied),
                Err(Trouble::Refused(error)) => Err(error),
                Err(failed) => return Err(failed),
            });
        }
        run_fixed(connection, "COMMIT", SqliteArguments::default()).await?;
        self.fences.extend(raised);
        Ok(outcomes)
    }

    async fn carry_out(
        &self,
        connection: &mut SqliteConnection,
        work: Work,
        raised: &mut HashMap<String, u64>,
    ) -> Result<Vec<Applied>, Trouble> {
        match work {
            Work::Commit(batch) => self.commit(connection, batch, raised).await,
            Work::BlobChunk { upload, seq, data } => blob_chunk(connection, upload, seq, data).await,
            Work::BlobHead { id, upload, size, seq, data } => blob_head(connection, id, upload, size, seq, data).await,
            Work::DeleteBlob(id) => delete_blob(connection, id).await,
            Work::Probe => {
                let sql = "INSERT INTO squall_meta (name, value) VALUES ('probe', 1)
                    ON CONFLICT (name) DO UPDATE SET value = value + 1";
                run_fixed(connection, sql, SqliteArguments::default()).await?;
                Ok(Vec::new())
            }
        }
    }

    async fn commit(
        &self,
        connection: &mut SqliteConnection,
        mut batch: Batch,
        raised: &mut HashMap<String, u64>,
    ) -> Result<Vec<Applied>, Trouble> {
        let raise = match batch.fence.take() {
            Some(fence) => self.check_fence(fence, raised)?,
            None => None,
        };
        if raise.is_none() && batch.writes.len() <= 1 {
            return match batch.writes.pop() {
                Some(write) => Ok(vec![apply(connection, &self.tables, write).await?]),
                None => Ok(Vec::new()),
            };
        }
        run_fixed(connection, "SAVEPOINT one", SqliteArguments::default()).await?;
        match self.apply_all(connection, batch, raise.as_ref()).await {
            Ok(applied) => {
                run_fixed(connection, "RELEASE one", SqliteArguments::default()).await?;
                raised.extend(raise.map(|fence| (fence.name, fence.epoch)));
                Ok(applied)
            }
            Err(Trouble::Refused(error)) => {
                run_fixed(connection, "ROLLBACK TO one", SqliteArguments::default()).await?;
                run_fixed(connection, "RELEASE one", SqliteArguments::default()).await?;
                Err(Trouble::Refused(error))
            }
            Err(failed) => Err(failed),
        }
    }

    async fn apply_all(
        &self,
        connection: &mut SqliteConnection,
        batch: Batch,
        raise: Option<&Fence>,
    ) -> Result<Vec<Applied>, Trouble> {
        let mut applied = Vec::with_capacity(batch.writes.len());
        for write in batch.writes {
            applied.push(apply(connection, &self.tables, write).await?);
        }
        if let Some(fence) = raise {
            let mut values = Values::default();
            values.push(fence.name.clone())?;
            values.push(super::work::revision(fence.epoch))?;
            run_fixed(connection, "INSERT OR REPLACE INTO squall_fences (name, epoch) VALUES (?, ?)", values.0).await?;
        }
        Ok(applied)
    }

    /// Refuses an older epoch than was seen; returns the fence if its epoch is a new one.
    fn check_fence(&self, fence: Fence, raised: &HashMap<String, u64>) -> Result<Option<Fence>, StoreError> {
        let current = raised.get(&fence.name).or_else(|| self.fences.get(&fence.name)).copied();
        match current {
            Some(current) if fence.epoch < current => {
                Err(StoreError::StaleFence { name: fence.name, given: fence.epoch, current })
            }
            Some(current) if fence.epoch == current => Ok(None),
            _ => Ok(Some(fence)),
        }
    }

    async fn connected(&mut self) -> Result<SqliteConnection, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let mut connection = self.options.connect().await.map_err(|error| failure(&error))?;
        self.fences = load_fences(&mut connection).await?;
        Ok(connection)
    }

    /// After a failed transaction: rolls it back if it is still open. If even that fails, drops the connection.
    async fn recover(&mut self, error: &StoreError) {
        tracing::warn!(%error, "a transaction failed");
        let Some(mut connection) = self.connection.take() else { return };
        // SQLite may have rolled back by itself; then this fails, harmlessly.
        let _ = run_fixed(&mut connection, "ROLLBACK", SqliteArguments::default()).await;
        if matches!(error, StoreError::Full(_)) {
            self.connection = Some(connection);
        } else if let Err(error) = connection.close().await {
            tracing::debug!(%error, "closing a connection after a failure");
        }
    }
}

pub(super) async fn load_fences(connection: &mut SqliteConnection) -> Result<HashMap<String, u64>, StoreError> {
    let rows = sqlx::query_as::<_, (String, i64)>("SELECT name, epoch FROM squall_fences")
        .fetch_all(connection)
        .await
        .map_err(|error| failure(&error))?;
    Ok(rows.into_iter().map(|(name, epoch)| (name, u64::try_from(epoch).unwrap_or(0))).collect())
}

async fn blob_chunk(
    connection: &mut SqliteConnection,
    upload: i64,
    seq: i64,
    data: Vec<u8>,
) -> Result<Vec<Applied>, Trouble> {
    let mut values = Values::default();
    values.push(upload)?;
    values.push(seq)?;
    values.push(data)?;
    run_fixed(connection, "INSERT INTO squall_blob_chunks (upload, seq, data) VALUES (?, ?, ?)", values.0).await?;
    Ok(vec![Applied::Inserted])
}

async fn blob_head(
    connection: &mut SqliteConnection,
    id: Id,
    upload: i64,
    size: i64,
    seq: i64,
    data: Vec<u8>,
) -> Result<Vec<Applied>, Trouble> {
    let mut values = Values::default();
    values.push_id(id)?;
    values.push(upload)?;
    values.push(size)?;
    values.push(seq + 1)?;
    let sql = "INSERT INTO squall_blobs (id, upload, size, chunks) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
    if run_fixed(connection, sql, values.0).await?.rows_affected() == 0 {
        let mut values = Values::default();
        values.push(upload)?;
        run_fixed(connection, "DELETE FROM squall_blob_chunks WHERE upload = ?", values.0).await?;
        return Ok(vec![Applied::Present]);
    }
    blob_chunk(connection, upload, seq, data).await
}

async fn delete_blob(connection: &mut SqliteConnection, id: Id) -> Result<Vec<Applied>, Trouble> {
    let mut values = Values::default();
    values.push_id(id)?;
    let sql = "DELETE FROM squall_blob_chunks WHERE upload = (SELECT upload FROM squall_blobs WHERE id = ?)";
    run_fixed(connection, sql, values.0).await?;
    let mut values = Values::default();
    values.push_id(id)?;
    let gone = run_fixed(connection, "DELETE FROM squall_blobs WHERE id = ?", values.0).await?.rows_affected() > 0;
    Ok(vec![if gone { Applied::Deleted } else { Applied::Absent }])
}
