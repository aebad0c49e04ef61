//! What SQLite's result codes mean to the port.

use crate::error::StateError;

const FULL: i32 = 13;
const CONSTRAINT: i32 = 19;
const IOERR_WRITE: i32 = 778;
const IOERR_SHM_SIZE: i32 = 4874;

pub(super) fn failure(error: &sqlx::Error) -> StateError {
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    match code {
        // A write past the end of a full device is FULL; a quota, or the log's index that can't grow, an IOERR.
        Some(code @ (FULL | IOERR_WRITE | IOERR_SHM_SIZE)) => {
            StateError::Full(format!("no space for the database (SQLite code {code})"))
        }
        Some(code) if code & 0xff == CONSTRAINT => StateError::Misuse(format!("refused by the schema: {error}")),
        _ => StateError::Unavailable(format!("SQLite: {error}")),
    }
}

/// How a step failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// From the database.
    Sql(sqlx::Error),
    /// Decided here.
    State(StateError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StateError> for Failed {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<Failed> for StateError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Sql(error) => failure(&error),
            Failed::State(error) => error,
        }
    }
}
