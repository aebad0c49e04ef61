//! openraft's log port: entries and vote.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::oneshot;

use super::writer::{Done, Request, Writer, read_value};
use super::{KEY_COMMITTED, KEY_PURGED, KEY_SNAPSHOT, KEY_SNAPSHOT_DATA, KEY_VOTE, LOG, io_error};
use crate::types::{
    Entry, LogId, Position, SnapshotRecord, TypeConfig, Vote, VoteRecord, decode, decode_entry, encode, encode_entry,
};

/// Entries kept in memory; older ones are read from disk.
const TAIL: usize = 512;
/// Most entries that one bounded read returns.
const READ_LIMIT: u64 = 256;

/// The log. Clones share it.
#[derive(Clone)]
pub struct LogStore(Arc<Shared>);

struct Shared {
    memory: Mutex<Memory>,
    /// None after [`LogStore::close`].
    database: Mutex<Option<Arc<Database>>>,
    writer: Mutex<Option<Writer>>,
    queue: tokio::sync::mpsc::Sender<Request>,
    flushed: Arc<std::sync::atomic::AtomicU64>,
}

/// What is readable: everything that was queued, whether or not it is on disk yet.
#[derive(Default)]
struct Memory {
    tail: BTreeMap<u64, Entry>,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl LogStore {
    /// Reads what the file holds and starts the writer. Blocks.
    pub fn open(database: Database) -> io::Result<Self> {
        let database = Arc::new(database);
        let memory = load(&database)?;
        let next = memory.last.map_or(0, |last| last.index + 1);
        let writer = Writer::start(database.clone(), next)?;
        Ok(Self(Arc::new(Shared {
            memory: Mutex::new(memory),
            database: Mutex::new(Some(database)),
            queue: writer.queue.clone(),
            flushed: writer.flushed.clone(),
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// Stops the writer after what is queued and lets go of the file.
    pub async fn close(&self) {
        let _ = self.0.queue.send(Request::Close).await;
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer {
            let joined = tokio::task::spawn_blocking(move || writer.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the raft log's writer ended by a panic");
            }
        }
        self.0.database.lock().take();
    }

    fn database(&self) -> io::Result<Arc<Database>> {
        self.0.database.lock().clone().ok_or_else(closed)
    }

    async fn send(&self, request: Request) -> io::Result<()> {
        self.0.queue.send(request).await.map_err(|_| closed())
    }

    async fn ask(&self, make: impl FnOnce(Done) -> Request) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(make(done)).await?;
        answer.await.map_err(|_| closed())?
    }

    /// Makes this the current snapshot.
    pub async fn save_snapshot(&self, record: &SnapshotRecord, data: Vec<u8>) -> io::Result<()> {
        let record = encode(record)?;
        self.ask(|done| Request::Snapshot { record, data, done }).await
    }

    /// The current snapshot, if there is one. Blocks for a short read.
    pub fn read_snapshot(&self) -> io::Result<Option<(SnapshotRecord, Vec<u8>)>> {
        let database = self.database()?;
        // Both are written in one commit, but read in two transactions: read again when a writer came in between.
        for _ in 0..8 {
            let Some(record) = read_value(&database, KEY_SNAPSHOT)? else { return Ok(None) };
            let data = read_value(&database, KEY_SNAPSHOT_DATA)?.unwrap_or_default();
            if read_value(&database, KEY_SNAPSHOT)?.as_ref() == Some(&record) {
                return Ok(Some((decode(&record)?, data)));
            }
        }
        Err(io::Error::other("the snapshot changes too fast to be read"))
    }

    fn read_disk(&self, from: u64, below: u64) -> io::Result<Vec<Entry>> {
        let database = self.database()?;
        let txn = database.begin_read().map_err(io_error)?;
        let log = txn.open_table(LOG).map_err(io_error)?;
        let mut entries = Vec::new();
        for row in ReadableTable::range(&log, from..below).map_err(io_error)? {
            let (_, record) = row.map_err(io_error)?;
            entries.push(decode_entry(record.value())?);
        }
        Ok(entries)
    }

    /// All entries of `[from, below)` that the log holds.
    fn read(&self, from: u64, below: u64) -> io::Result<Vec<Entry>> {
        let (tail_start, recent) = {
            let memory = self.0.memory.lock();
            let start = memory.tail.first_key_value().map(|(index, _)| *index);
            let recent: Vec<Entry> = if from < below {
                memory.tail.range(from..below).map(|(_, entry)| entry.clone()).collect()
            } else {
                Vec::new()
            };
            (start, recent)
        };
        let disk_below = tail_start.map_or(below, |start| start.min(below));
        if from >= disk_below {
            return Ok(recent);
        }
        // Entries left the tail only after they were on disk.
        let mut entries = self.read_disk(from, disk_below)?;
        entries.extend(recent);
        Ok(entries)
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the raft log is closed")
}

fn load(database: &Database) -> io::Result<Memory> {
    let position = |key| -> io::Result<Option<LogId>> {
        let record = read_value(database, key)?;
        Ok(record.map(|record| decode::<Position>(&record)).transpose()?.map(Into::into))
    };
    let vote = read_value(database, KEY_VOTE)?;
    let mut memory = Memory {
        purged: position(KEY_PURGED)?,
        committed: position(KEY_COMMITTED)?,
        vote: vote.map(|record| decode::<VoteRecord>(&record)).transpose()?.map(Into::into),
        ..Memory::default()
    };
    let txn = database.begin_read().map_err(io_error)?;
    let log = txn.open_table(LOG).map_err(io_error)?;
    for row in ReadableTable::range::<u64>(&log, ..).map_err(io_error)?.rev().take(TAIL) {
        let (index, record) = row.map_err(io_error)?;
        memory.tail.insert(index.value(), decode_entry(record.value())?);
    }
    memory.last = memory.tail.last_key_value().map(|(_, entry)| entry.log_id).or(memory.purged);
    Ok(memory)
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let below = match range.end_bound() {
        Bound::Included(&index) => index.saturating_add(1),
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    (from, below)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, below) = bounds(&range);
        self.read(from, below)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end.min(start.saturating_add(READ_LIMIT)))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.memory.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let memory = self.0.memory.lock();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let record = encode(&VoteRecord::from(*vote))?;
        self.ask(|done| Request::Vote { record, done }).await?;
        self.0.memory.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        self.0.memory.lock().committed = Some(committed);
        let record = encode(&Position::from(committed))?;
        self.send(Request::Committed { record }).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.0.memory.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let records = entries
            .iter()
            .map(|entry| Ok((entry.log_id.index, encode_entry(entry)?)))
            .collect::<io::Result<Vec<_>>>()?;
        {
            let mut memory = self.0.memory.lock();
            for entry in entries {
                memory.last = Some(entry.log_id);
                memory.tail.insert(entry.log_id.index, entry);
            }
            let flushed = self.0.flushed.load(Ordering::Acquire);
            while memory.tail.len() > TAIL
                && let Some(oldest) = memory.tail.first_entry()
                && *oldest.key() < flushed
            {
                oldest.remove();
            }
        }
        self.send(Request::Append { records, done: callback }).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let index = last_log_id.map_or(0, |last| last.index + 1);
        self.ask(|done| Request::TruncateFrom { index, done }).await?;
        let mut memory = self.0.memory.lock();
        memory.tail.split_off(&index);
        // Nothing is gone when the log ends before it.
        if memory.last.is_some_and(|last| last.index >= index) {
            memory.last = last_log_id.or(memory.purged);
        }
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let record = encode(&Position::from(log_id))?;
        self.ask(|done| Request::Purge { upto: log_id.index, record, done }).await?;
        let mut memory = self.0.memory.lock();
        memory.tail = memory.tail.split_off(&(log_id.index + 1));
        memory.purged = Some(log_id);
        if memory.last.is_none_or(|last| last < log_id) {
            memory.last = Some(log_id);
        }
        Ok(())
    }
}
