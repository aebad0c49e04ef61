//! Permits of concurrency policies, where the store and the coordinator meet (DESIGN §3, invariant P1).
//!
//! The coordinator says who goes next; the store has the last word. An execution goes on by one commit that puts its
//! [`model::Permit`]s into the store ([`admit`]), and each takes a slot that nobody else has: whatever a coordinator
//! forgot or said twice, no more executions run than there are slots. The commit of a terminal status takes them out
//! again, wherever it is made, and [`Releases`] gives them back to the coordinator. [`reconcile`] brings both sides of
//! a key together again after lost memory or a lost release.

mod admit;
mod reconcile;
mod releases;

use coordinator::CoordinatorError;

use crate::DomainError;

pub use admit::{Admission, admit, adopt, wait_for};
pub use reconcile::{Reconciled, reconcile};
pub use releases::Releases;

/// Which side failed.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    #[error(transparent)]
    Domain(#[from] DomainError),
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

impl From<store::StoreError> for PermitError {
    fn from(error: store::StoreError) -> Self {
        Self::Domain(error.into())
    }
}
