//! One error type for what callers can tell apart; the gateway maps it to HTTP.

use model::{Id, InvalidId};
use store::StoreError;

/// Why a request to the domain failed. The texts are those that StackStorm's API answers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DomainError {
    /// 400: the caller's input is wrong.
    #[error("{0}")]
    Invalid(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 409, with the id of the resource that is there.
    #[error("{text}")]
    Conflict { text: String, existing: Option<Id> },
    /// A concurrent change came first and the step no longer applies; nothing was written.
    #[error("{0}")]
    Superseded(String),
    /// 503 or 500: the store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for DomainError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Duplicate { collection, fields, existing } => Self::Conflict {
                text: format!("Tried to save duplicate unique keys ({collection}: {fields})"),
                existing,
            },
            other => Self::Store(other),
        }
    }
}

impl From<InvalidId> for DomainError {
    fn from(error: InvalidId) -> Self {
        Self::Invalid(error.to_string())
    }
}
