//! The consensus group: who is in it, who does which duty, and what all nodes agree on (DESIGN §4).
//!
//! One [`Group`] per node. A single box is a group of one: the same log, the same state machine, the same leases.
//!
//! * [`state`]: the replicated state as a pure machine, `apply(command) -> (response, events)`: sessions, duties,
//!   permits, content revision.
//! * [`storage`]: log, vote and snapshots in one redb file, written by one thread with group commit.
//! * [`group`]: the handle and its tasks: keep a session, publish leases, expire silent sessions, reopen after a
//!   storage failure.
//! * [`coordinator`]: the coordination port (permits) over the group.
//! * [`identity`]: which node of which cluster a data directory belongs to.
//! * `network`: gRPC over mutual TLS between nodes. `join`: how nodes found a group, or find and join one.
//! * [`pki`]: the cluster's own authority, node certificates, join tokens. [`admin`]: what operators ask of a node.
//!
//! A cluster ([`ClusterOptions`]): `squall cluster init-ca` is [`pki::init_ca`], `cert` is [`pki::issue`], `token` is
//! [`pki::mint_token`]; `status`, `remove` and `transfer` are [`admin::status`], [`admin::remove`] and
//! [`admin::transfer`]. Any node may be asked anything: what only the leader can do is sent to it.
//!
//! How a right is held: a node registers a **session** (a log entry; its epoch is higher than any before). The state
//! machine gives duties and sensors to sessions. The node renews by asking the leader, which confirms its leadership and
//! moves the session's deadlines by its own clock; that writes nothing. The node may use its duties and sensors until
//! *when it sent the last accepted renewal + lease − margin*; the leader suspends the session (a log entry; duties and
//! sensors go elsewhere) no earlier than lease after it *accepted* it, and ends it after its longer TTL. So the old
//! holder stops before the next one begins; `group::deadlines` has the argument.
//!
//! openraft and redb appear in no public signature: callers compile without them.

pub mod admin;
pub mod coordinator;
pub mod error;
pub mod group;
pub mod identity;
mod join;
mod network;
pub mod options;
pub mod pki;
pub mod state;
mod storage;
mod types;

pub use coordinator::RaftCoordinator;
pub use error::RaftError;
pub use group::{Content, DutyStatus, Group, MemberStatus, SensorStatus, SessionStatus, Status};
pub use options::{ClusterOptions, Options, TlsFiles};
pub use types::Reads;
