//! Workflow state: the port, its contract suite, and its adapters.

pub mod changes;
#[cfg(feature = "contract")]
pub mod contract;
pub mod document;
pub mod error;
pub mod failpoint;
pub mod limits;
pub mod port;
pub mod postgres;
pub mod rows;
pub mod stats;
pub mod wake;

pub use changes::{Changes, Creation};
pub use document::Document;
pub use error::{OpenError, StateError};
pub use port::{Claim, Claimed, Committed, Created, Deletion, Delivered, Drain, Reader, WorkflowState};
pub use rows::*;
pub use stats::Stats;
pub use wake::Wakes;
