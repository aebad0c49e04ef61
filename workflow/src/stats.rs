//! What an adapter did: for metrics, and for tests that work grows no faster than it should.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Running totals.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    statements: AtomicU64,
    bytes_written: AtomicU64,
    rows_read: AtomicU64,
    bytes_read: AtomicU64,
    retries: AtomicU64,
}

impl Counters {
    pub fn statement(&self) {
        self.statements.fetch_add(1, Relaxed);
    }

    pub fn wrote(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Relaxed);
    }

    pub fn read(&self, rows: usize, bytes: usize) {
        self.rows_read.fetch_add(rows as u64, Relaxed);
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub fn snapshot(&self) -> Stats {
        Stats {
            statements: self.statements.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            rows_read: self.rows_read.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            retries: self.retries.load(Relaxed),
        }
    }
}

/// Totals since the state was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Statements sent to the database.
    pub statements: u64,
    /// Bytes of bodies, names and compressed documents written.
    pub bytes_written: u64,
    pub rows_read: u64,
    /// Bytes of bodies and compressed documents read.
    pub bytes_read: u64,
    /// Calls repeated after a conflict or a lost connection.
    pub retries: u64,
}

impl Stats {
    /// What was done since `earlier`.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            statements: self.statements - earlier.statements,
            bytes_written: self.bytes_written - earlier.bytes_written,
            rows_read: self.rows_read - earlier.rows_read,
            bytes_read: self.bytes_read - earlier.bytes_read,
            retries: self.retries - earlier.retries,
        }
    }
}
