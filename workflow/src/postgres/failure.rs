//! What PostgreSQL's errors mean to the port.

use crate::error::StateError;

fn code_of(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// A conflict with another transaction: nothing happened, and the same may succeed at once.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    // Serialization failure, deadlock, lock timeout.
    matches!(code_of(error).as_deref(), Some("40001" | "40P01" | "55P03"))
}

/// The connection or the server went away, or takes nobody now: another connection may do.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::Tls(_) => true,
        other => code_of(other).is_some_and(|code| {
            // 08: connection exceptions, 57P: shut down, killed, starting up. 53300: too many connections.
            // 25P03: idle in transaction for too long. 25006: a standby that was the primary.
            code.starts_with("08") || code.starts_with("57P") || matches!(code.as_str(), "53300" | "25P03" | "25006")
        }),
    }
}

/// The error for the caller. Texts of the server name tables and conditions, never credentials.
pub(super) fn failure(error: &sqlx::Error) -> StateError {
    match code_of(error).as_deref() {
        Some(code @ ("53100" | "53400")) => StateError::Full(format!("PostgreSQL: {error} ({code})")),
        // 57014: statement timeout. 42501, 28: not allowed in; 3D000: no such database. An operator can mend these.
        Some(code) => {
            let known = is_lost(error)
                || is_conflict(error)
                || ["57", "53", "58", "28", "3D", "XX", "42501"].iter().any(|class| code.starts_with(class));
            if known {
                StateError::Unavailable(format!("PostgreSQL: {error} ({code})"))
            } else {
                StateError::Misuse(format!("refused by PostgreSQL: {error} ({code})"))
            }
        }
        None => StateError::Unavailable(format!("PostgreSQL: {error}")),
    }
}

/// How a step failed, and what to do about it.
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
