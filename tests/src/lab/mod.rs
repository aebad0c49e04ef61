//! A laboratory: three (or more) real nodes in network namespaces of their own, over real servers of their own.
//!
//! * [`Lab`] starts everything and breaks it: kill, pause, cut, restart.
//! * [`Balancer`] is the load balancer in front of the nodes.
//! * [`Network`] makes the namespaces and the cuts.
//! * [`Load`] works on the cluster all the time and notes what was acknowledged; [`checks`] holds the invariants of
//!   DESIGN §8 against that and against what the cluster says in the end.

mod balancer;
pub mod checks;
mod cluster;
mod load;
mod network;

pub use balancer::Balancer;
pub use cluster::{Backend, Lab, LabOptions, Member, PASSWORD};
pub use load::{History, Load, LoadOptions};
pub use network::Network;
