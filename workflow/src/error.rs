//! Why the workflow state refused or failed, and whether a retry can help.

use model::Id;

/// An error of the workflow state; see [`StateError::is_retryable`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The workflow changed since it was claimed, or is gone: the lock was lost. Nothing was written; claim it anew.
    #[error("workflow {workflow} is not at revision {expected}")]
    Stale { workflow: Id, expected: u64 },
    /// Something is over a limit of [`limits`](crate::limits).
    #[error("{what} of {size} {unit} is over the limit of {limit}")]
    TooLarge { what: &'static str, size: usize, limit: usize, unit: &'static str },
    /// No space is left for the database; reads still work.
    #[error("the workflow state is full: {0}")]
    Full(String),
    /// It can't be reached or doesn't answer in time; the outcome of a write is unknown.
    #[error("the workflow state is unavailable: {0}")]
    Unavailable(String),
    /// Something stored can't be read as what it should be.
    #[error("the state of workflow {workflow} can't be read: {reason}")]
    Corrupt { workflow: Id, reason: String },
    /// The caller asked for what makes no sense, such as a message used that isn't in the inbox.
    #[error("{0}")]
    Misuse(String),
}

impl StateError {
    /// The same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }

    /// Somebody else was first: claim and decide anew.
    pub const fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}

/// Why a workflow state can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer Squall made the tables.
    #[error(
        "the workflow state has format {found}, and this version of Squall knows formats up to {known}: use a newer one"
    )]
    Newer { found: i64, known: i64 },
    /// The SQLite file belongs to another running process.
    #[error("the database {} is in use by process {process}", path.display())]
    InUse { path: std::path::PathBuf, process: String },
    #[error("{}: {source}", path.display())]
    Io { path: std::path::PathBuf, source: std::io::Error },
    /// An option, named, is wrong. Never holds a password.
    #[error("workflow state: {option}: {reason}")]
    Config { option: &'static str, reason: String },
    #[error(transparent)]
    State(#[from] StateError),
}
