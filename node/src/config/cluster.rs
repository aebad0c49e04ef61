//! The node's place in a cluster, and what it does there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secret::{self, Secret};
use super::{ConfigError, Span};

/// What a node may do. One that is on its own does it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Authentication, REST API, webhooks and event stream on the addresses of `[listen]`.
    Api,
    /// Rules, scheduling, what follows completions, recovery and garbage collection.
    Scheduler,
    /// Runs actions.
    Runner,
    /// Fires timers when it is this node's turn.
    Timers,
    /// Runs sensors.
    Sensors,
    /// Votes in the consensus group; without it the node follows.
    Raft,
}

impl Role {
    pub const ALL: [Self; 6] = [Self::Api, Self::Scheduler, Self::Runner, Self::Timers, Self::Sensors, Self::Raft];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Scheduler => "scheduler",
            Self::Runner => "runner",
            Self::Timers => "timers",
            Self::Sensors => "sensors",
            Self::Raft => "raft",
        }
    }
}

pub fn all_roles() -> BTreeSet<Role> {
    Role::ALL.into_iter().collect()
}

/// The group of nodes. Without `listen` the node is a group of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Names what belongs together on shared servers.
    pub name: String,
    /// Where the other nodes reach this one (gRPC with mutual TLS).
    pub listen: Option<SocketAddr>,
    /// `host:port` that the others are told; `listen` if none is given.
    pub advertise: Option<String>,
    /// `host:port` of nodes to find the cluster by; this node may be among them.
    pub peers: Vec<String>,
    /// How many voters found the cluster together. The same on all of them; without meaning afterwards.
    pub bootstrap_expect: u32,
    /// The cluster's authority, this node's certificate and key (`squall cluster init-ca`, `squall cluster cert`).
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The authority's key, on nodes that may admit others by token.
    pub ca_key_file: Option<PathBuf>,
    /// Admits a node that has no certificate yet (`squall cluster token`).
    pub join_token: Option<Secret>,
    pub join_token_file: Option<PathBuf>,
    /// Later nodes become voters up to this number.
    pub max_voters: u32,
    /// How long the start waits for one attempt to find the group, before it says so and tries again.
    pub start_timeout: Span,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "squall".to_owned(),
            listen: None,
            advertise: None,
            peers: Vec::new(),
            bootstrap_expect: 1,
            ca_file: None,
            cert_file: None,
            key_file: None,
            ca_key_file: None,
            join_token: None,
            join_token_file: None,
            max_voters: 5,
            start_timeout: Span::secs(30),
        }
    }
}

impl Cluster {
    /// Whether the node is one of several.
    pub const fn is_on(&self) -> bool {
        self.listen.is_some()
    }

    pub fn token(&self) -> Result<Option<String>, ConfigError> {
        secret::given("cluster.join_token", self.join_token.as_ref(), self.join_token_file.as_deref())
    }
}
