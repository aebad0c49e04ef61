//! What a node knows of the group, for operators and tests.

use std::collections::BTreeMap;

use openraft::async_runtime::WatchReceiver;
use serde::{Deserialize, Serialize};

use super::Inner;
use super::core::Core;
use super::members::REACHABLE;
use crate::state::{ContentState, NodeId, State};
use crate::types::{Peer, Reads};

/// The state of the group as this node sees it; on a node that doesn't lead it may lag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub cluster_id: String,
    /// 16 hex digits.
    pub node_id: String,
    pub node_name: String,
    /// The leader's name, or its id if the name isn't known.
    pub leader: Option<String>,
    pub is_leader: bool,
    pub term: u64,
    pub last_index: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    /// Up to which index the snapshot reaches, and up to which the log was deleted.
    pub snapshot: Option<u64>,
    pub purged: Option<u64>,
    /// Names of the voters, in the order of their ids.
    pub voters: Vec<String>,
    /// All members, learners too.
    pub members: Vec<MemberStatus>,
    pub sessions: Vec<SessionStatus>,
    pub duties: Vec<DutyStatus>,
    pub content: Option<Content>,
    pub sensors: Vec<SensorStatus>,
    /// The version of commands that all members agreed on.
    pub version: u16,
    /// Names and lengths (bytes) of the agreed values.
    pub agreed: BTreeMap<String, usize>,
    /// Keys with a held or wanted permit.
    pub permit_keys: usize,
    /// Equal on all nodes at an equal `applied`.
    pub state_hash: String,
    /// Hashes at some past indexes (the same ones on all nodes), oldest first: to compare replicas (invariant K3).
    pub past_hashes: Vec<(u64, String)>,
    /// Why the group doesn't work on this node, while it doesn't.
    pub trouble: Option<String>,
}

/// A member, as the asked node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberStatus {
    pub name: String,
    /// 16 hex digits.
    pub id: String,
    pub address: Option<String>,
    /// Votes; else it is a learner.
    pub voter: bool,
    /// Was heard from lately. A node that doesn't lead hears of the other followers only now and then.
    pub reachable: bool,
    /// How many entries it lacks, if the asked node leads.
    pub lag: Option<u64>,
    /// Milliseconds since it was last heard from, if ever.
    pub last_contact_ms: Option<u64>,
    /// The highest versions that it reads.
    pub reads: Reads,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    pub node: String,
    pub node_id: String,
    pub epoch: u64,
    pub roles: Vec<String>,
    /// It wasn't renewed lately: its duties and sensors are elsewhere.
    pub suspended: bool,
    /// Its node hands over what it has, to stop.
    pub draining: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorStatus {
    pub sensor: String,
    pub epoch: u64,
    /// The owner's name.
    pub node: Option<String>,
    /// The owner is to stop it.
    pub moves: bool,
    /// Names of the nodes that alone may run it; any may if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned_to: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyStatus {
    pub duty: model::Duty,
    pub epoch: u64,
    /// The holder's name.
    pub holder: Option<String>,
    pub handing_to: Option<String>,
}

/// A content revision and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub revision: u64,
    pub hash: String,
}

impl Content {
    pub(super) fn current(state: &ContentState) -> Option<Self> {
        (state.revision > 0).then(|| Self { revision: state.revision, hash: state.hash().to_owned() })
    }
}

fn hex(node: NodeId) -> String {
    format!("{node:016x}")
}

fn name(state: &State, node: NodeId) -> String {
    state.sessions.get(&node).map_or_else(|| hex(node), |session| session.name.clone())
}

fn fill(status: &mut Status, state: &State) {
    let session = |(&node, session): (&NodeId, &crate::state::SessionState)| SessionStatus {
        node: session.name.clone(),
        node_id: hex(node),
        epoch: session.epoch,
        roles: session.roles.iter().cloned().collect(),
        suspended: session.suspended,
        draining: session.draining,
    };
    status.sessions = state.sessions.iter().map(session).collect();
    let duty = |(&duty, held): (&model::Duty, &crate::state::DutyState)| DutyStatus {
        duty,
        epoch: held.epoch,
        holder: held.holder.map(|holder| name(state, holder.node)),
        handing_to: held.wanted_by.map(|node| name(state, node)),
    };
    status.duties = state.duties.iter().map(duty).collect();
    let sensor = |(sensor, held): (&String, &crate::state::SensorState)| SensorStatus {
        sensor: sensor.clone(),
        epoch: held.epoch,
        node: held.holder.map(|holder| name(state, holder.node)),
        moves: held.moves || held.unwanted,
        pinned_to: held.nodes.iter().cloned().collect(),
    };
    status.sensors = state.sensors.iter().map(sensor).collect();
    status.version = state.agreed_version();
    status.agreed = state.agreed.iter().map(|(name, value)| (name.clone(), value.len())).collect();
    status.content = Content::current(&state.content);
    status.permit_keys = state.permits.len() + state.keys.len();
    status.state_hash = state.hash();
}

pub fn status(inner: &Inner) -> Status {
    let mut status = Status {
        cluster_id: inner.identity.cluster_id.clone(),
        node_id: inner.identity.node_hex(),
        node_name: inner.options.node_name.clone(),
        trouble: inner.trouble.lock().clone(),
        ..Status::default()
    };
    let Some(core) = inner.core.read().clone() else { return status };
    let metrics = core.raft.metrics().borrow_watched().clone();
    let members = metrics.membership_config.membership();
    let member = |id: NodeId| members.get_node(&id).map_or_else(|| hex(id), |peer| peer.name.clone());
    status.leader = metrics.current_leader.map(member);
    status.is_leader = core.leading_term().is_some();
    status.term = metrics.current_term;
    status.last_index = metrics.last_log_index;
    status.committed = metrics.local_committed.map(|id| id.index);
    status.purged = metrics.purged.map(|id| id.index);
    status.voters = members.voter_ids().map(member).collect();
    status.members = members_of(inner, &core);
    core.reader.with(|applied| {
        // From the same moment as the hash.
        status.applied = applied.last.map(|id| id.index);
        status.snapshot = applied.snapshot;
        status.past_hashes = applied.hashes.iter().cloned().collect();
        fill(&mut status, &applied.state);
    });
    status
}

fn members_of(inner: &Inner, core: &Core) -> Vec<MemberStatus> {
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.membership();
    let last = metrics.last_log_index;
    let member = |(id, peer): (&NodeId, &Peer)| {
        let me = *id == inner.identity.node_id;
        let heard = inner.peers().and_then(|peers| peers.last_heard(*id)).map(|at| at.elapsed());
        let matched = metrics.replication.as_ref().and_then(|all| all.get(id).copied()).flatten();
        let lacks = metrics.replication.as_ref().map(|_| {
            let have = matched.map_or(0, |at| at.index + 1);
            last.map_or(0, |last| last + 1).saturating_sub(have)
        });
        MemberStatus {
            name: peer.name.clone(),
            id: hex(*id),
            address: peer.address.clone(),
            voter: members.voter_ids().any(|voter| voter == *id),
            reachable: me || heard.is_some_and(|since| since < REACHABLE),
            lag: if me { Some(0) } else { lacks },
            last_contact_ms: heard.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            reads: peer.reads,
        }
    };
    members.nodes().map(member).collect()
}
