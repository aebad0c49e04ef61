//! Who belongs to the group. Runs on every node and acts on the leader: takes nodes in, makes voters of learners that
//! have caught up, removes nodes. One change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError as OpenraftError};

use super::core::Core;
use super::{Cluster, Inner};
use crate::error::RaftError;
use crate::join::peer_of;
use crate::network::peers::{Lane, answer};
use crate::network::wire::{AdminAnswer, AdminCall, Introduction, Joined};
use crate::state::{Command, NodeId};
use crate::types::Peer;

/// Pause between looks for learners to promote.
const LOOK: Duration = Duration::from_millis(300);
/// A learner that lacks at most so many entries has caught up.
const CAUGHT_UP: u64 = 64;
/// A member that was heard from within this time is reachable.
pub const REACHABLE: Duration = Duration::from_secs(2);
/// Deadline of a change.
const CHANGE: Duration = Duration::from_secs(8);
/// Deadline of handing the lead over.
const TRANSFER: Duration = Duration::from_secs(2);
/// Deadline of a removed node's word that it has stopped.
const LEAVE: Duration = Duration::from_secs(1);
/// Pause before the leader is asked again.
const AGAIN: Duration = Duration::from_millis(50);

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
    let agreed = core.reader.with(|applied| applied.state.agreed_version());
    if other.reads.command < agreed {
        let reads = other.reads.command;
        return Err(Joined::Refused(format!("it reads commands up to version {reads}, the group writes {agreed}")));
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

/// Answers an operator, who holds the certificate of `by`.
pub async fn admin(inner: &Arc<Inner>, by: &str, call: AdminCall) -> AdminAnswer {
    let Some(cluster) = &inner.cluster else { return AdminAnswer::Refused("this node is a group of one".to_owned()) };
    let core = match inner.live_core() {
        Ok(core) => core,
        Err(error) => return AdminAnswer::Refused(error.to_string()),
    };
    match call {
        AdminCall::Status => AdminAnswer::Status(Box::new(super::status::status(inner))),
        AdminCall::Leave => {
            tracing::warn!(by, "this node was removed from the group");
            inner.set_removed();
            AdminAnswer::Done
        }
        AdminCall::Remove { .. } | AdminCall::Transfer { .. } if core.leading_term().is_none() => {
            AdminAnswer::NotLeader(core.leader_contact().filter(|leader| leader.id != inner.identity.node_id))
        }
        AdminCall::Remove { node } => {
            tracing::info!(by, node, "a node is to be removed");
            let _one_at_a_time = cluster.changing.lock().await;
            remove(inner, cluster, &core, &node).await
        }
        AdminCall::Transfer { to } => {
            tracing::info!(by, to, "the lead is to pass on");
            transfer(&core, to.as_deref()).await
        }
    }
}

async fn transfer(core: &Core, to: Option<&str>) -> AdminAnswer {
    let id = match to {
        Some(name) => match core.members().into_iter().find(|member| member.name == name) {
            Some(member) => Some(member.id),
            None => return AdminAnswer::Refused(format!("'{name}' is not a member")),
        },
        None => None,
    };
    match core.give_up_lead(id, TRANSFER).await {
        Ok(true) => AdminAnswer::Done,
        Ok(false) => AdminAnswer::Refused("no voter took over in time".to_owned()),
        Err(error) => AdminAnswer::Refused(error.to_string()),
    }
}

async fn remove(inner: &Inner, cluster: &Cluster, core: &Core, name: &str) -> AdminAnswer {
    let Some(member) = core.members().into_iter().find(|member| member.name == name) else {
        return AdminAnswer::Refused(format!("'{name}' is not a member"));
    };
    if member.id == inner.identity.node_id {
        // The next leader removes it.
        return match core.give_up_lead(None, TRANSFER).await {
            Ok(true) => AdminAnswer::NotLeader(core.leader_contact()),
            Ok(false) => AdminAnswer::Refused("the last voter can't be removed".to_owned()),
            Err(error) => AdminAnswer::Refused(error.to_string()),
        };
    }
    let session = core.reader.with(|applied| applied.state.sessions.get(&member.id).map(|session| session.epoch));
    match remove_id(core, member.id).await {
        Ok(()) => {}
        Err(Joined::NotLeader(leader)) => return AdminAnswer::NotLeader(leader),
        Err(Joined::Later(reason) | Joined::Refused(reason)) => return AdminAnswer::Refused(reason),
        Err(Joined::Member | Joined::Removed) => {}
    }
    // From here on it can't renew. If it says that it stopped, its rights pass on at once, else with its lease.
    let told = async {
        let request = cluster.peers.request(member.id, &AdminCall::Leave)?;
        let mut client = cluster.peers.client(member.id, Lane::Bulk)?;
        answer::<AdminAnswer>(client.admin(request), LEAVE).await
    };
    if let (Ok(AdminAnswer::Done), Some(epoch)) = (told.await, session) {
        let command = Command::EndSession { node: member.id, epoch };
        if let Err(error) = core.propose(command, CHANGE).await {
            tracing::warn!(%error, node = name, "the removed node's session runs out by itself");
        }
    }
    cluster.peers.keep(|id| core.member(id).is_some());
    AdminAnswer::Done
}

/// Has the leader do something, wherever it is; repeated while there is none, up to a deadline.
pub async fn order(inner: &Arc<Inner>, call: AdminCall) -> Result<(), RaftError> {
    let within = inner.options.request_timeout + CHANGE;
    let deadline = Instant::now() + within;
    let Some(cluster) = &inner.cluster else {
        return Err(RaftError::NotAdmitted("this node is a group of one".to_owned()));
    };
    loop {
        let core = inner.live_core()?;
        let leader = core.leader();
        let answered = if leader == Some(inner.identity.node_id) {
            Some(admin(inner, &inner.options.node_name, call.clone()).await)
        } else if let Some(leader) = leader {
            let told = async {
                let request = cluster.peers.request(leader, &call)?;
                let mut client = cluster.peers.client(leader, Lane::Bulk)?;
                answer::<AdminAnswer>(client.admin(request), CHANGE + LEAVE).await
            };
            told.await.ok()
        } else {
            None
        };
        match answered {
            Some(AdminAnswer::Done) => return Ok(()),
            Some(AdminAnswer::Refused(reason)) => return Err(RaftError::NotAdmitted(reason)),
            Some(AdminAnswer::NotLeader(_) | AdminAnswer::Status(_)) | None => {}
        }
        if Instant::now() >= deadline {
            return Err(super::timed_out(within));
        }
        tokio::time::sleep(AGAIN).await;
    }
}
