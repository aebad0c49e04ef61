//! Why the store refused or failed, and whether a retry can help.

use model::Id;

/// An error of the store; see [`StoreError::is_retryable`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The document changed since it was read, or is gone: read it again and decide anew.
    #[error("document {id} of {collection} is not at revision {expected}")]
    Stale { collection: &'static str, id: Id, expected: u64 },
    /// Another document holds the same id or unique key.
    #[error("duplicate {fields} in {collection}")]
    Duplicate {
        collection: &'static str,
        /// The unique fields, joined by a comma; `id` for the id.
        fields: String,
        /// The document that is there.
        existing: Option<Id>,
    },
    /// The batch was made under an older epoch than the store has seen.
    #[error("fence {name} is at epoch {current}, the write has {given}")]
    StaleFence { name: String, given: u64, current: u64 },
    /// The batch, document or blob is over a limit.
    #[error("{what} of {size} {unit} is over the limit of {limit}")]
    TooLarge { what: &'static str, size: usize, limit: usize, unit: &'static str },
    /// No space is left on the device, or the quota is used up; reads still work.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store can't be reached or doesn't answer in time; the outcome of a write is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A stored document can't be read as what it should be.
    #[error("document {id} of {collection} can't be read: {reason}")]
    Corrupt { collection: &'static str, id: Id, reason: String },
    /// The caller asked for a field or index that the collection doesn't declare.
    #[error("{0}")]
    Misuse(String),
}

impl StoreError {
    /// The same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }

    /// Somebody else was first: read again.
    pub const fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}
