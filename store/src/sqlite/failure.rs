//! What SQLite's result codes mean to the port.

use crate::error::StoreError;

const BUSY: i32 = 5;
const FULL: i32 = 13;
const CONSTRAINT: i32 = 19;
const CONSTRAINT_CHECK: i32 = 275;
const CONSTRAINT_PRIMARY_KEY: i32 = 1555;
const CONSTRAINT_UNIQUE: i32 = 2067;
const IOERR_WRITE: i32 = 778;
const IOERR_SHM_SIZE: i32 = 4874;

/// The extended result code, if SQLite itself refused.
fn code_of(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// A unique key or an id is taken.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(CONSTRAINT_PRIMARY_KEY | CONSTRAINT_UNIQUE))
}

/// A guard of a script found that the write before it changed nothing: the only CHECK in the schema.
pub(super) fn is_guard(error: &sqlx::Error) -> bool {
    code_of(error) == Some(CONSTRAINT_CHECK)
}

/// Maps everything but duplicates, which need a look at what is there.
pub(super) fn failure(error: &sqlx::Error) -> StoreError {
    match code_of(error) {
        // A write past the end of a full device is FULL; a quota, or the WAL index that can't grow, is an IOERR.
        Some(code @ (FULL | IOERR_WRITE | IOERR_SHM_SIZE)) => {
            StoreError::Full(format!("no space for the database (SQLite code {code})"))
        }
        Some(code) if code & 0xff == BUSY => StoreError::Unavailable(format!("the database is locked: {error}")),
        Some(code) if code & 0xff == CONSTRAINT => StoreError::Misuse(format!("refused by the schema: {error}")),
        _ => StoreError::Unavailable(error.to_string()),
    }
}
