//! The embedded adapter: one SQLite file of its own, through sqlx.
//!
//! * One connection writes, by group commit ([`writer`]); a few read ([`readers`]).
//! * Write-ahead log with `synchronous=FULL`: what was acknowledged survives the loss of power.
//! * One process per database ([`lock`]); within it a set says which workflows are held ([`claims`]).

mod apply;
mod boxes;
mod claims;
mod drain;
mod failure;
mod lock;
mod migrate;
mod readers;
#[path = "../common/select.rs"]
mod select;
mod writer;

/// What the shared SQL runs on.
mod driver {
    pub use sqlx::Sqlite as Database;
    pub use sqlx::SqliteConnection as Connection;
    pub use sqlx::sqlite::{SqliteArguments as Arguments, SqliteRow as Row};

    /// Items by numbers, given as a JSON array.
    pub const SOME_ITEMS: &str = "SELECT task, item, status, body FROM items WHERE workflow = $1 AND task = $2
        AND item IN (SELECT value FROM json_each($3)) ORDER BY item";
}

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{Clock as _, Id, SystemClock, Timestamp};
use parking_lot::Mutex;
use sqlx::ConnectOptions as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::changes::Creation;
use crate::error::{OpenError, StateError};
use crate::failpoint;
use crate::limits;
use crate::port::{Claim, Claimed, Created, Deletion, Delivered, WorkflowState};
use crate::rows::{Head, HeadQuery, Message, Received, TakenLaunch, Task};
use crate::stats::Stats;
use crate::wake::{Bell, Wakes};
use claims::{Claims, Guard};
use drain::SqliteDrain;
use failure::{Failed, failure};
use lock::ProcessLock;
pub use migrate::FORMAT;
use readers::{Lease, Readers, closed};
use writer::{Done, Pending, Work, Writer};

/// Requests that may wait for the writer.
const QUEUE: usize = 512;

/// How to open a database.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file; `-wal`, `-shm` and `-lock` files are kept beside it. Its folder must exist.
    pub path: PathBuf,
    /// Acknowledge only what would survive the loss of power. Off: what would survive a crash of the process.
    pub durable: bool,
    /// Connections for reading.
    pub readers: u32,
    /// Page cache of each connection, KiB.
    pub cache_kib: u32,
    /// How long a call may take, waiting included, before it is `Unavailable`.
    pub timeout: Duration,
}

impl SqliteOptions {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), durable: true, readers: 3, cache_kib: 2 << 10, timeout: Duration::from_secs(30) }
    }

    fn connect(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .pragma("temp_store", "MEMORY")
            .pragma("mmap_size", "0")
            .pragma("cache_size", format!("-{}", self.cache_kib))
            .foreign_keys(false)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(64)
            .disable_statement_logging()
    }

    fn to_write(&self) -> SqliteConnectOptions {
        self.connect()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(if self.durable { SqliteSynchronous::Full } else { SqliteSynchronous::Off })
            .pragma("journal_size_limit", (64 << 20).to_string())
            .thread_name(|_| "workflow-writer".to_owned())
    }

    fn to_read(&self) -> SqliteConnectOptions {
        self.connect().read_only(true).thread_name(|_| "workflow-reader".to_owned())
    }
}

/// The [`WorkflowState`] on one SQLite database. Stop it with [`WorkflowState::close`].
#[derive(Debug)]
pub struct SqliteState {
    inner: Arc<Inner>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Where the search for workflows with messages goes on, so that none starves.
    cursor: Mutex<String>,
}

/// What drains need as well.
#[derive(Debug)]
struct Inner {
    /// None once closed.
    requests: Mutex<Option<mpsc::Sender<Pending>>>,
    readers: Arc<Readers>,
    claims: Arc<Claims>,
    bell: Arc<Bell>,
    timeout: Duration,
}

impl Inner {
    /// Hands work to the writer and waits for its commit.
    async fn write(&self, work: Work) -> Result<Done, StateError> {
        let one = async {
            let sender = self.requests.lock().clone().ok_or_else(closed)?;
            let (reply, answer) = oneshot::channel();
            sender.send(Pending { work, reply }).await.map_err(|_| closed())?;
            drop(sender);
            answer.await.map_err(|_| StateError::Unavailable("the writer ended before it answered".to_owned()))?
        };
        let late = || StateError::Unavailable(format!("no answer within {:?}", self.timeout));
        timeout(self.timeout, one).await.unwrap_or_else(|_| Err(late()))
    }

    /// Whether a workflow has messages, and isn't being deleted.
    async fn waiting(&self, workflow: Id) -> Result<bool, StateError> {
        self.readers
            .read(|mut lease: Lease| async move {
                let mut reading = lease.reading()?;
                let waiting = !reading.inbox(workflow, 1).await?.is_empty() && reading.head(workflow).await?.is_some();
                Ok((lease, waiting))
            })
            .await
    }
}

impl SqliteState {
    /// Opens the database, makes or extends its tables, and starts the writer on the current runtime.
    pub async fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let lock = ProcessLock::acquire(&options.path).await?;
        let sql = |error: sqlx::Error| OpenError::State(failure(&error));
        let mut connection = options.to_write().connect().await.map_err(sql)?;
        migrate::migrate(&mut connection).await?;
        let readers = Readers::new(options.to_read(), options.readers, options.timeout);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let counters = Arc::clone(&readers.counters);
        let writer = Writer::new(options.to_write(), receiver, connection, counters, lock);
        let bell = Arc::new(Bell::new());
        let inner = Inner {
            requests: Mutex::new(Some(sender)),
            readers,
            claims: Claims::new(Arc::clone(&bell)),
            bell,
            timeout: options.timeout,
        };
        Ok(Self {
            inner: Arc::new(inner),
            writer: Mutex::new(Some(tokio::spawn(writer.run()))),
            cursor: Mutex::default(),
        })
    }

    async fn read<T, F, S>(&self, step: F) -> Result<T, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, T), Failed>> + Send,
    {
        self.inner.readers.read(step).await
    }

    /// Reads what is to do for a workflow that was just claimed. Idle: it is let go, and a message that came to it
    /// meanwhile rings.
    async fn drain(&self, mut guard: Guard, workflow: Id, claim: &Claim) -> Result<Claimed, StateError> {
        let loaded = self
            .read(|mut lease: Lease| async move {
                let mut reading = lease.reading()?;
                let Some(head) = reading.head(workflow).await? else { return Ok((lease, None)) };
                let messages = reading.inbox(workflow, select::page(claim.messages)).await?;
                let due = reading.due_timers(workflow, claim.now, claim.timers.max(1)).await?;
                Ok((lease, Some((head, messages, due))))
            })
            .await?;
        let (head, messages, due) = match loaded {
            Some((head, messages, due)) if !(messages.is_empty() && due.is_empty()) => (head, messages, due),
            _ => {
                guard.quiet = true;
                drop(guard);
                if self.inner.waiting(workflow).await? {
                    self.inner.bell.ring();
                }
                return Ok(Claimed::Idle);
            }
        };
        failpoint::hit(failpoint::DRAIN_LOADED);
        let inner = Arc::clone(&self.inner);
        Ok(Claimed::Drain(Box::new(SqliteDrain { head, messages, due, guard: Some(guard), inner })))
    }

    /// Ids of workflows with something to do; more than are held.
    async fn candidates(&self, claim: &Claim) -> Result<Vec<String>, StateError> {
        const WITH_MESSAGES: &str = "
            WITH RECURSIVE waiting (workflow) AS (
                SELECT min(workflow) FROM inbox WHERE used IS NULL AND workflow > $1
                UNION ALL
                SELECT (SELECT min(i.workflow) FROM inbox i WHERE i.used IS NULL AND i.workflow > waiting.workflow)
                FROM waiting WHERE waiting.workflow IS NOT NULL
            )
            SELECT w.id FROM waiting JOIN workflows w ON w.id = waiting.workflow WHERE NOT w.doomed LIMIT $2";
        const WITH_TIMERS: &str = "SELECT id FROM workflows WHERE due <= $1 AND NOT doomed ORDER BY due LIMIT $2";
        // One cheap look first.
        const ANYTHING: &str = "SELECT EXISTS (SELECT 1 FROM inbox WHERE used IS NULL AND workflow > '')
            OR EXISTS (SELECT 1 FROM workflows WHERE due <= $1)";
        let enough = i64::try_from(self.inner.claims.count() + 1).unwrap_or(1);
        let now = claim.now.micros();
        let after = self.cursor.lock().clone();
        self.read(|mut lease: Lease| {
            let after = after.clone();
            async move {
                let id = |row: &SqliteRow| row.try_get::<String, _>(0);
                let mut reading = lease.reading()?;
                let anything = |row: &SqliteRow| row.try_get::<bool, _>(0);
                let anything = reading.all(sqlx::query(ANYTHING).bind(now), anything, |_| 0).await?;
                if anything != [true] {
                    return Ok((lease, Vec::new()));
                }
                let beyond = sqlx::query(WITH_MESSAGES).bind(after.clone()).bind(enough);
                let mut found = reading.all(beyond, id, |_| 0).await?;
                if !after.is_empty() {
                    let first = sqlx::query(WITH_MESSAGES).bind(String::new()).bind(enough);
                    found.extend(reading.all(first, id, |_| 0).await?);
                }
                found.extend(reading.all(sqlx::query(WITH_TIMERS).bind(now).bind(enough), id, |_| 0).await?);
                Ok((lease, found))
            }
        })
        .await
    }
}

reader!(SqliteState);

#[async_trait]
impl WorkflowState for SqliteState {
    async fn create(&self, creation: Creation, hold: Duration) -> Result<Created, StateError> {
        limits::name("the name of an engine", &creation.engine)?;
        let Creation { id: workflow, engine, changes } = creation;
        if !changes.used.is_empty() {
            return Err(StateError::Misuse("a new workflow has no messages to use".to_owned()));
        }
        let held = changes.at.plus(hold);
        let prepared = changes.prepare().await?;
        match self.inner.write(Work::Create { workflow, engine, prepared, held }).await? {
            Done::Yes(true) => {
                self.inner.bell.ring();
                Ok(Created::New)
            }
            _ => Ok(Created::Present),
        }
    }

    async fn deliver(&self, workflow: Id, messages: &[Message]) -> Result<Delivered, StateError> {
        limits::check("a delivery", messages.len(), limits::MAX_COMMIT_ROWS, "messages")?;
        for message in messages {
            limits::name("the kind of a message", &message.kind)?;
            limits::body("the body of a message", &message.body)?;
            limits::no_nul("the body of a message", &message.body)?;
        }
        let work = Work::Deliver { workflow, messages: messages.to_vec() };
        let Done::Delivered(delivered) = self.inner.write(work).await? else { return Err(closed()) };
        failpoint::hit(failpoint::INBOX_INSERTED);
        if matches!(&delivered, Delivered::Known(new) if new.contains(&true)) {
            self.inner.bell.ring();
        }
        Ok(delivered)
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, StateError> {
        if let Some(workflow) = claim.workflow {
            loop {
                let Some(guard) = self.inner.claims.take(workflow) else { return Ok(Claimed::Busy) };
                let claimed = self.drain(guard, workflow, claim).await?;
                // What came while it was held in vain found it busy.
                if matches!(claimed, Claimed::Drain(_)) || !self.inner.waiting(workflow).await? {
                    return Ok(claimed);
                }
            }
        }
        for candidate in self.candidates(claim).await? {
            let Ok(workflow) = candidate.parse() else { continue };
            let Some(guard) = self.inner.claims.take(workflow) else { continue };
            // Others may have used its messages in the meantime.
            if let Claimed::Drain(drain) = self.drain(guard, workflow, claim).await? {
                if !drain.messages().is_empty() {
                    *self.cursor.lock() = candidate;
                }
                return Ok(Claimed::Drain(drain));
            }
        }
        Ok(Claimed::Idle)
    }

    async fn take_launches(&self, now: Timestamp, hold: Duration, limit: u32) -> Result<Vec<TakenLaunch>, StateError> {
        match self.inner.write(Work::Take { now, hold, limit }).await? {
            Done::Taken(taken) => Ok(taken),
            _ => Err(closed()),
        }
    }

    async fn mark_launched(&self, workflow: Id, launches: &[Id]) -> Result<(), StateError> {
        if launches.is_empty() {
            return Ok(());
        }
        failpoint::hit(failpoint::LAUNCHED);
        self.inner.write(Work::Mark { workflow, launches: launches.to_vec() }).await.map(drop)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StateError> {
        read!(self, next_due())
    }

    async fn heads(&self, query: &HeadQuery) -> Result<Vec<Head>, StateError> {
        read!(self, heads(query))
    }

    async fn head_of_execution(&self, execution: Id) -> Result<Option<Head>, StateError> {
        read!(self, head_of_execution(execution))
    }

    async fn task_by_id(&self, id: Id) -> Result<Option<(Id, Task)>, StateError> {
        read!(self, task_by_id(id))
    }

    async fn inbox(&self, workflow: Id, limit: u32) -> Result<Vec<Received>, StateError> {
        read!(self, inbox(workflow, select::page(limit)))
    }

    async fn outbox(&self, workflow: Id, limit: u32) -> Result<Vec<TakenLaunch>, StateError> {
        read!(self, outbox(workflow, limit))
    }

    async fn delete(&self, workflow: Id, rows: u32) -> Result<Deletion, StateError> {
        let Some(guard) = self.inner.claims.take(workflow) else { return Ok(Deletion::Busy) };
        match self.inner.write(Work::Delete { workflow, rows, _guard: guard }).await? {
            Done::Deleted(deletion) => Ok(deletion),
            _ => Err(closed()),
        }
    }

    async fn time(&self) -> Result<Timestamp, StateError> {
        Ok(SystemClock.now())
    }

    fn wakes(&self) -> Wakes {
        self.inner.bell.listen()
    }

    async fn check(&self) -> Result<(), StateError> {
        let late = || StateError::Unavailable("SQLite: no answer within a second".to_owned());
        timeout(Duration::from_millis(900), self.inner.write(Work::Probe)).await.map_err(|_| late())?.map(drop)
    }

    fn stats(&self) -> Stats {
        self.inner.readers.counters.snapshot()
    }

    async fn close(&self) {
        drop(self.inner.requests.lock().take());
        let writer = self.writer.lock().take();
        let stop = async {
            self.inner.readers.close().await;
            if let Some(writer) = writer
                && let Err(error) = writer.await
            {
                tracing::error!(%error, "the writer of the workflow state ended badly");
            }
        };
        if timeout(self.inner.timeout, stop).await.is_err() {
            tracing::error!("the workflow state did not close in time; what was acknowledged is safe");
        }
    }
}
