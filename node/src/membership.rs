//! This node's place in the group: its session, its duties.

use anyhow::Result;
use model::{Duty, Lease, Session};
use tokio::sync::watch;

use crate::config::Raft;
use crate::data_dir::DataDir;

/// The node's membership.
#[derive(Debug)]
pub struct Membership {
    session: watch::Sender<Option<Session>>,
    leases: watch::Sender<Option<Lease>>,
}

impl Membership {
    pub async fn open(data: &DataDir, name: &str, config: &Raft) -> Result<Self> {
        let _ = (data, config);
        let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros() as u64;
        let session = watch::Sender::new(Some(Session { node: name.to_owned(), epoch }));
        let valid_until = std::time::Instant::now() + std::time::Duration::from_secs(86_400 * 365);
        let leases = watch::Sender::new(Some(Lease { epoch, valid_until }));
        Ok(Self { session, leases })
    }

    pub fn session(&self) -> watch::Receiver<Option<Session>> {
        self.session.subscribe()
    }

    pub fn duty(&self, duty: Duty) -> watch::Receiver<Option<Lease>> {
        let _ = duty;
        self.leases.subscribe()
    }

    pub async fn check(&self) -> Result<(), String> {
        Ok(())
    }

    pub async fn shutdown(&self) {}
}
