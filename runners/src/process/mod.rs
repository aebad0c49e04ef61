//! Processes of actions: started in a session of their own, watched, bounded, and ended with all their descendants.

pub mod capture;
pub mod cgroup;
mod cgroup_mounts;
pub mod end;
pub mod spawn;
pub mod supervise;

pub use capture::Capture;
pub use cgroup::{Group, GroupLimits, Groups};
pub use end::signal_session;
pub use spawn::{Child, Command, Exit};
pub use supervise::{Finished, Limits, Pipes, Process, supervise};
