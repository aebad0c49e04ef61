//! What one commit writes: built by the engine, checked here, carried out by the adapter in one transaction.

use model::{Id, Timestamp};

use crate::document::{Document, Packed};
use crate::error::StateError;
use crate::limits::{self, MAX_COMMIT_BYTES, MAX_COMMIT_ROWS, MAX_DOCUMENT_BYTES};
use crate::rows::{Cell, HeadState, Item, Launch, Task, Timer};

/// A change of one workflow. Everything in it takes effect, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// When: the time of its events and of the head's `updated`.
    pub at: Timestamp,
    pub head: HeadState,
    /// Kind and body of events, in order.
    pub events: Vec<(String, String)>,
    /// Inserted, or replaced by place in the sequence.
    pub tasks: Vec<Task>,
    /// Inserted, or replaced by (task, item).
    pub items: Vec<Item>,
    /// Inserted, or replaced by (space, key).
    pub cells: Vec<Cell>,
    /// Space and key of cells to remove.
    pub removed_cells: Vec<(String, String)>,
    /// Messages of the inbox, by their `seq`, that this change uses: they never come again.
    pub used: Vec<u64>,
    /// New entries of the outbox; one whose id is there already stays as it is.
    pub launches: Vec<Launch>,
    /// Set, or set anew by key.
    pub timers: Vec<Timer>,
    /// Keys of timers to remove; also those that fired and aren't set anew.
    pub cleared_timers: Vec<String>,
    /// Put by key; never written again unless put again.
    pub documents: Vec<Document>,
    /// Keys of documents to remove.
    pub removed_documents: Vec<String>,
}

impl Changes {
    /// A change that sets the head and nothing else yet.
    pub const fn new(head: HeadState, at: Timestamp) -> Self {
        Self {
            at,
            head,
            events: Vec::new(),
            tasks: Vec::new(),
            items: Vec::new(),
            cells: Vec::new(),
            removed_cells: Vec::new(),
            used: Vec::new(),
            launches: Vec::new(),
            timers: Vec::new(),
            cleared_timers: Vec::new(),
            documents: Vec::new(),
            removed_documents: Vec::new(),
        }
    }

    pub fn event(&mut self, kind: impl Into<String>, body: impl Into<String>) -> &mut Self {
        self.events.push((kind.into(), body.into()));
        self
    }

    pub fn document(&mut self, key: impl Into<String>, bytes: Vec<u8>) -> &mut Self {
        self.documents.push(Document { key: key.into(), bytes });
        self
    }

    /// Rows that it touches.
    fn rows(&self) -> usize {
        1 + self.events.len()
            + self.tasks.len()
            + self.items.len()
            + self.cells.len()
            + self.removed_cells.len()
            + self.used.len()
            + self.launches.len()
            + self.timers.len()
            + self.cleared_timers.len()
            + self.documents.len()
            + self.removed_documents.len()
    }

    /// Checks the limits, orders rows by their keys (the last of equal keys stays) and packs documents.
    pub(crate) async fn prepare(mut self) -> Result<Prepared, StateError> {
        limits::check("a commit", self.rows(), MAX_COMMIT_ROWS, "rows")?;
        let bytes = self.check_rows()?;
        last_of_each(&mut self.tasks, |task| task.seq);
        last_of_each(&mut self.items, |item| (item.task, item.item));
        last_of_each(&mut self.cells, |cell| (cell.space.clone(), cell.key.clone()));
        last_of_each(&mut self.launches, |launch| launch.id);
        last_of_each(&mut self.timers, |timer| timer.key.clone());
        last_of_each(&mut self.documents, |document| document.key.clone());
        last_of_each(&mut self.used, |seq| *seq);
        // What is set in the same change stays.
        self.cleared_timers.retain(|key| self.timers.iter().all(|timer| timer.key != *key));
        self.removed_cells
            .retain(|(space, key)| self.cells.iter().all(|cell| cell.space != *space || cell.key != *key));
        self.removed_documents.retain(|key| self.documents.iter().all(|document| document.key != *key));
        let mut packed = Vec::with_capacity(self.documents.len());
        for document in std::mem::take(&mut self.documents) {
            packed.push(document.pack().await?);
        }
        let bytes = bytes + packed.iter().map(Packed::stored_bytes).sum::<usize>();
        Ok(Prepared { changes: self, documents: packed, bytes })
    }

    /// Bytes of all rows but documents.
    fn check_rows(&self) -> Result<usize, StateError> {
        let mut bytes = self.head.body.len() + self.head.status.len();
        limits::body("the body of a head", &self.head.body)?;
        limits::name("the status of a workflow", &self.head.status)?;
        limits::no_nul("the body of a head", &self.head.body)?;
        let mut row = |names: [&str; 2], body: &str| -> Result<(), StateError> {
            for name in names {
                limits::key("a name", name)?;
                bytes += name.len();
            }
            bytes += body.len();
            limits::no_nul("a body", body)?;
            limits::body("a body", body)
        };
        for (kind, body) in &self.events {
            row([kind, ""], body)?;
        }
        for task in &self.tasks {
            limits::name("the name of a task", &task.task)?;
            row([&task.task, &task.status], &task.body)?;
        }
        for item in &self.items {
            row([&item.status, ""], &item.body)?;
        }
        for cell in &self.cells {
            row([&cell.space, &cell.key], &cell.body)?;
        }
        for (space, key) in &self.removed_cells {
            row([space, key], "")?;
        }
        for launch in &self.launches {
            row([&launch.kind, ""], &launch.body)?;
        }
        for timer in &self.timers {
            row([&timer.key, ""], &timer.body)?;
        }
        for key in self.cleared_timers.iter().chain(&self.removed_documents) {
            row([key, ""], "")?;
        }
        let mut documents = 0;
        for document in &self.documents {
            row([&document.key, ""], "")?;
            limits::check("a document", document.bytes.len(), MAX_DOCUMENT_BYTES, "bytes")?;
            documents += document.bytes.len();
        }
        limits::check("a commit", bytes + documents, MAX_COMMIT_BYTES, "bytes")?;
        Ok(bytes)
    }
}

/// A change that an adapter can carry out as it is.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// Without documents.
    pub changes: Changes,
    pub documents: Vec<Packed>,
    /// What is written, ids and numbers aside.
    pub bytes: usize,
}

fn last_of_each<T, K: Ord>(rows: &mut Vec<T>, key: impl Fn(&T) -> K) {
    rows.reverse();
    // Stable: of equal keys, the last given now comes first and is the one that stays.
    rows.sort_by_cached_key(&key);
    rows.dedup_by(|later, earlier| key(later) == key(earlier));
}

/// A workflow to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Derived from its cause, so that beginning twice is beginning once.
    pub id: Id,
    pub engine: String,
    pub changes: Changes,
}
