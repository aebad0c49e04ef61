//! The running consensus: openraft over our storage. Replaced by a new one when its storage fails.
//!
//! What only the leader can do (proposals, renewals) is sent to it when this node doesn't lead, again and again until
//! the deadline while there is no leader: commands can be repeated without harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError as OpenraftError};
use openraft::{Config, Raft, ReadPolicy, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::watch;

use super::blocking;
use super::deadlines::{Deadlines, Leadership, Renewal};
use super::witness::Witness;
use crate::error::RaftError;
use crate::identity::{Identity, log_path};
use crate::network::client::Network;
use crate::network::peers::{CallError, Lane, Peers, answer};
use crate::network::wire::{Contact, Failure, Propose, Proposed, Renew, Renewed};
use crate::options::Options;
use crate::state::{Command, NodeId, Proposal, Refusal, Response};
use crate::storage::{LogStore, Machine, MachineReader, Told, open_database};
use crate::types::{Peer, Reads, TypeConfig};

/// Pause before a proposal is repeated to a leader that doesn't accept yet.
const RETRY: Duration = Duration::from_millis(5);
/// Longest pause before a call to the leader is repeated, and the longest wait for news of a leader.
const AGAIN: Duration = Duration::from_millis(20);

pub struct Core {
    pub raft: Raft<TypeConfig, Machine>,
    pub reader: MachineReader,
    /// The leader's book of sessions' deadlines.
    pub deadlines: Mutex<Deadlines>,
    /// What this node heard of leaders; the network service tells it.
    pub witness: Witness,
    /// The way to the other members; none in a group of one.
    pub peers: Option<Arc<Peers>>,
    log: LogStore,
    node: NodeId,
    changed: watch::Sender<u64>,
}

/// What a core is made of; the same for every core of a group.
pub struct Parts<'a> {
    pub options: &'a Options,
    pub identity: &'a Identity,
    pub peers: Option<Arc<Peers>>,
    pub told: Told,
}

/// A group of one has nobody to wait for; its clock ticks slowly.
const ALONE: (Duration, Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(2));

fn config(options: &Options, identity: &Identity) -> Result<Config, RaftError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (heartbeat, election_min, election_max) = match options.cluster {
        Some(_) => (options.heartbeat, options.election_min, options.election_max),
        None => ALONE,
    };
    let config = Config {
        cluster_name: identity.cluster_id.clone(),
        heartbeat_interval: ms(heartbeat),
        election_timeout_min: ms(election_min),
        election_timeout_max: ms(election_max),
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

pub fn fatal(error: &Fatal<TypeConfig>) -> RaftError {
    match error {
        Fatal::StorageError(error) => RaftError::Storage(error.to_string()),
        Fatal::Panicked => RaftError::Storage("the consensus task panicked".to_owned()),
        Fatal::Stopped => RaftError::Storage("the consensus task has stopped".to_owned()),
    }
}

fn not_leader(forward: &ForwardToLeader<TypeConfig>) -> RaftError {
    RaftError::NotLeader { leader: forward.leader_node.as_ref().map(|peer| peer.name.clone()) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Failure {
    /// For the node that asked.
    pub fn of(error: RaftError) -> Self {
        match error {
            RaftError::NotLeader { .. } => Self::NotLeader,
            RaftError::Removed => Self::NotMember,
            RaftError::Refused(refusal) => Self::Refused(refusal),
            RaftError::Timeout(_) => Self::Timeout,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// How an attempt to reach the leader ended when it didn't end the matter.
enum Attempt {
    /// Try again after a moment.
    Again,
    /// Try again with the leader that is known meanwhile.
    Elsewhere,
}

impl Core {
    /// Opens the log and starts the consensus; at the first start makes a group of one.
    pub async fn start(parts: Parts<'_>) -> Result<Self, RaftError> {
        let Parts { options, identity, peers, told } = parts;
        let config = config(options, identity)?;
        let started = Instant::now();
        let (dir, cache, owner) = (options.data_dir.clone(), options.cache_bytes, identity.clone());
        let changed = told.changed.clone();
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
        let network = Network(peers.clone());
        let raft = match Raft::new(node, Arc::new(config), network, log.clone(), machine).await {
            Ok(raft) => raft,
            Err(error) => {
                log.close().await;
                return Err(fatal(&error));
            }
        };
        let refuse = options.cluster.as_ref().map_or(Duration::ZERO, |_| options.election_max);
        // Who has an empty log has promised nobody anything, and heard nobody before.
        let empty = matches!(raft.is_initialized().await, Ok(false));
        let started = if empty { started.checked_sub(refuse * 2).unwrap_or(started) } else { started };
        let witness = Witness::new(started, refuse);
        let core = Self { raft, reader, deadlines: Mutex::default(), witness, peers, log, node, changed };
        if let Err(error) = core.found_or_lead(options).await {
            core.close().await;
            return Err(error);
        }
        Ok(core)
    }

    /// Forms a group of one from an empty log; a sole voter takes the lead at once instead of at its next tick.
    async fn found_or_lead(&self, options: &Options) -> Result<(), RaftError> {
        if !self.raft.is_initialized().await.map_err(|error| fatal(&error))? {
            if options.cluster.is_some() {
                // Founded or joined once the other nodes were asked; see `join`.
                return Ok(());
            }
            let me = Peer { name: options.node_name.clone(), ..Peer::default() };
            return self.found(BTreeMap::from([(self.node, me)])).await;
        }
        let alone = self.raft.voter_ids().eq([self.node]);
        if alone {
            self.raft.trigger().elect(false).await.map_err(|error| fatal(&error))?;
        }
        Ok(())
    }

    /// Makes a group of these members, of whom this node is one, from an empty log.
    pub async fn found(&self, members: BTreeMap<NodeId, Peer>) -> Result<(), RaftError> {
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(OpenraftError::Fatal(error)) => Err(fatal(&error)),
            Err(error) => Err(RaftError::Storage(error.to_string())),
        }
    }

    /// Since when (by term) this node leads and has applied an entry of its own term, so that it knows everything that
    /// earlier leaders committed. openraft says "leader" earlier than that.
    pub fn leading_term(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let current = metrics.last_applied.is_some_and(|at| at.leader_id.term == metrics.current_term);
        (metrics.state == ServerState::Leader && current).then_some(metrics.current_term)
    }

    /// This node's term.
    pub fn term(&self) -> u64 {
        self.raft.server_metrics().borrow_watched().vote.leader_id.term
    }

    /// What the book of deadlines needs to know of this node's leadership, if it leads.
    pub fn leadership(&self) -> Option<Leadership> {
        let term = self.leading_term()?;
        self.reader.with(|applied| {
            let voters = applied.members.membership().voter_ids().count();
            let earlier = if applied.term.0 == term { applied.term.1 } else { 0 };
            Some(Leadership { term, credit: self.witness.credit(Instant::now(), term, voters), earlier })
        })
    }

    /// Whether the consensus task has ended, and why.
    pub fn failure(&self) -> Option<RaftError> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.as_ref().err().map(fatal)
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// The leader and where it is.
    pub fn leader_contact(&self) -> Option<Contact> {
        let id = self.leader()?;
        self.members().into_iter().find(|contact| contact.id == id)
    }

    /// All members with an address, from the newest membership known here.
    pub fn members(&self) -> Vec<Contact> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let contact = |(id, peer): (&NodeId, &Peer)| Contact {
            id: *id,
            name: peer.name.clone(),
            address: peer.address.clone().unwrap_or_default(),
        };
        metrics.membership_config.membership().nodes().map(contact).collect()
    }

    /// A member as the newest membership known here has it.
    pub fn member(&self, id: NodeId) -> Option<Peer> {
        self.raft.server_metrics().borrow_watched().membership_config.membership().get_node(&id).cloned()
    }

    pub fn member_name(&self, id: NodeId) -> Option<String> {
        self.member(id).map(|peer| peer.name)
    }

    /// Whether a committed membership names the node: known to be a member once, whatever happened since.
    pub fn was_member(&self, id: NodeId) -> bool {
        self.reader.with(|applied| applied.members.membership().get_node(&id).is_some())
    }

    /// The versions that all members read.
    pub fn min_versions(&self) -> Reads {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        members.nodes().map(|(_, peer)| peer.reads).reduce(Reads::lowest).unwrap_or_else(Reads::ours)
    }

    /// Proposes through the leader, wherever it is, and waits until the answer is applied here too. Commands can be
    /// repeated, so an unsure outcome is. What not every member could read isn't proposed.
    pub async fn propose(&self, command: Command, within: Duration) -> Result<Response, RaftError> {
        let deadline = Instant::now() + within;
        let agreed = self.reader.with(|applied| applied.state.agreed_version());
        if command.needs() > agreed {
            return Err(RaftError::NotAgreed { needs: command.needs(), agreed });
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let leader = self.leader();
            let outcome = match (&self.peers, leader) {
                (Some(peers), Some(leader)) if leader != self.node => {
                    self.propose_there(peers, leader, &command, left).await
                }
                _ => match self.propose_here(command.clone(), left).await {
                    Ok((response, _)) => return Ok(response),
                    Err(RaftError::NotLeader { .. }) => Err(Attempt::Again),
                    Err(error) => return Err(error),
                },
            };
            match outcome {
                Ok(Ok((response, index))) => {
                    self.wait_applied(index, deadline).await?;
                    return Ok(response);
                }
                Ok(Err(error)) => return Err(error),
                Err(attempt) => self.breathe(attempt, leader, deadline, within).await?,
            }
        }
    }

    /// Waits a moment before the leader is asked again.
    async fn breathe(
        &self,
        attempt: Attempt,
        tried: Option<NodeId>,
        deadline: Instant,
        within: Duration,
    ) -> Result<(), RaftError> {
        let now = Instant::now();
        if now >= deadline {
            let leader = self.leader_contact().map(|contact| contact.name);
            // With a leader known the outcome is unsure; without one nothing can have happened.
            return Err(if tried.is_some() { super::timed_out(within) } else { RaftError::NotLeader { leader } });
        }
        let pause = match attempt {
            Attempt::Elsewhere => return Ok(()),
            Attempt::Again if tried == Some(self.node) => RETRY,
            Attempt::Again => rand::rng().random_range(RETRY..AGAIN),
        };
        let pause = pause.min(deadline.saturating_duration_since(now));
        let mut metrics = self.raft.server_metrics();
        // A new leader ends the pause.
        metrics.borrow_and_update();
        if metrics.borrow_watched().current_leader == tried {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = metrics.changed() => {}
            }
        }
        Ok(())
    }

    /// Proposes as the leader; gives the response and the index at which it was applied.
    pub async fn propose_here(&self, command: Command, within: Duration) -> Result<(Response, u64), RaftError> {
        let deadline = Instant::now() + within;
        loop {
            let write = self.raft.client_write(Proposal::new(command.clone()));
            let error = match tokio::time::timeout_at(deadline.into(), write).await {
                Ok(Ok(written)) => return Ok((written.data, written.log_id.index)),
                Ok(Err(OpenraftError::Fatal(error))) => return Err(fatal(&error)),
                Ok(Err(OpenraftError::APIError(error))) => error,
                Err(_) => return Err(super::timed_out(within)),
            };
            match error {
                // We lead, but may not accept yet.
                ClientWriteError::ForwardToLeader(forward) | ClientWriteError::LogEntryDiscarded(forward)
                    if forward.leader_id == Some(self.node)
                        || (forward.leader_id.is_none() && (self.leads() || self.peers.is_none())) =>
                {
                    if Instant::now() + RETRY >= deadline {
                        return Err(not_leader(&forward));
                    }
                    tokio::time::sleep(RETRY).await;
                }
                ClientWriteError::ForwardToLeader(forward) | ClientWriteError::LogEntryDiscarded(forward) => {
                    return Err(not_leader(&forward));
                }
                other => return Err(RaftError::Storage(other.to_string())),
            }
        }
    }

    /// Whether openraft calls this node the leader; it may not be able to commit anything.
    fn leads(&self) -> bool {
        self.leader() == Some(self.node)
    }

    /// Proposes by a call to the leader.
    async fn propose_there(
        &self,
        peers: &Peers,
        leader: NodeId,
        command: &Command,
        within: Duration,
    ) -> Result<Result<(Response, u64), RaftError>, Attempt> {
        let body = Propose { command: command.clone(), within_ms: millis(within) };
        let answered =
            self.ask(peers, leader, &body, within, |mut client, request| async move { client.propose(request).await });
        match answered.await? {
            Proposed::Applied { response, index } => Ok(Ok((response, index))),
            Proposed::Failed(failure) => self.failed(failure, within).map(Err),
        }
    }

    /// Calls the leader; gives up as soon as another one is known.
    async fn ask<B, A, F, Fut>(
        &self,
        peers: &Peers,
        leader: NodeId,
        body: &B,
        within: Duration,
        call: F,
    ) -> Result<A, Attempt>
    where
        B: serde::Serialize,
        A: serde::de::DeserializeOwned,
        F: FnOnce(crate::network::Client, crate::network::proto::Request) -> Fut,
        Fut: Future<Output = Result<tonic::Response<crate::network::proto::Reply>, tonic::Status>>,
    {
        let asked = async {
            let request = peers.request(leader, body)?;
            answer(call(peers.client(leader, Lane::Bulk)?, request), within).await
        };
        let mut metrics = self.raft.server_metrics();
        let deposed = async {
            while metrics.borrow_and_update().current_leader == Some(leader) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        let outcome: Result<A, CallError> = tokio::select! {
            outcome = asked => outcome,
            () = deposed => return Err(Attempt::Elsewhere),
        };
        peers.note(leader, &outcome);
        outcome.map_err(|_| Attempt::Again)
    }

    /// What a failure that the leader told means here.
    fn failed(&self, failure: Failure, within: Duration) -> Result<RaftError, Attempt> {
        match failure {
            Failure::NotLeader | Failure::Unavailable(_) => Err(Attempt::Again),
            Failure::NotMember if self.was_member(self.node) => Ok(RaftError::Removed),
            // Our joining was lost with the former leader; it is asked for again.
            Failure::NotMember => Err(Attempt::Again),
            Failure::Refused(refusal) => Ok(RaftError::Refused(refusal)),
            Failure::Timeout => Ok(super::timed_out(within)),
        }
    }

    /// Waits until this node has applied up to `index`, so that callers see what they did.
    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), RaftError> {
        let mut changed = self.changed.subscribe();
        let began = Instant::now();
        loop {
            changed.borrow_and_update();
            if self.reader.with(|applied| applied.last.is_some_and(|last| last.index >= index)) {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline.into(), changed.changed()).await.is_err() {
                return Err(super::timed_out(began.elapsed()));
            }
        }
    }

    /// Renews a session through the leader, wherever it is.
    ///
    /// Gives the era in which the renewal counts for duties and sensors too; none if it counts for the session only.
    pub async fn renew(&self, node: NodeId, epoch: u64, within: Duration) -> Result<Option<u64>, RaftError> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let leader = self.leader();
            let outcome = match (&self.peers, leader) {
                (Some(peers), Some(leader)) if leader != self.node => {
                    let body = Renew { epoch, within_ms: millis(left) };
                    let asked = self.ask(peers, leader, &body, left, |mut client, request| async move {
                        client.renew(request).await
                    });
                    match asked.await {
                        Ok(Renewed::Accepted { era }) => return Ok(era),
                        Ok(Renewed::Failed(failure)) => self.failed(failure, within),
                        Err(attempt) => Err(attempt),
                    }
                }
                _ => match self.renew_here(node, epoch, left).await {
                    Err(RaftError::NotLeader { .. }) => Err(Attempt::Again),
                    outcome => return outcome,
                },
            };
            match outcome {
                Ok(error) => return Err(error),
                Err(attempt) => self.breathe(attempt, leader, deadline, within).await?,
            }
        }
    }

    /// Renews a session, as the leader: confirms the leadership by a quorum, then moves the deadlines. Writes nothing,
    /// unless the session was suspended and resumes.
    pub async fn renew_here(&self, node: NodeId, epoch: u64, within: Duration) -> Result<Option<u64>, RaftError> {
        self.confirm_leadership(within).await?;
        match self.enter(node, epoch)? {
            Renewal::Both { era } => Ok(Some(era)),
            Renewal::Session => Ok(None),
            Renewal::Over => Err(RaftError::Refused(Refusal::SessionEnded)),
            Renewal::Suspended { era } => {
                self.propose_here(Command::ResumeSession { node, epoch, era }, within).await?;
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
                return Err(not_leader(&forward));
            }
            Ok(Err(OpenraftError::APIError(_))) => return Err(RaftError::NotLeader { leader: None }),
            Err(_) => return Err(super::timed_out(within)),
        }
        if let Some(term) = self.leading_term() {
            self.witness.confirmed(term, Instant::now());
        }
        Ok(())
    }

    fn enter(&self, node: NodeId, epoch: u64) -> Result<Renewal, RaftError> {
        let lead = self.leadership().ok_or(RaftError::NotLeader { leader: None })?;
        self.reader.with(|applied| {
            let session = applied.state.sessions.get(&node).filter(|session| session.epoch == epoch);
            let session = session.ok_or(RaftError::Refused(Refusal::SessionEnded))?;
            Ok(self.deadlines.lock().renew(lead, node, session, Instant::now()))
        })
    }

    /// As the leader, makes another voter the leader: the named one, or the one with the longest log. Waits until this
    /// node leads no more; true then, false if there is nobody to take over or nobody did in time.
    pub async fn give_up_lead(&self, to: Option<NodeId>, within: Duration) -> Result<bool, RaftError> {
        if !self.leads() {
            return Ok(true);
        }
        let best = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let members = metrics.membership_config.membership();
            let matched = |id: &NodeId| metrics.replication.as_ref().and_then(|all| all.get(id).copied()).flatten();
            let others = members.voter_ids().filter(|id| *id != self.node && to.is_none_or(|to| to == *id));
            // Among equals the one that answered last.
            let heard = |id: &NodeId| self.peers.as_ref().and_then(|peers| peers.last_heard(*id));
            others.max_by_key(|id| (matched(id), heard(id)))
        };
        let Some(best) = best else { return Ok(false) };
        self.raft.trigger().transfer_leader(best).await.map_err(|error| fatal(&error))?;
        let mut metrics = self.raft.server_metrics();
        let gone = async {
            loop {
                let leader = metrics.borrow_and_update().current_leader;
                if leader.is_some_and(|leader| leader != self.node) || metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        Ok(tokio::time::timeout(within, gone).await.is_ok())
    }

    /// Ends the consensus and lets go of the file.
    pub async fn close(&self) {
        if self.raft.shutdown().await.is_err() {
            tracing::error!("the consensus task ended by a panic");
        }
        self.log.close().await;
    }
}
