//! Why content was refused.

use domain::DomainError;
use store::StoreError;

/// Texts are those that StackStorm's API answers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ContentError {
    /// The content, or what the caller asks for, is wrong: 400.
    #[error("{0}")]
    Invalid(String),
    /// There is no such pack or file: 404.
    #[error("{0}")]
    NotFound(String),
    /// The store failed.
    #[error(transparent)]
    Domain(DomainError),
}

impl ContentError {
    /// The store was away: the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Domain(DomainError::Store(error)) if error.is_retryable())
    }

    /// Somebody else changed the same resources at the same time: the same call sees what they did.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Domain(DomainError::Conflict { .. } | DomainError::Superseded(_)) => true,
            Self::Domain(DomainError::Store(error)) => {
                matches!(error, StoreError::Stale { .. } | StoreError::Duplicate { .. })
            }
            _ => false,
        }
    }
}

impl From<DomainError> for ContentError {
    fn from(error: DomainError) -> Self {
        match error {
            DomainError::Invalid(text) => Self::Invalid(text),
            DomainError::NotFound(text) => Self::NotFound(text),
            other => Self::Domain(other),
        }
    }
}

impl From<store::StoreError> for ContentError {
    fn from(error: store::StoreError) -> Self {
        DomainError::from(error).into()
    }
}

impl From<model::schema::SchemaError> for ContentError {
    fn from(error: model::schema::SchemaError) -> Self {
        Self::Invalid(error.0)
    }
}
