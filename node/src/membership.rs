//! This node's place in the group: its session, its duties.

use std::time::Duration;

use anyhow::{Context, Result};
use model::{Duty, Lease, Session};
use raft::{Group, Options};
use tokio::sync::watch;

use crate::config::Raft;
use crate::data_dir::DataDir;

/// How long the start waits for the group: a single box has it within milliseconds.
const READY: Duration = Duration::from_secs(30);

/// The node's membership.
pub struct Membership {
    group: Group,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("session", &*self.group.session().borrow()).finish_non_exhaustive()
    }
}

impl Membership {
    /// Opens the group and waits until this node has a session in it.
    pub async fn open(data: &DataDir, name: &str, config: &Raft) -> Result<Self> {
        let mut options = Options::new(data.raft(), name);
        options.heartbeat = config.heartbeat.0;
        options.election_min = config.election_min.0;
        options.election_max = config.election_max.0;
        options.lease = config.lease.0;
        let group = Group::open(options).await.context("can't open the consensus group")?;
        group.wait_ready(READY).await.context("the consensus group isn't ready")?;
        Ok(Self { group })
    }

    pub fn session(&self) -> watch::Receiver<Option<Session>> {
        self.group.session()
    }

    pub fn duty(&self, duty: Duty) -> watch::Receiver<Option<Lease>> {
        self.group.duty(duty)
    }

    /// Sessions that have not ended; none while this node isn't sure of its own.
    pub fn live_sessions(&self) -> Option<Vec<Session>> {
        self.group.live_sessions()
    }

    pub fn check(&self) -> Result<(), String> {
        self.group.check().map_err(|error| error.to_string())
    }

    /// Hands the duties over, ends the session, closes the log.
    pub async fn shutdown(&self) {
        self.group.shutdown().await;
    }
}
