//! Definitions: from YAML to what the conductor runs (spec/orquesta.md §1–§4).
//!
//! [`Document::load`] reads the text and brings shorthand forms into their long form; [`Definition::read`] takes what
//! is well-formed from it, so that an inspection can find all faults of a definition at once.

mod definition;
mod inline;
mod load;

pub use definition::{Assignment, Definition, Join, Publication, Retry, Task, Transition, WithItems};
pub use inline::{Pair, split_action, split_pairs};
pub use load::{Document, LoadError};

/// Names that a `do` may use besides tasks.
pub const COMMANDS: [&str; 4] = ["continue", "fail", "noop", "retry"];

#[cfg(test)]
mod tests;
