//! Settings of a [`Group`](crate::Group) and their limits.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::Duty;

use crate::error::RaftError;
use crate::group::Limits;

/// How a node takes part in the group.
///
/// A follower that hears nothing for `election_max` plus a random time from `election_min` to `election_max` asks the
/// others for their votes. The defaults (spec/ha.md §2 names longer ones to begin with) give a new leader within a
/// second and stay calm on busy machines; `examples/failover.rs` measures both.
#[derive(Debug, Clone)]
pub struct Options {
    /// The group's own directory; holds `identity.json` and `raft.redb`. Made if missing.
    pub data_dir: PathBuf,
    /// The name by which people and [`model::Session::node`] know this node.
    pub node_name: String,
    /// If set, the data directory must belong to this cluster (or be new: then it takes this id).
    pub cluster_id: Option<String>,
    /// What the node does, for information in [`Status`](crate::Status).
    pub roles: BTreeSet<String>,
    /// The duties that this node is willing to hold.
    pub duties: BTreeSet<Duty>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    /// How long a session outlives its last accepted renewal, by the leader's clock: long enough that a busy node
    /// doesn't lose the executions that it runs.
    pub session_ttl: Duration,
    /// How long duties and sensors outlive it: short, so that they soon run elsewhere. At most `session_ttl`.
    pub lease: Duration,
    /// How much earlier than both the holder stops, by its own clock.
    pub margin: Duration,
    /// Deadline of one proposal.
    pub request_timeout: Duration,
    /// A snapshot is made after so many entries …
    pub snapshot_after: u64,
    /// … and so many entries before it are kept in the log.
    pub keep_entries: u64,
    /// redb's page cache, bytes.
    pub cache_bytes: usize,
    /// Whether the node gets a session, and with it duties and sensors, at once; else when [`Group::begin`] is called.
    /// Until then it votes, replicates and can ask the group.
    ///
    /// [`Group::begin`]: crate::Group::begin
    pub begin_at_once: bool,
    /// How to find and be found by other nodes; None: a group of one that nobody can join.
    pub cluster: Option<ClusterOptions>,
}

/// A node's place in a group of several.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Where this node listens for the others.
    pub listen: SocketAddr,
    /// `host:port` by which the others reach it.
    pub advertise: String,
    pub tls: TlsFiles,
    /// A group is founded once so many nodes that want to vote and have no log yet see each other. Must be equal on all.
    pub bootstrap_expect: u32,
    /// `host:port` of nodes to ask; this node may be among them.
    pub peers: Vec<String>,
    /// Whether this node votes; if not it follows as a learner and does everything else.
    pub voter: bool,
    /// More voters than that are not made (by this node, when it leads); the others stay learners.
    pub max_voters: u32,
    /// Lets a node without a certificate ask for one; see [`crate::pki::mint_token`].
    pub join_token: Option<String>,
    /// The authority's key, on nodes that issue certificates for join tokens.
    pub ca_key: Option<PathBuf>,
}

/// PEM files; read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The cluster's authority (or several, while it is being replaced).
    pub ca: PathBuf,
    /// This node's certificate, with intermediate ones behind it. Its common name must be the node's name.
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl ClusterOptions {
    /// A voter of a group of three.
    pub fn new(listen: SocketAddr, advertise: impl Into<String>, tls: TlsFiles, peers: Vec<String>) -> Self {
        Self {
            listen,
            advertise: advertise.into(),
            tls,
            bootstrap_expect: 3,
            peers,
            voter: true,
            max_voters: 5,
            join_token: None,
            ca_key: None,
        }
    }

    fn validate(&self) -> Result<(), RaftError> {
        let bad = |name, reason: &str| Err(RaftError::Option { name, reason: reason.to_owned() });
        let is_address = |text: &str| {
            text.rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
        };
        if !is_address(&self.advertise) {
            return bad("advertise", "must be host:port");
        }
        if let Some(peer) = self.peers.iter().find(|peer| !is_address(peer)) {
            return bad("peers", &format!("'{peer}' isn't host:port"));
        }
        if self.bootstrap_expect == 0 {
            return bad("bootstrap_expect", "must be at least 1");
        }
        if self.max_voters < self.bootstrap_expect {
            return bad("max_voters", "must be at least bootstrap_expect");
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("tls", &self.tls)
            .field("bootstrap_expect", &self.bootstrap_expect)
            .field("peers", &self.peers)
            .field("voter", &self.voter)
            .field("max_voters", &self.max_voters)
            .field("join_token", &self.join_token.as_ref().map(|_| "(secret)"))
            .field("ca_key", &self.ca_key)
            .finish()
    }
}

impl Options {
    pub fn new(data_dir: impl Into<PathBuf>, node_name: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            node_name: node_name.into(),
            cluster_id: None,
            roles: BTreeSet::new(),
            duties: Duty::ALL.into_iter().collect(),
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(500),
            session_ttl: Duration::from_secs(3),
            lease: Duration::from_millis(1_200),
            margin: Duration::from_millis(200),
            request_timeout: Duration::from_secs(5),
            snapshot_after: 2_000,
            keep_entries: 200,
            cache_bytes: 2 << 20,
            begin_at_once: true,
            cluster: None,
        }
    }

    /// Time between renewals: a third of the usable lease, so that two may be lost.
    pub(crate) fn renew_every(&self) -> Duration {
        self.lease.saturating_sub(self.margin) / 3
    }

    /// Session TTL and lease, milliseconds.
    pub(crate) fn limits_ms(&self) -> (u64, u64) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        (ms(self.session_ttl), ms(self.lease))
    }

    /// How long a renewal counts for this node.
    pub(crate) fn limits(&self) -> Limits {
        Limits { session: self.session_ttl.saturating_sub(self.margin), lease: self.lease.saturating_sub(self.margin) }
    }

    pub(crate) fn validate(&self) -> Result<(), RaftError> {
        let bad = |name, reason: &str| Err(RaftError::Option { name, reason: reason.to_owned() });
        if self.node_name.is_empty() || self.node_name.len() > 255 {
            return bad("node_name", "must have 1 to 255 bytes");
        }
        if self.heartbeat < Duration::from_millis(10) {
            return bad("heartbeat", "must be at least 10 ms");
        }
        if self.election_min <= self.heartbeat * 2 {
            return bad("election_min", "must be more than two heartbeats");
        }
        if self.election_max <= self.election_min {
            return bad("election_max", "must be more than election_min");
        }
        if self.lease < self.margin * 2 || self.margin.is_zero() {
            return bad("lease", "must be at least twice the margin, and the margin more than zero");
        }
        if self.session_ttl < self.lease {
            return bad("session_ttl", "must be at least the lease");
        }
        if self.request_timeout.is_zero() {
            return bad("request_timeout", "must be more than zero");
        }
        if self.snapshot_after == 0 {
            return bad("snapshot_after", "must be at least 1");
        }
        if self.cache_bytes < 64 << 10 {
            return bad("cache_bytes", "must be at least 65536");
        }
        self.cluster.as_ref().map_or(Ok(()), ClusterOptions::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_timings_name_the_option() {
        let good = Options::new("x", "n");
        good.validate().unwrap();
        let bad = Options { lease: Duration::from_millis(300), ..good.clone() };
        assert!(bad.validate().unwrap_err().to_string().contains("'lease'"));
        let bad = Options { election_max: good.election_min, ..good };
        assert!(bad.validate().unwrap_err().to_string().contains("'election_max'"));
    }
}
