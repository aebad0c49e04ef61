//! The writer thread: drains its queue, makes one durable commit, answers everyone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use openraft::storage::IOFlushed;
use redb::{Database, ReadableTable, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::{KEY_COMMITTED, KEY_PURGED, KEY_SNAPSHOT, KEY_SNAPSHOT_DATA, KEY_VOTE, LOG, META, io_error};
use crate::types::TypeConfig;

/// Requests that may wait; senders wait when it is full.
const QUEUE: usize = 1_024;
/// Most requests in one commit.
const BATCH: usize = 256;

pub type Done = oneshot::Sender<io::Result<()>>;

pub enum Request {
    Append {
        records: Vec<(u64, Vec<u8>)>,
        done: IOFlushed<TypeConfig>,
    },
    Vote {
        record: Vec<u8>,
        done: Done,
    },
    /// Written with the next commit that something else needs; nobody waits for it.
    Committed {
        record: Vec<u8>,
    },
    /// Removes all entries from this index on.
    TruncateFrom {
        index: u64,
        done: Done,
    },
    /// Removes all entries up to and including this index.
    Purge {
        upto: u64,
        record: Vec<u8>,
        done: Done,
    },
    Snapshot {
        record: Vec<u8>,
        data: Vec<u8>,
        done: Done,
    },
    /// Stops the thread and with it the last use of the file by the writer.
    Close,
}

pub struct Writer {
    pub queue: mpsc::Sender<Request>,
    /// All entries below this index are on disk.
    pub flushed: Arc<AtomicU64>,
    pub thread: JoinHandle<()>,
}

impl Writer {
    pub fn start(database: Arc<Database>, flushed_below: u64) -> io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let flushed = Arc::new(AtomicU64::new(flushed_below));
        let worker = Worker { database, flushed: flushed.clone(), committed: None, failed: None };
        let thread = std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || worker.run(requests))?;
        Ok(Self { queue, flushed, thread })
    }
}

struct Worker {
    database: Arc<Database>,
    flushed: Arc<AtomicU64>,
    committed: Option<Vec<u8>>,
    /// After a failed commit nothing more is written: later entries must not follow a hole.
    failed: Option<(io::ErrorKind, String)>,
}

impl Worker {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = requests.try_recv()
            {
                batch.push(next);
            }
            let close = batch.iter().any(|request| matches!(request, Request::Close));
            self.serve(batch);
            if close {
                break;
            }
        }
        if self.failed.is_none() && self.committed.is_some() {
            // A convenience for the next start, which works without it.
            let _ = self.commit(&[]);
        }
    }

    fn serve(&mut self, mut batch: Vec<Request>) {
        batch.retain_mut(|request| match request {
            Request::Committed { record } => {
                self.committed = Some(std::mem::take(record));
                false
            }
            Request::Close => false,
            _ => true,
        });
        if batch.is_empty() {
            return;
        }
        let result = match &self.failed {
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            None => self.commit(&batch),
        };
        if let Err(error) = &result
            && self.failed.is_none()
        {
            tracing::error!(%error, "the raft log can't be written");
            self.failed = Some((error.kind(), error.to_string()));
        }
        for request in batch {
            let answer = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            self.answer(request, answer);
        }
    }

    fn answer(&self, request: Request, result: io::Result<()>) {
        match request {
            Request::Append { records, done } => {
                if result.is_ok()
                    && let Some((last, _)) = records.last()
                {
                    self.flushed.store(last + 1, Ordering::Release);
                }
                done.io_completed(result);
            }
            Request::TruncateFrom { index, done } => {
                if result.is_ok() {
                    self.flushed.fetch_min(index, Ordering::AcqRel);
                }
                let _ = done.send(result);
            }
            // Nobody to answer to when the asking task is gone.
            Request::Vote { done, .. } | Request::Purge { done, .. } | Request::Snapshot { done, .. } => {
                let _ = done.send(result);
            }
            Request::Committed { .. } | Request::Close => {}
        }
    }

    fn commit(&mut self, batch: &[Request]) -> io::Result<()> {
        let txn = self.database.begin_write().map_err(io_error)?;
        for request in batch {
            write(&txn, request).map_err(io_error)?;
        }
        if let Some(record) = &self.committed {
            put(&txn, KEY_COMMITTED, record).map_err(io_error)?;
        }
        txn.commit().map_err(io_error)?;
        self.committed = None;
        Ok(())
    }
}

fn put(txn: &WriteTransaction, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    txn.open_table(META)?.insert(key, value)?;
    Ok(())
}

fn write(txn: &WriteTransaction, request: &Request) -> Result<(), redb::Error> {
    match request {
        Request::Append { records, .. } => {
            let mut log = txn.open_table(LOG)?;
            for (index, record) in records {
                log.insert(index, record.as_slice())?;
            }
        }
        Request::Vote { record, .. } => put(txn, KEY_VOTE, record)?,
        Request::TruncateFrom { index, .. } => {
            txn.open_table(LOG)?.retain_in(*index.., |_, _| false)?;
        }
        Request::Purge { upto, record, .. } => {
            txn.open_table(LOG)?.retain_in(..=*upto, |_, _| false)?;
            put(txn, KEY_PURGED, record)?;
        }
        Request::Snapshot { record, data, .. } => {
            put(txn, KEY_SNAPSHOT, record)?;
            put(txn, KEY_SNAPSHOT_DATA, data)?;
        }
        Request::Committed { .. } | Request::Close => {}
    }
    Ok(())
}

/// A single value, if written.
pub fn read_value(database: &Database, key: &str) -> io::Result<Option<Vec<u8>>> {
    let txn = redb::ReadableDatabase::begin_read(database).map_err(io_error)?;
    let meta = txn.open_table(META).map_err(io_error)?;
    Ok(ReadableTable::get(&meta, key).map_err(io_error)?.map(|value| value.value().to_vec()))
}
