//! Who belongs to the group. Runs on every node and acts on the leader: takes nodes in, makes voters of learners that
//! have caught up, removes nodes. One change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError as OpenraftError};

use super::core::Core;
use super::{Cluster, Inner};
use crate::error::RaftError;
use crate::join::peer_of;
use crate::network::wire::{AdminAnswer, AdminCall, Introduction, Joined};
use crate::state::NodeId;
use crate::types::Peer;

/// Pause between looks for learners to promote.
const LOOK: Duration = Duration::from_millis(300);
/// A learner that lacks at most so many entries has caught up.
const CAUGHT_UP: u64 = 64;
/// A member that was heard from within this time is reachable.
pub const REACHABLE: Duration = Duration::from_secs(2);
/// Deadline of a change.
const CHANGE: Duration = Duration::from_secs(8);

type Change = ChangeMembers<NodeId, Peer>;

/// Makes one change and waits until it is committed.
async fn change(core: &Core, change: Change, retain: bool) -> Result<(), Joined> {
    match tokio::time::timeout(CHANGE, core.raft.change_membership(change, retain)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(OpenraftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            Err(Joined::NotLeader(core.leader_contact()))
        }
        Ok(Err(error)) => Err(Joined::Later(error.to_string())),
        Err(_) => Err(Joined::Later("the change isn't committed yet".to_owned())),
    }
}

/// A node asks to be taken in, or tells what has changed about it.
pub async fn join(inner: &Inner, other: &Introduction) -> Joined {
    let Some(cluster) = &inner.cluster else { return Joined::Refused("this node is a group of one".to_owned()) };
    let Ok(core) = inner.live_core() else { return Joined::Later("this node's log is being opened".to_owned()) };
    if core.leading_term().is_none() {
        let leader = core.leader_contact().filter(|leader| leader.id != inner.identity.node_id);
        return Joined::NotLeader(leader);
    }
    let _one_at_a_time = cluster.changing.lock().await;
    match admit(inner, &core, other).await {
        Ok(()) => Joined::Member,
        Err(answer) => answer,
    }
}

async fn admit(inner: &Inner, core: &Core, other: &Introduction) -> Result<(), Joined> {
    let wanted = peer_of(other);
    match core.member(other.id) {
        Some(known) if known == wanted => return Ok(()),
        Some(known) if known.name != wanted.name => {
            return Err(Joined::Refused(format!("this node is known as '{}'", known.name)));
        }
        Some(_) => {
            tracing::info!(node = other.name, address = other.address, "a member's address or versions have changed");
            return change(core, Change::SetNodes(BTreeMap::from([(other.id, wanted)])), true).await;
        }
        None => {}
    }
    if other.initialized {
        return Err(Joined::Removed);
    }
    if other.cluster != inner.identity.cluster_id {
        return Err(Joined::Refused(format!("the group is that of cluster '{}'", inner.identity.cluster_id)));
    }
    replace_former(core, other).await?;
    tracing::info!(node = other.name, address = other.address, id = format!("{:x}", other.id), "a node joins");
    change(core, Change::AddNodes(BTreeMap::from([(other.id, wanted)])), true).await
}

/// A node of this name that comes with a new id has lost its disk: its former self is removed first.
async fn replace_former(core: &Core, other: &Introduction) -> Result<(), Joined> {
    let former = core.members().into_iter().find(|member| member.name == other.name);
    let Some(former) = former else { return Ok(()) };
    // Alive means: somebody renews its session. A dead one's ends by itself within its lease.
    if core.reader.with(|applied| applied.state.sessions.contains_key(&former.id)) {
        return Err(Joined::Later(format!("the session of the former '{}' is still live", other.name)));
    }
    tracing::info!(
        node = other.name,
        id = format!("{:x}", former.id),
        "the node came back empty; its former self goes"
    );
    remove_id(core, former.id).await
}

async fn remove_id(core: &Core, id: NodeId) -> Result<(), Joined> {
    let voter = core.raft.voter_ids().any(|voter| voter == id);
    if voter {
        if core.raft.voter_ids().count() == 1 {
            return Err(Joined::Refused("the last voter can't be removed".to_owned()));
        }
        // Without `retain` it doesn't stay as a learner either.
        change(core, Change::RemoveVoters(BTreeSet::from([id])), false).await
    } else {
        change(core, Change::RemoveNodes(BTreeSet::from([id])), false).await
    }
}

/// Makes voters of learners, as long as this node leads.
pub async fn run(inner: Arc<Inner>) {
    let Some(cluster) = &inner.cluster else { return };
    loop {
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Ok(core) = inner.live_core() else { continue };
        let Some(id) = promotable(&core, cluster) else { continue };
        let Ok(_one_at_a_time) = cluster.changing.try_lock() else { continue };
        tracing::info!(node = core.member_name(id).unwrap_or_default(), "a learner becomes a voter");
        let promotion = change(&core, Change::AddVoterIds(BTreeSet::from([id])), true);
        let outcome = tokio::select! {
            () = inner.cancel.cancelled() => return,
            outcome = promotion => outcome,
        };
        if let Err(reason) = outcome {
            tracing::warn!(?reason, "the learner isn't a voter yet");
        }
    }
}

/// A learner that wants to vote and can.
fn promotable(core: &Core, cluster: &Cluster) -> Option<NodeId> {
    core.leading_term()?;
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.membership();
    let voters: BTreeSet<NodeId> = members.voter_ids().collect();
    if voters.len() >= usize::try_from(cluster.options.max_voters).unwrap_or(usize::MAX) {
        return None;
    }
    let last = metrics.last_log_index.unwrap_or(0);
    let ready = |id: &NodeId| {
        let matched = metrics.replication.as_ref().and_then(|all| all.get(id).copied()).flatten();
        let heard = cluster.peers.last_heard(*id).is_some_and(|at| at.elapsed() < REACHABLE);
        heard && matched.is_some_and(|at| at.index + CAUGHT_UP >= last)
    };
    let mut learners = members.nodes().filter(|(id, peer)| !voters.contains(*id) && peer.voter);
    learners.find(|(id, _)| ready(id)).map(|(id, _)| *id)
}

/// Answers an operator, here or for another node.
pub async fn admin(inner: &Arc<Inner>, by: &str, call: AdminCall) -> AdminAnswer {
    let _ = by;
    match call {
        AdminCall::Status => AdminAnswer::Status(Box::new(super::status::status(inner))),
        _ => AdminAnswer::Refused("not known".to_owned()),
    }
}

#[allow(dead_code)]
fn unused(_: RaftError) {}
