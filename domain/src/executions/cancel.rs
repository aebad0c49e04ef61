//! Cancellation requests (spec/scheduling.md §6.5).

use std::sync::Arc;

use model::{Execution, Id, Versioned};

use crate::{DomainError, Services};

/// What a cancellation request came to.
#[derive(Debug, Clone)]
pub enum Cancellation {
    /// Canceled at once, or canceling because it runs.
    Accepted(Arc<Versioned<Execution>>),
    /// It was canceled before.
    Already(Arc<Versioned<Execution>>),
    /// Its status doesn't allow it.
    Refused(Arc<Versioned<Execution>>),
}

/// Cancels for `user`: running ones become `canceling` and their runner is told, others `canceled` at once.
pub async fn cancel(services: &Services, id: Id, user: &str) -> Result<Cancellation, DomainError> {
    let _ = (services, id, user);
    Err(DomainError::NotFound(String::new()))
}
