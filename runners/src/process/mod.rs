//! Processes of actions: started in a session of their own, watched, bounded, and ended with all their descendants.

pub mod capture;
pub mod end;
pub mod spawn;
pub mod supervise;

pub use capture::Capture;
pub use end::signal_session;
pub use spawn::{Child, Command, Exit};
pub use supervise::{Finished, Limits, Pipes, Process, supervise};
