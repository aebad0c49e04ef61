//! Chains of actions, one after the other (spec/actionchain.md): definitions, templates, and what a chain does next.
//!
//! * [`Definition`] is a chain as its author wrote it.
//! * [`Chain`] is one under way: pure, as the conductor of Orquesta is. The engine (`crate::engine`) keeps it in the
//!   workflow state, so that a chain goes on where it was whatever becomes of its node.

mod definition;
mod job;
mod render;
mod result;
#[cfg(test)]
mod tests;

pub use definition::{Definition, Node};
pub use job::{Begin, Chain, Current, NeedsKeys};
pub use result::{Entry, Error};
