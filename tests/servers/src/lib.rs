//! The real servers that Squall stands on in a cluster, started on private ports for tests and trial clusters.
//!
//! * [`Mongo`], [`Rabbit`], [`Postgres`], [`Redis`], [`ZooKeeper`]: one process each (with its data directory) that can
//!   be stopped, killed, paused and started again under the same address. Dropping one kills it and removes its data.
//! * [`Slapd`]: a directory service, for logins.
//! * [`ReplicaSet`], [`RabbitCluster`]: several of them that form a whole.
//! * [`shared`]: the instances that a whole test run shares, announced by environment variables (`make test` sets
//!   them); every test takes a database, a virtual host or a prefix of its own there.
//! * The binary `servers` keeps such instances running: `servers up --dir D --env-file F`, `servers down --dir D`.
//!
//! Nothing here is part of the product. Calls block: from async code use them in `spawn_blocking`, or don't mind,
//! as tests do.

mod binaries;
mod mongo;
mod ports;
mod postgres;
mod process;
mod rabbit;
mod redis;
pub mod shared;
pub mod slapd;
mod zookeeper;

pub use mongo::{Mongo, ReplicaSet};
pub use ports::{free_port, free_ports};
pub use postgres::Postgres;
pub use process::{Process, private_dir, sweep, wait_for};
pub use rabbit::{Rabbit, RabbitCluster};
pub use redis::Redis;
pub use slapd::Slapd;
pub use zookeeper::ZooKeeper;
