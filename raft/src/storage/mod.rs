//! Log, vote and snapshots on disk: one redb file, one writer thread, the recent log tail in memory.
//!
//! * [`writer`]: the thread that owns all writes; whatever has queued up goes into one durable commit.
//! * [`log`]: openraft's log port over it; entries are readable as soon as they are queued.
//! * [`machine`]: openraft's state machine port over [`State`](crate::state::State).
//!
//! redb's commits are atomic: after a crash the file is as after some commit, so a torn tail can't be seen. After a
//! failed write the file is taken as lost to this process until it is opened again ([`crate::group`] does that).

mod log;
mod machine;
mod writer;

#[cfg(test)]
mod suite;

use std::io;
use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

pub use log::LogStore;
pub use machine::{Machine, MachineReader, Told};

use crate::error::RaftError;
use crate::identity::Identity;

/// Entries by index.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// Single values by name; see the constants below.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

const KEY_OWNER: &str = "owner";
const KEY_VOTE: &str = "vote";
const KEY_COMMITTED: &str = "committed";
const KEY_PURGED: &str = "purged";
const KEY_SNAPSHOT: &str = "snapshot";
const KEY_SNAPSHOT_DATA: &str = "snapshot-data";

/// redb's many error types, with the OS error kept where there is one.
fn io_error(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Opens or creates the file, and makes sure that it belongs to this node. Blocks.
pub fn open_database(path: &Path, cache_bytes: usize, owner: &Identity) -> Result<Database, RaftError> {
    let storage = |error: io::Error| RaftError::Storage(format!("{}: {error}", path.display()));
    let file = std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
    if file && !owner.has_log {
        // The first start was cut off before anything was promised; a half-made file would not open.
        std::fs::remove_file(path).map_err(storage)?;
    }
    if !file && owner.has_log {
        return Err(RaftError::Identity {
            path: path.to_owned(),
            reason: "the log is missing although this node had one; restore it, or remove identity.json too to \
                     start as a new node"
                .to_owned(),
        });
    }
    let database = redb::Builder::new().set_cache_size(cache_bytes).create(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            RaftError::Storage(format!("{}: in use by another process", path.display()))
        }
        other => storage(io_error(other)),
    })?;
    check_owner(&database, path, owner)?;
    Ok(database)
}

fn check_owner(database: &Database, path: &Path, owner: &Identity) -> Result<(), RaftError> {
    let storage = |error: io::Error| RaftError::Storage(format!("{}: {error}", path.display()));
    let mine = format!("{} {}", owner.cluster_id, owner.node_hex());
    if owner.has_log {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let txn = database.begin_read().map_err(io_error)?;
            let meta = txn.open_table(META).map_err(io_error)?;
            Ok(redb::ReadableTable::get(&meta, KEY_OWNER).map_err(io_error)?.map(|value| value.value().to_vec()))
        };
        let found = read().map_err(storage)?;
        if found.as_deref() != Some(mine.as_bytes()) {
            let reason = "the log belongs to another node or cluster than identity.json says".to_owned();
            return Err(RaftError::Identity { path: path.to_owned(), reason });
        }
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let txn = database.begin_write().map_err(io_error)?;
        txn.open_table(LOG).map_err(io_error)?;
        txn.open_table(META).map_err(io_error)?.insert(KEY_OWNER, mine.as_bytes()).map_err(io_error)?;
        txn.commit().map_err(io_error)
    };
    write().map_err(storage)
}
