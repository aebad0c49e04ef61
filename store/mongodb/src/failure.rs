//! What the driver's errors mean.

use mongodb::error::{
    Error, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
    WriteFailure,
};
use store::StoreError;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection string, or what goes with it, is wrong: trying again doesn't help.
    #[error("the connection string: {0}")]
    Uri(String),
    /// A standalone server: there are no transactions and no majority.
    #[error("the server isn't a member of a replica set")]
    NotAReplicaSet,
    /// An index of that name exists with other fields or properties.
    #[error("index {index} of {collection} is not as this release needs it: {reason}")]
    Index {
        /// Collection, with its prefix.
        collection: String,
        /// Name of the index.
        index: String,
        /// The server's words.
        reason: String,
    },
    /// The database was written by a newer release.
    #[error("the database has format {found}, this release knows up to {known}")]
    Format {
        /// What is stored.
        found: i64,
        /// The newest that is understood.
        known: i64,
    },
    /// A collection's declaration can't be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// The same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

pub(crate) const DUPLICATE_KEY: i32 = 11_000;
const WRITE_CONFLICT: i32 = 112;
/// Server codes of a primary that is no longer or not yet one, of a shutdown, and of limits on time.
const PASSING: &[i32] = &[
    6, 7, 43, 50, 64, 89, 91, 112, 133, 134, 136, 189, 202, 211, 244, 246, 251, 262, 290, 317, 358, 9001, 10107, 11600,
    11602, 13388, 13435, 13436,
];
/// No room: OutOfDiskSpace, and the quota.
const FULL: &[i32] = &[14031, 12501];

/// How a failed operation is to be taken.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing took effect; trying again may help.
    Passing(String),
    /// It may have taken effect; trying again may help.
    Open(String),
    /// A unique index refused; its name.
    Duplicate(String),
    /// Final.
    Final(StoreError),
}

/// The server's code of an error, if it is one of the server's.
pub(crate) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(write)) => Some(write.code),
        _ => None,
    }
}

/// The index's name out of `E11000 duplicate key error collection: x index: NAME dup key: {…}`.
pub(crate) fn index_in(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(" index: ")?;
    rest.split_once(" dup key").map(|(name, _)| name.trim())
}

pub(crate) fn classify(error: &Error) -> Failure {
    let text = error.to_string();
    if let ErrorKind::Write(WriteFailure::WriteError(write)) = &*error.kind
        && write.code == DUPLICATE_KEY
    {
        return Failure::Duplicate(index_in(&write.message).unwrap_or_default().to_owned());
    }
    if let ErrorKind::Command(command) = &*error.kind
        && command.code == DUPLICATE_KEY
    {
        return Failure::Duplicate(index_in(&command.message).unwrap_or_default().to_owned());
    }
    if code(error).is_some_and(|code| FULL.contains(&code)) {
        return Failure::Final(StoreError::Full(text));
    }
    if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
        return Failure::Open(text);
    }
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) || code(error) == Some(WRITE_CONFLICT) {
        return Failure::Passing(text);
    }
    match &*error.kind {
        // Never sent.
        ErrorKind::ServerSelection { .. } => Failure::Passing(text),
        ErrorKind::ConnectionPoolCleared { .. } => Failure::Passing(text),
        ErrorKind::Io(_) | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => Failure::Open(text),
        _ if error.contains_label(RETRYABLE_WRITE_ERROR) => Failure::Open(text),
        _ if code(error).is_some_and(|code| PASSING.contains(&code)) => Failure::Open(text),
        _ => Failure::Final(StoreError::Unavailable(text)),
    }
}

/// An error of something that only read, or may be repeated: for callers that don't try again.
pub(crate) fn unavailable(error: &Error) -> StoreError {
    match classify(error) {
        Failure::Final(error) => error,
        Failure::Passing(text) | Failure::Open(text) | Failure::Duplicate(text) => StoreError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_index_is_found() {
        let message = "E11000 duplicate key error collection: squall.x.docs index: u_name dup key: { k_name: \"a index: b dup key\" }";
        assert_eq!(index_in(message), Some("u_name"));
        assert_eq!(index_in("something else"), None);
    }
}
