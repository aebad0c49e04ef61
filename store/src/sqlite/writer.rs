//! The only connection that writes, and the task that owns it.
//!
//! Group commit: whatever waits in the queue when a transaction begins goes into it, up to a limit, and one sync to
//! disk serves all. Callers are answered after the commit. Between transactions nothing is running and no timer
//! ticks.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::mpsc;

use super::blobs;
use super::checkpoint::Checkpoints;
use super::failure::failure;
use super::lock::DirectoryLock;
use super::prepared::{PreparedBatch, Values, revision};
use super::readers::closed;
use super::script::{self, Shape, Texts};
use super::table::Table;
use super::work::{Outcome, Pending, Work, note_lacking, run_bound, run_fixed};
use crate::batch::{Applied, Fence};
use crate::error::StoreError;

/// Most requests in one transaction.
const MAX_GROUP: usize = 256;
/// Most bytes in one transaction, but for a single request that is larger.
const MAX_GROUP_BYTES: usize = 8 << 20;

/// State of the writer task.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    requests: mpsc::Receiver<Pending>,
    texts: Texts,
    checkpoints: Checkpoints,
    /// None after a failure that may have left it in an unknown state; the next request opens another.
    connection: Option<SqliteConnection>,
    /// Highest epoch of each fence, as committed.
    fences: HashMap<String, u64>,
    /// The last transaction failed; said once, until one succeeds.
    failing: bool,
    /// Let go last.
    _lock: DirectoryLock,
}

impl Writer {
    pub(super) fn new(
        options: SqliteConnectOptions,
        requests: mpsc::Receiver<Pending>,
        connection: SqliteConnection,
        fences: HashMap<String, u64>,
        lock: DirectoryLock,
    ) -> Self {
        let checkpoints = Checkpoints::new(options.clone());
        Self {
            options,
            requests,
            texts: Texts::default(),
            checkpoints,
            connection: Some(connection),
            fences,
            failing: false,
            _lock: lock,
        }
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
            self.checkpoints.wrote(group.len(), bytes);
            self.serve(&mut group).await;
            if let Some(connection) = self.connection.as_mut() {
                self.checkpoints.tend(connection).await;
            }
        }
        self.checkpoints.settle().await;
        if let Some(mut connection) = self.connection.take() {
            let _ = run_fixed(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await;
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "closing the database");
            }
        }
    }

    /// Carries out a group in one transaction and answers.
    async fn serve(&mut self, group: &mut Vec<Pending>) {
        let mut callers = Vec::with_capacity(group.len());
        let mut works = Vec::with_capacity(group.len());
        for pending in group.drain(..) {
            works.push(pending.work);
            callers.push((pending.reply, pending.memory));
        }
        let count = works.len();
        let touched: Vec<Vec<Arc<Table>>> = works.iter().map(touched).collect();
        let outcomes = match self.transact(works).await {
            Ok(outcomes) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the store takes writes again");
                }
                outcomes
            }
            Err(error) => {
                self.recover(&error).await;
                // A commit that failed may have been written all the same.
                touched.iter().flatten().for_each(|table| table.set_rows(None));
                vec![Err(error); count]
            }
        };
        touched.iter().flatten().for_each(|table| table.note_change());
        for (tables, outcome) in touched.iter().zip(&outcomes) {
            for (table, applied) in tables.iter().zip(outcome.iter().flatten()) {
                table.note(applied);
            }
        }
        for ((reply, _memory), outcome) in callers.into_iter().zip(outcomes) {
            // A caller that went away doesn't want to know.
            let _ = reply.send(outcome);
        }
    }

    async fn transact(&mut self, mut works: Vec<Work>) -> Result<Vec<Outcome>, StoreError> {
        self.connect().await?;
        let Some(connection) = self.connection.as_mut() else { return Err(closed()) };
        if works.len() == 1
            && let Some(Work::Commit(batch)) = works.pop_if(|work| is_plain(work, &self.fences))
        {
            return Ok(vec![script::alone(connection, &mut self.texts, &batch).await?]);
        }
        run_fixed(connection, "BEGIN IMMEDIATE").await?;
        let mut transaction =
            Transaction { connection, texts: &mut self.texts, fences: &self.fences, raised: HashMap::new() };
        let outcomes = transaction.carry_out(works).await?;
        let raised = transaction.raised;
        run_fixed(connection, "COMMIT").await?;
        self.fences.extend(raised);
        Ok(outcomes)
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        if self.connection.is_none() {
            let mut connection = self.options.connect().await.map_err(|error| failure(&error))?;
            self.fences = load_fences(&mut connection).await?;
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// After a failed transaction: rolls it back if it is still open. Unless the disk is just full, the connection
    /// is not trusted further.
    async fn recover(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "the store can't write");
        }
        let Some(mut connection) = self.connection.take() else { return };
        // SQLite may have rolled back by itself; then this fails, harmlessly.
        let _ = run_fixed(&mut connection, "ROLLBACK").await;
        if matches!(error, StoreError::Full(_)) {
            // What is in the log can be moved to the database, and the log's own space be used again.
            let _ = run_fixed(&mut connection, "PRAGMA wal_checkpoint(PASSIVE)").await;
            self.connection = Some(connection);
        } else if let Err(error) = connection.close().await {
            tracing::debug!(%error, "closing a connection after a failure");
        }
    }
}

/// The tables of a batch's writes, in their order.
fn touched(work: &Work) -> Vec<Arc<Table>> {
    match work {
        Work::Commit(batch) => batch.writes.iter().map(|write| write.table.clone()).collect(),
        _ => Vec::new(),
    }
}

/// A commit that touches documents only: no fence goes up, and no field is lacking for the first time.
fn is_plain(work: &Work, fences: &HashMap<String, u64>) -> bool {
    let Work::Commit(batch) = work else { return false };
    let level = batch.fence.as_ref().is_none_or(|fence| fences.get(&fence.name) == Some(&fence.epoch));
    level && batch.writes.iter().all(|write| write.table.newly_lacking(write.absent) == 0)
}

/// A transaction under way.
struct Transaction<'a> {
    connection: &'a mut SqliteConnection,
    texts: &'a mut Texts,
    fences: &'a HashMap<String, u64>,
    /// Fences that go up with this transaction.
    raised: HashMap<String, u64>,
}

/// Batches of one shape, and the places of their answers.
type Alike = (Option<Shape>, Vec<usize>, Vec<PreparedBatch>);

impl Transaction<'_> {
    /// The requests were waiting at the same time, so any order is as good; but what comes after a fence goes up
    /// comes after it.
    async fn carry_out(&mut self, works: Vec<Work>) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = vec![Ok(Vec::new()); works.len()];
        let mut waiting: Vec<Alike> = Vec::new();
        for (place, work) in works.into_iter().enumerate() {
            let mut batch = match work {
                Work::Commit(batch) => batch,
                other => {
                    outcomes[place] = Ok(self.other(other).await?);
                    continue;
                }
            };
            for write in &batch.writes {
                note_lacking(self.connection, write).await?;
            }
            match batch.fence.take().map_or(Ok(None), |fence| self.check_fence(fence)) {
                Err(stale) => outcomes[place] = Err(stale),
                Ok(Some(fence)) => {
                    self.flush(&mut waiting, &mut outcomes).await?;
                    outcomes[place] = self.raise(fence, &batch).await?;
                }
                Ok(None) => {
                    let shape = script::shape_of(&batch);
                    match waiting.iter_mut().find(|(other, ..)| *other == shape) {
                        Some((_, places, batches)) => {
                            places.push(place);
                            batches.push(batch);
                        }
                        None => waiting.push((shape, vec![place], vec![batch])),
                    }
                }
            }
        }
        self.flush(&mut waiting, &mut outcomes).await?;
        Ok(outcomes)
    }

    async fn flush(&mut self, waiting: &mut Vec<Alike>, outcomes: &mut [Outcome]) -> Result<(), StoreError> {
        for (shape, places, batches) in waiting.drain(..) {
            let Some(shape) = shape else {
                for (place, batch) in places.into_iter().zip(batches) {
                    outcomes[place] = script::long(self.connection, self.texts, &batch.writes).await?;
                }
                continue;
            };
            let done = script::together(self.connection, self.texts, &shape, &batches).await?;
            for (place, outcome) in places.into_iter().zip(done) {
                outcomes[place] = outcome;
            }
        }
        Ok(())
    }

    /// A batch under a new epoch: if the batch is refused, the fence stays.
    async fn raise(&mut self, fence: Fence, batch: &PreparedBatch) -> Result<Outcome, StoreError> {
        let outcome = script::long(self.connection, self.texts, &batch.writes).await?;
        if outcome.is_ok() {
            let mut values = Values::default();
            values.push(fence.name.clone())?;
            values.push(revision(fence.epoch))?;
            let sql = "INSERT OR REPLACE INTO squall_fences (name, epoch) VALUES (?, ?)";
            run_bound(self.connection, sql, values).await?;
            self.raised.insert(fence.name, fence.epoch);
        }
        Ok(outcome)
    }

    /// Refuses an older epoch than was seen; returns the fence if its epoch is a new one.
    fn check_fence(&self, fence: Fence) -> Result<Option<Fence>, StoreError> {
        let current = self.raised.get(&fence.name).or_else(|| self.fences.get(&fence.name)).copied();
        match current {
            Some(current) if fence.epoch < current => {
                Err(StoreError::StaleFence { name: fence.name, given: fence.epoch, current })
            }
            Some(current) if fence.epoch == current => Ok(None),
            _ => Ok(Some(fence)),
        }
    }

    async fn other(&mut self, work: Work) -> Result<Vec<Applied>, StoreError> {
        let connection = &mut *self.connection;
        match work {
            Work::BlobChunk { upload, seq, data } => blobs::insert_chunk(connection, upload, seq, data).await,
            Work::BlobHead { id, upload, size, seq, data } => {
                blobs::insert_head(connection, id, upload, size, seq, data).await
            }
            Work::DropUpload(upload) => blobs::drop_upload(connection, upload).await,
            Work::DeleteBlob(id) => blobs::delete(connection, id).await,
            Work::Probe => {
                let sql = "INSERT INTO squall_meta (name, value) VALUES ('probe', 1)
                    ON CONFLICT (name) DO UPDATE SET value = value + 1";
                run_fixed(connection, sql).await.map(|()| Vec::new())
            }
            Work::Commit(_) => Ok(Vec::new()),
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
