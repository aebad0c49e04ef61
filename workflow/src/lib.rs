//! Durable state of workflows: the port [`WorkflowState`], its contract suite, and its adapters on PostgreSQL (for a
//! cluster) and SQLite (embedded). The engines (Orquesta, Mistral, ActionChain) stand on it; it knows none of them.
//!
//! # What is kept
//!
//! A workflow is one small [`Head`] and rows beside it, each read and written by itself, so that work per finished
//! item doesn't depend on how many there are (DESIGN §5):
//!
//! | kept | for | spec/orquesta.md |
//! |---|---|---|
//! | [`Head`] | status, counters (active, staged, paused, canceling …) that the status machines ask for | §15, §16 |
//! | [`Task`] | a task instance; its place in the sequence is `seq`; latest by (task, route) | §7.1, §10 |
//! | [`Item`] | an item of a with-items instance; the next that hasn't run is found by status | §11 |
//! | [`Cell`] | anything small by (space, key): staged entries, routes, verdicts of joins, errors, reruns | §8, §9, §19, §21 |
//! | documents | anything large, written once, compressed, in chunks: definition, graph, contexts by index, results | §6 |
//! | [`Timer`] | delays, retries, time-outs of inquiries: due times that lead to a claim | §12, §13, §18 |
//! | [`Message`] | the inbox: completions, and requests to pause, resume, cancel, re-run | §7, §18, §19 |
//! | [`Launch`] | the outbox: actions to be requested, by derived id | §7.1 |
//! | [`Event`] | the log: what was decided, in order, without gaps | W1 |
//!
//! Bodies are texts (JSON) that only the engine understands: its formats grow without a change of tables.
//!
//! # How an engine uses it
//!
//! 1. **Begin.** [`create`](WorkflowState::create) with an id derived from the execution: head, first events, rows and
//!    launches in one transaction. Twice is once.
//! 2. **Something happens.** Whoever completes an execution, or wants it paused, canceled, run again, puts a message
//!    into the inbox: [`deliver`](WorkflowState::deliver), unique by (workflow, source, attempt, kind). A message that
//!    comes again is left out, also after it was used. The deliverer then claims the workflow, or leaves that to others.
//! 3. **Claim.** [`claim`](WorkflowState::claim) locks one workflow, or the next that has messages or due timers, for
//!    one engine on all nodes: [`Claimed::Busy`] means that somebody else has it and will see the message, because
//!    after every commit the holder looks again ([`Committed::more`]).
//! 4. **Decide.** The [`Drain`] gives the head, the first messages in order and the timers that are due. The engine
//!    reads the few rows these concern, and computes events by a pure function; the rows are the fold of the events
//!    (W1; the contract suite's `toy` shows it in small). Contexts are documents that don't change: an engine keeps
//!    those it used in memory by [`DocumentInfo::hash`] and doesn't read them again.
//! 5. **Commit.** One [`Changes`]: the new head, events, rows, messages used, timers set and cleared, launches; all or
//!    nothing, and only at the revision that was claimed. A message is used by one commit, ever.
//! 6. **Launch.** The launches of a commit are held for whoever committed: it requests the executions by their derived
//!    ids (insert if absent), then [`mark_launched`](WorkflowState::mark_launched). If it dies in between, any node gets
//!    them from [`take_launches`](WorkflowState::take_launches) once the time of holding is over; launching again finds
//!    what the first try made.
//!
//! An engine is a loop over steps 3 to 6 that waits for [`Wakes`], for [`next_due`](WorkflowState::next_due), or for
//! some seconds to have passed, whichever comes first: rings may be lost with the node that would have rung. When a
//! claim gave a drain it tries the next one at once. Who launches is the same loop: [`Claimed::Idle`] is the moment to
//! take launches whose holder died.
//!
//! * **An item of ten thousand**: the message of item 4,711 leads to one head, one item row, one event, and, if a slot
//!   is free, one launch. Items are rendered when their turn comes; their rows may be inserted in portions.
//! * **Pause, cancel**: a message as any other; effects on running children are launches of another `kind`.
//! * **Re-run**: a message of the new execution, whose id goes to [`HeadState::execution`]; `finished` becomes `None`.
//! * **Inquiry**: the task's row says `pending`, a timer holds its end, the answer is a message.
//! * **Time**: callers bring it. Nodes whose clocks differ add their offset from [`time`](WorkflowState::time).
//! * **Errors**: [`StateError::Unavailable`] leaves the outcome open; all calls may be repeated. `Stale` and a lost
//!   lock: claim anew. `Misuse`, `TooLarge`, `Corrupt`: fail the workflow with the text.
//! * **Garbage**: [`heads`](WorkflowState::heads) finds the finished and the idle, [`delete`](WorkflowState::delete)
//!   removes one in portions.
//!
//! # Crash points
//!
//! With the feature `failpoints`, `SQUALL_FAILPOINT` names a place of [`failpoint`] where the process dies.

#![allow(clippy::duplicate_mod, reason = "both adapters have the shared SQL, each with its driver's types")]

#[macro_use]
#[path = "common/reader.rs"]
mod reader;

pub mod chain;
pub mod changes;
#[cfg(feature = "contract")]
pub mod contract;
pub mod document;
pub mod engine;
pub mod error;
pub mod failpoint;
pub mod limits;
pub mod orquesta;
pub mod port;
pub mod postgres;
pub mod rows;
pub mod sqlite;
pub mod stats;
pub mod wake;

pub use changes::{Changes, Creation};
pub use document::Document;
pub use error::{OpenError, StateError};
pub use port::{Claim, Claimed, Committed, Created, Deletion, Delivered, Drain, Reader, WorkflowState};
pub use postgres::{PostgresOptions, PostgresState};
pub use rows::*;
pub use sqlite::{SqliteOptions, SqliteState};
pub use stats::Stats;
pub use wake::Wakes;
