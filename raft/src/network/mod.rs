//! Connections between nodes: gRPC over mutual TLS (DESIGN §4).
//!
//! * [`tls`]: certificates, read again when their files change; which node a certificate speaks for.
//! * [`listener`]: accepts connections; [`service`] answers their calls.
//! * [`peers`]: the book of the other nodes and the connections to them, dialed when needed, with back-off.
//! * [`client`]: openraft's network port over them.
//! * [`wire`]: the bodies of calls.
//!
//! A call names its sender, and the sender's certificate must carry that name; votes and entries are taken from the
//! node that they name only. Every call has a deadline.

pub mod client;
pub mod listener;
pub mod peers;
pub mod service;
pub mod tls;
pub mod wire;

/// The generated protocol.
#[allow(clippy::all, clippy::pedantic, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("squall.node.v1");
}

/// A connection to a node, ready for calls.
pub type Client = proto::node_client::NodeClient<tonic::transport::Channel>;

/// Largest message of a call. The largest real ones are batches of log entries.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Size of the parts of a snapshot.
pub const SNAPSHOT_PART: usize = 256 << 10;
/// Largest snapshot that is accepted.
pub const MAX_SNAPSHOT: u64 = 256 << 20;
