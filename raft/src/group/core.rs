//! The running consensus: openraft over our storage. Replaced by a new one when its storage fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError as OpenraftError};
use openraft::{Config, Raft, ReadPolicy, ServerState, SnapshotPolicy};
use parking_lot::Mutex;

use super::blocking;
use super::deadlines::{Deadlines, Renewal};
use super::witness::Witness;
use crate::error::RaftError;
use crate::identity::{Identity, log_path};
use crate::network::NoPeers;
use crate::options::Options;
use crate::state::{Command, NodeId, Proposal, Refusal, Response};
use crate::storage::{LogStore, Machine, MachineReader, Told, open_database};
use crate::types::{Peer, TypeConfig};

/// Pause before a proposal is repeated to a leader that doesn't accept yet.
const RETRY: Duration = Duration::from_millis(5);

pub struct Core {
    pub raft: Raft<TypeConfig, Machine>,
    pub reader: MachineReader,
    /// The leader's book of sessions' deadlines.
    pub deadlines: Mutex<Deadlines>,
    /// What this node heard of leaders; the network service tells it.
    pub witness: Witness,
    log: LogStore,
    node: NodeId,
}

fn config(options: &Options, identity: &Identity) -> Result<Config, RaftError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: identity.cluster_id.clone(),
        heartbeat_interval: ms(options.heartbeat),
        election_timeout_min: ms(options.election_min),
        election_timeout_max: ms(options.election_max),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_after),
        replication_lag_threshold: options.snapshot_after.saturating_add(options.keep_entries),
        max_in_snapshot_log_to_keep: options.keep_entries,
        purge_batch_size: 64,
        api_channel_size: Some(1_024),
        notification_channel_size: Some(1_024),
        state_machine_channel_size: Some(256),
        enable_pre_vote: Some(true),
        // The state is rebuilt from log and snapshot: a restarted leader must first learn what is committed.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| RaftError::Option { name: "raft timings", reason: error.to_string() })
}

fn fatal(error: &Fatal<TypeConfig>) -> RaftError {
    match error {
        Fatal::StorageError(error) => RaftError::Storage(error.to_string()),
        Fatal::Panicked => RaftError::Storage("the consensus task panicked".to_owned()),
        Fatal::Stopped => RaftError::Storage("the consensus task has stopped".to_owned()),
    }
}

fn not_leader(forward: ForwardToLeader<TypeConfig>) -> RaftError {
    RaftError::NotLeader { leader: forward.leader_node.map(|peer| peer.name) }
}

impl Core {
    /// Opens the log and starts the consensus; at the first start makes a group of one.
    pub async fn start(options: &Options, identity: &Identity, told: Told) -> Result<Self, RaftError> {
        let config = config(options, identity)?;
        let started = Instant::now();
        let (dir, cache, owner) = (options.data_dir.clone(), options.cache_bytes, identity.clone());
        let (log, machine) = blocking(move || {
            let path = log_path(&dir);
            let storage = |error: std::io::Error| RaftError::Storage(format!("{}: {error}", path.display()));
            let database = open_database(&path, cache, &owner)?;
            if !owner.has_log {
                Identity { has_log: true, ..owner }.save(&dir)?;
            }
            let log = LogStore::open(database).map_err(storage)?;
            let machine = Machine::open(log.clone(), told).map_err(storage)?;
            Ok((log, machine))
        })
        .await?;
        let node = identity.node_id;
        let reader = machine.reader();
        let raft = match Raft::new(node, Arc::new(config), NoPeers, log.clone(), machine).await {
            Ok(raft) => raft,
            Err(error) => {
                log.close().await;
                return Err(fatal(&error));
            }
        };
        // No credit yet: the network service must tell the witness first (`options.election_max` then).
        let witness = Witness::new(started, Duration::ZERO);
        let core = Self { raft, reader, deadlines: Mutex::default(), witness, log, node };
        if let Err(error) = core.found_or_lead(options).await {
            core.close().await;
            return Err(error);
        }
        Ok(core)
    }

    /// Forms a group of one from an empty log; a sole voter takes the lead at once instead of at its next tick.
    async fn found_or_lead(&self, options: &Options) -> Result<(), RaftError> {
        if !self.raft.is_initialized().await.map_err(|error| fatal(&error))? {
            let me = Peer { name: options.node_name.clone(), address: None };
            return match self.raft.initialize(BTreeMap::from([(self.node, me)])).await {
                Ok(()) => Ok(()),
                Err(OpenraftError::Fatal(error)) => Err(fatal(&error)),
                Err(error) => Err(RaftError::Storage(error.to_string())),
            };
        }
        let alone = self.raft.voter_ids().eq([self.node]);
        if alone {
            self.raft.trigger().elect(false).await.map_err(|error| fatal(&error))?;
        }
        Ok(())
    }

    /// Since when (by term) this node leads and has applied an entry of its own term, so that it knows everything that
    /// earlier leaders committed. openraft says "leader" earlier than that.
    pub fn leading_term(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let current = metrics.last_applied.is_some_and(|at| at.leader_id.term == metrics.current_term);
        (metrics.state == ServerState::Leader && current).then_some(metrics.current_term)
    }

    /// Whether the consensus task has ended, and why.
    pub fn failure(&self) -> Option<RaftError> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.as_ref().err().map(fatal)
    }

    /// Proposes and waits for the answer of the state machine. Commands can be repeated, so an unsure outcome is.
    /// What not every member could read isn't proposed.
    pub async fn propose(&self, command: Command, within: Duration) -> Result<Response, RaftError> {
        let deadline = Instant::now() + within;
        let agreed = self.reader.with(|applied| applied.state.agreed_version());
        if command.needs() > agreed {
            return Err(RaftError::NotAgreed { needs: command.needs(), agreed });
        }
        loop {
            let write = self.raft.client_write(Proposal::new(command.clone()));
            let error = match tokio::time::timeout_at(deadline.into(), write).await {
                Ok(Ok(written)) => return Ok(written.data),
                Ok(Err(OpenraftError::Fatal(error))) => return Err(fatal(&error)),
                Ok(Err(OpenraftError::APIError(error))) => error,
                Err(_) => return Err(super::timed_out(within)),
            };
            match error {
                // No leader yet, or a new one that may not accept yet.
                ClientWriteError::ForwardToLeader(forward) | ClientWriteError::LogEntryDiscarded(forward)
                    if forward.leader_id.is_none_or(|leader| leader == self.node) =>
                {
                    if Instant::now() + RETRY >= deadline {
                        return Err(not_leader(forward));
                    }
                    tokio::time::sleep(RETRY).await;
                }
                ClientWriteError::ForwardToLeader(forward) | ClientWriteError::LogEntryDiscarded(forward) => {
                    return Err(not_leader(forward));
                }
                other => return Err(RaftError::Storage(other.to_string())),
            }
        }
    }

    /// Renews a session, as the leader: confirms the leadership by a quorum, then moves the deadlines. Writes nothing,
    /// unless the session was suspended and resumes.
    ///
    /// Gives the era in which the renewal counts for duties and sensors too; none if it counts for the session only.
    pub async fn renew(&self, node: NodeId, epoch: u64, within: Duration) -> Result<Option<u64>, RaftError> {
        self.confirm_leadership(within).await?;
        match self.enter(node, epoch)? {
            Renewal::Both { era } => Ok(Some(era)),
            Renewal::Session => Ok(None),
            Renewal::Over => Err(RaftError::Refused(Refusal::SessionEnded)),
            Renewal::Suspended { era } => {
                self.propose(Command::ResumeSession { node, epoch, era }, within).await?;
                match self.enter(node, epoch)? {
                    Renewal::Both { era } => Ok(Some(era)),
                    Renewal::Session | Renewal::Suspended { .. } => Ok(None),
                    Renewal::Over => Err(RaftError::Refused(Refusal::SessionEnded)),
                }
            }
        }
    }

    /// Returns after a quorum has answered a round that began after the call.
    async fn confirm_leadership(&self, within: Duration) -> Result<(), RaftError> {
        let confirm = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match tokio::time::timeout(within, confirm).await {
            Ok(Ok(_)) => {}
            Ok(Err(OpenraftError::Fatal(error))) => return Err(fatal(&error)),
            Ok(Err(OpenraftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                return Err(not_leader(forward));
            }
            Ok(Err(OpenraftError::APIError(_))) => return Err(RaftError::NotLeader { leader: None }),
            Err(_) => return Err(super::timed_out(within)),
        }
        // If this node leads again in a later term, its own acceptances count as another leader's.
        self.witness.heard_append(Instant::now());
        Ok(())
    }

    fn enter(&self, node: NodeId, epoch: u64) -> Result<Renewal, RaftError> {
        self.reader.with(|applied| {
            let session = applied.state.sessions.get(&node).filter(|session| session.epoch == epoch);
            let session = session.ok_or(RaftError::Refused(Refusal::SessionEnded))?;
            Ok(self.deadlines.lock().renew(node, session, Instant::now()))
        })
    }

    /// Ends the consensus and lets go of the file.
    pub async fn close(&self) {
        if self.raft.shutdown().await.is_err() {
            tracing::error!("the consensus task ended by a panic");
        }
        self.log.close().await;
    }
}
