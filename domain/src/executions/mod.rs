//! The life of an execution (spec/scheduling.md, DESIGN §3).

pub mod cancel;
pub mod follow_up;
pub mod inquiry;
pub mod output;
pub mod request;
pub mod run;

pub use cancel::{Cancellation, ask_workflow, cancel};
pub use output::append_output;
pub use request::{Prepared, Request, Rerun, prepare, request, rerun, submit};
pub use run::{Outcome, claim, finish, hand_over, hold, may_begin_again, release, update};
