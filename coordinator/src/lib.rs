//! The coordination port: permits with fencing tokens (DESIGN §3, spec/scheduling.md §12).
//!
//! A *key* (a concurrency policy, a lock) has at most `limit` permits at a time. A *request* (an execution's id, a
//! caller's random name) asks for one and gets it, waits for it in order of asking, or is told that none is free. A
//! lock is a key with the limit 1.
//!
//! * [`Coordinator`] is the port. Adapters: the consensus group (crate `raft`, the default), Redis
//!   (`coordinator-redis`), ZooKeeper (`coordinator-zookeeper`). All pass the contract suite.
//! * [`KeyState`] is the pure model of one key that adapters may use or must equal; [`LocalCoordinator`] is that model
//!   behind the port, for tests and for a node that is alone.
//! * Permits belong to requests, not to nodes or connections: an execution runs on when the scheduler that asked for
//!   it is gone. What nobody releases is found by [`Coordinator::restore`], which whoever knows the truth (the store)
//!   calls.
//! * A coordinator may lose its memory (`FLUSHALL`, a wiped ensemble). Then [`Coordinator::generation`] changes, and
//!   permits are rebuilt from the store. Whatever a coordinator says, the store's unique (key, slot) of live permits
//!   makes overshoot impossible (invariant P1).

#[cfg(feature = "contract")]
pub mod contract;
pub mod feed;
pub mod local;
pub mod port;
pub mod state;

pub use feed::Feed;
pub use local::LocalCoordinator;

pub use port::{Answer, Ask, Coordinator, CoordinatorError, Grant, Grants, Heard, Holder};
pub use state::KeyState;
