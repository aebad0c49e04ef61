//! What the shell runners share: arguments, the command line, and the result (spec/runners.md §5, §6).

pub mod args;
pub mod execute;
pub mod outcome;
pub mod python_text;
pub mod sudo;

pub use execute::{ShellRun, execute};
