//! The embedded adapter: SQLite through sqlx.
//!
//! * One table per collection with a column per declared field ([`table`], [`schema`]).
//! * One connection writes, by group commit ([`writer`], [`script`]); a few read ([`readers`], [`select`]).
//! * Write-ahead log with `synchronous=FULL`: what was acknowledged survives the loss of power.
//! * One process per database ([`lock`]).

mod blobs;
mod checkpoint;
mod failure;
mod lock;
mod prepared;
mod readers;
mod schema;
mod script;
mod select;
mod table;
mod work;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{Collection, Id, Key, KeyKind};
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::batch::{Applied, Batch};
use crate::error::StoreError;
use crate::limits::check_batch;
use crate::port::{Document, Store};
use crate::query::Query;
use failure::failure;
use lock::DirectoryLock;
use prepared::PreparedBatch;
use readers::{Readers, closed};
use select::Select;
use table::Tables;
use work::{Outcome, Pending, Work};
use writer::Writer;

/// Requests that may wait for the writer.
const QUEUE: usize = 1_024;
/// Bytes that may wait for the writer, in units of [`UNIT`].
const QUEUE_UNITS: usize = (96 << 20) / UNIT;
const UNIT: usize = 4 << 10;

/// How to open a database.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file; `-wal`, `-shm` and `-lock` files are kept beside it. Its folder must exist.
    pub path: PathBuf,
    /// What is kept; by default all of Squall's collections.
    pub collections: Vec<&'static Collection>,
    /// Acknowledge only what would survive the loss of power. Off: what would survive a crash of the process.
    pub durable: bool,
    /// Connections for reading.
    pub readers: u32,
    /// Page cache of the writing connection, KiB.
    pub writer_cache_kib: u32,
    /// Page cache of each reading connection, KiB.
    pub reader_cache_kib: u32,
    /// How long a call may take, waiting included, before it is [`StoreError::Unavailable`].
    pub timeout: Duration,
}

impl SqliteOptions {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            collections: model::COLLECTIONS.to_vec(),
            durable: true,
            readers: 3,
            writer_cache_kib: 6 << 10,
            reader_cache_kib: 1 << 10,
            timeout: Duration::from_secs(30),
        }
    }

    fn connect_options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .pragma("temp_store", "MEMORY")
            .pragma("mmap_size", "0")
            .foreign_keys(false)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging()
    }

    fn write_options(&self) -> SqliteConnectOptions {
        self.connect_options()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(if self.durable { SqliteSynchronous::Full } else { SqliteSynchronous::Off })
            .pragma("cache_size", format!("-{}", self.writer_cache_kib))
            // The `checkpoint` module does it; the log keeps at most this when it starts anew.
            .pragma("wal_autocheckpoint", "0")
            .pragma("journal_size_limit", (64 << 20).to_string())
            .statement_cache_capacity(48)
            .thread_name(|_| "store-writer".to_owned())
    }

    fn read_options(&self) -> SqliteConnectOptions {
        self.connect_options()
            .read_only(true)
            .pragma("cache_size", format!("-{}", self.reader_cache_kib))
            .statement_cache_capacity(64)
            .thread_name(|_| "store-reader".to_owned())
    }
}

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database {} is in use by process {process}", path.display())]
    InUse { path: PathBuf, process: String },
    #[error("the database has format {found}, and this version of Squall knows formats up to {known}: use a newer one")]
    Newer { found: i64, known: i64 },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The [`Store`] on one SQLite database. Stop it with [`SqliteStore::close`].
#[derive(Debug)]
pub struct SqliteStore {
    tables: Arc<Tables>,
    /// None once closed.
    requests: Mutex<Option<mpsc::Sender<Pending>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    memory: Arc<Semaphore>,
    readers: Arc<Readers>,
    uploads: blobs::Uploads,
    timeout: Duration,
    #[cfg(feature = "contract")]
    _folder: Option<tempfile::TempDir>,
}

impl SqliteStore {
    /// Opens the database, makes or extends its tables, and starts the writer on the current runtime.
    pub async fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let tables = Arc::new(Tables::new(&options.collections)?);
        let lock = DirectoryLock::acquire(&options.path).await?;
        let mut connection = options.write_options().connect().await.map_err(|error| failure(&error))?;
        schema::prepare(&mut connection, &tables).await?;
        let fences = writer::load_fences(&mut connection).await?;
        let uploads = blobs::Uploads::load(&mut connection).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer::new(options.write_options(), receiver, connection, fences, lock);
        Ok(Self {
            tables,
            requests: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(tokio::spawn(writer.run()))),
            memory: Arc::new(Semaphore::new(QUEUE_UNITS)),
            readers: Readers::new(options.read_options(), options.readers),
            uploads,
            timeout: options.timeout,
            #[cfg(feature = "contract")]
            _folder: None,
        })
    }

    /// A store of its own for a test: not synced to disk, and removed with the value.
    #[cfg(feature = "contract")]
    pub async fn temporary() -> Result<Self, OpenError> {
        let folder = tempfile::tempdir().map_err(|source| OpenError::Io { path: std::env::temp_dir(), source })?;
        let mut options = SqliteOptions::new(folder.path().join("squall.db"));
        options.durable = false;
        let mut store = Self::open(options).await?;
        store._folder = Some(folder);
        Ok(store)
    }

    /// Finishes what is queued, closes every connection and lets the database go. Calls after it are `Unavailable`.
    pub async fn close(&self) {
        drop(self.requests.lock().take());
        let writer = self.writer.lock().take();
        let stop = async {
            self.readers.close().await;
            if let Some(writer) = writer
                && let Err(error) = writer.await
            {
                tracing::error!(%error, "the store's writer ended badly");
            }
        };
        if timeout(self.timeout, stop).await.is_err() {
            tracing::error!("the database did not close in time; what was acknowledged is safe");
        }
    }

    /// Hands work to the writer and waits for its commit.
    async fn write(&self, work: Work, bytes: usize) -> Outcome {
        timeout(self.timeout, self.write_unbounded(work, bytes)).await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn write_unbounded(&self, work: Work, bytes: usize) -> Outcome {
        let units = u32::try_from((bytes / UNIT + 1).min(QUEUE_UNITS)).unwrap_or(1);
        let memory = Arc::clone(&self.memory).acquire_many_owned(units).await.map_err(|_| closed())?;
        let sender = self.requests.lock().clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        sender.send(Pending { work, reply, bytes, memory }).await.map_err(|_| closed())?;
        drop(sender);
        answer.await.map_err(|_| StoreError::Unavailable("the writer ended before it answered".to_owned()))?
    }

    fn late(&self) -> StoreError {
        StoreError::Unavailable(format!("no answer within {:?}", self.timeout))
    }

    async fn rows(&self, select: Select) -> Result<Vec<SqliteRow>, StoreError> {
        let read = async {
            let mut reader = self.readers.take().await?;
            match select.into_query().fetch_all(&mut *reader).await {
                Ok(rows) => Ok(rows),
                Err(error) => Err(reader.failed(&error)),
            }
        };
        timeout(self.timeout, read).await.unwrap_or_else(|_| Err(self.late()))
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batch: Batch) -> Result<Vec<Applied>, StoreError> {
        let bytes = check_batch(&batch)?;
        let batch = PreparedBatch::new(batch, &self.tables)?;
        self.write(Work::Commit(batch), bytes).await
    }

    async fn get(&self, collection: &'static Collection, id: Id) -> Result<Option<Document>, StoreError> {
        let table = self.tables.get(collection)?;
        let read = async {
            let mut reader = self.readers.take().await?;
            let row = sqlx::query(AssertSqlSafe(Arc::clone(&table.get)))
                .bind(id.as_bytes().to_vec())
                .fetch_optional(&mut *reader)
                .await;
            match row {
                Ok(row) => row.map(|row| document(&row)).transpose(),
                Err(error) => Err(reader.failed(&error)),
            }
        };
        timeout(self.timeout, read).await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn find(&self, collection: &'static Collection, query: &Query) -> Result<Vec<Document>, StoreError> {
        let select = Select::documents(self.tables.get(collection)?, query)?;
        self.rows(select).await?.iter().map(document).collect()
    }

    async fn count(&self, collection: &'static Collection, query: &Query) -> Result<u64, StoreError> {
        let table = self.tables.get(collection)?;
        if let Some(rows) = table.rows().filter(|_| query.conds.is_empty()) {
            return Ok(rows);
        }
        let select = Select::count(table, query)?;
        let rows = self.rows(select).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(|error| failure(&error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    fn changes(&self, collection: &'static Collection) -> Option<u64> {
        self.tables.get(collection).ok().map(|table| table.changes())
    }

    async fn distinct(
        &self,
        collection: &'static Collection,
        field: &'static str,
        query: &Query,
        limit: u64,
    ) -> Result<Vec<Key>, StoreError> {
        let table = self.tables.get(collection)?;
        let (_, kind) = collection.fields[table.position(field)?];
        let rows = self.rows(Select::distinct(table, field, query, limit)?).await?;
        let keys = rows.iter().map(|row| match kind {
            KeyKind::Text => row.try_get::<String, _>(0).map(Key::Text),
            KeyKind::Int => row.try_get::<i64, _>(0).map(Key::Int),
        });
        keys.collect::<Result<_, _>>().map_err(|error| failure(&error))
    }

    async fn put_blob(&self, id: Id, bytes: Vec<u8>) -> Result<(), StoreError> {
        blobs::put(self, id, bytes).await
    }

    async fn get_blob(&self, id: Id) -> Result<Option<Vec<u8>>, StoreError> {
        timeout(self.timeout, blobs::get(self, id)).await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn delete_blob(&self, id: Id) -> Result<(), StoreError> {
        self.write(Work::DeleteBlob(id), 0).await.map(drop)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.write(Work::Probe, 0).await.map(drop)
    }
}

fn document(row: &SqliteRow) -> Result<Document, StoreError> {
    let read =
        || -> Result<(Vec<u8>, i64, String), sqlx::Error> { Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)) };
    let (id, rev, body) = read().map_err(|error| failure(&error))?;
    let id = <[u8; 12]>::try_from(id).map_err(|_| StoreError::Unavailable("a stored id is not 12 bytes".to_owned()))?;
    Ok(Document { id: Id::from_bytes(id), rev: u64::try_from(rev).unwrap_or(0), body })
}
