//! Runs actions: the role that takes executions from the run queue, and the runners that it has.
//!
//! The way of an execution here (spec/runners.md §2, spec/scheduling.md §6):
//! [`RunnerPool`] takes it from `Queue::Run` → claims it under the node's session → renders its final parameters → its
//! [`runner::Runner`] runs it, with live output to the store → the outcome is stored in one compare-and-set.
//!
//! | module | holds |
//! |---|---|
//! | [`pool`] | the role: claims, cancellations, draining, what a lost session means |
//! | [`runner`] | the trait, and what a run is given |
//! | [`registry`] | which runner serves which runner type: **a new runner is a folder here and a line there** |
//! | [`process`] | sessions of processes: start, watch, bound, end |
//! | [`shell`] | arguments, sudo and results that the shell runners share |
//! | [`remote`] | commands and scripts on hosts, over SSH |
//! | [`winrm`] | commands and scripts on Windows hosts |
//! | [`python_script`] | the Python host: warm interpreters that fork |
//! | [`pack_management`] | actions of the pack `packs` that the node does itself |
//! | [`sensors`] | the sensor container: another role |
//! | [`sdk`] | the embedded Python package |
//! | [`host`] | options and what all runs of the node share |

pub mod announcement;
mod chat_result;
pub mod host;
pub mod http_request;
pub mod inquirer;
pub mod live;
pub mod local_shell_cmd;
pub mod local_shell_script;
pub mod noop;
pub mod pack_management;
pub mod pool;
pub mod process;
pub mod python_script;
pub mod registry;
pub mod remote;
pub mod runner;
pub mod sdk;
pub mod sensors;
pub mod shell;
pub mod stop;
pub mod unavailable;
pub mod winrm;

pub use host::{PythonOptions, RunnerOptions};
pub use pool::RunnerPool;
pub use registry::Registry;
pub use sensors::{SensorContainer, SensorOptions, SensorStates};
