//! The Orquesta engine: definitions, their inspection, and the conductor that decides what runs next
//! (spec/orquesta.md). Pure: no I/O, no clock; expressions come in through [`Expressions`] and [`Analyzer`].
//!
//! [`spec::Document::load`] → [`inspect::inspect`] → [`Program::new`] → [`Conductor::create`] →
//! [`Conductor::next_tasks`] and [`Conductor::task_event`] in turn → [`Conductor::render_output`]. Between any two
//! calls a conductor can be stored ([`State`], or what [`Conductor::take_delta`] says) and loaded again.

pub mod conductor;
#[cfg(feature = "contract")]
pub mod conformance;
pub mod contexts;
pub mod expression;
pub mod graph;
pub mod inspect;
pub mod language;
pub mod machines;
#[cfg(any(test, feature = "contract"))]
pub mod plain;
pub mod spec;
pub mod state;
pub mod status;

pub use conductor::{
    ActionRequest, ConductError, Conductor, Delta, Env, Program, RerunRequest, TaskEvent, TaskRequest,
};
pub use expression::{Expressions, Failure};
pub use inspect::{Analyzer, Inspection, inspect};
pub use spec::{Definition, Document, LoadError};
pub use state::{ErrorEntry, State};
pub use status::Status;
