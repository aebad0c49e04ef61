//! How a node finds its group: founds one with others, joins one, and keeps what the group knows of it up to date.
//!
//! A node without a log says hello to its seeds and to everybody they know. Somebody who belongs to a group: the node
//! asks that group's leader to take it in. Nobody does, and enough founders see each other: the one with the lowest id
//! asks all of them to agree and founds the group with exactly them ([`decide`]). A node agrees to one founding at a
//! time, so two foundings can't share a node.
//!
//! A node that belongs to a group tells the leader when its address or its versions have changed, and says hello to
//! everybody while there is no leader, so that members find each other after they have all moved.

mod decide;
pub mod enroll;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use rand::Rng;
use tonic::Status;

use self::decide::{Step, decide};
use crate::error::RaftError;
use crate::group::core::Core;
use crate::group::{Cluster, Inner};
use crate::network::peers::{CallError, Peers, answer};
use crate::network::tls::Tls;
use crate::network::wire::{Agree, Agreed, Contact, Hello, Introduction, Joined};
use crate::options::ClusterOptions;
use crate::state::NodeId;
use crate::types::{Peer, Reads};

/// Pause between rounds of a node that looks for its group, and of one that belongs to it.
const SEARCH: Duration = Duration::from_millis(150);
const SETTLED: Duration = Duration::from_millis(1_000);
/// Deadline of a hello and of an agreement.
const CALL: Duration = Duration::from_millis(1_000);
/// Deadline of being taken in: a change of the membership.
const JOIN: Duration = Duration::from_secs(10);
/// How long an agreement to a founding binds. The founder acts within [`CALL`] of asking.
const BOUND: Duration = Duration::from_secs(5);
/// At most one line of this kind per that time.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// What a node remembers while it looks for its group.
#[derive(Default)]
pub struct Joining {
    agreed: Mutex<Option<(NodeId, Instant)>>,
    /// The members as the membership had them last.
    known: Mutex<BTreeMap<NodeId, Contact>>,
    /// This node has been a member: if nobody knows it now, it was removed.
    was_member: AtomicBool,
    /// The leader said that this node was removed.
    removed: AtomicBool,
}

impl Joining {
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Learns addresses from the membership where it has changed; a node's own word may be newer than the rest.
    fn follow(&self, members: Vec<Contact>, peers: &Peers) {
        let mut known = self.known.lock();
        known.retain(|id, _| members.iter().any(|member| member.id == *id));
        for member in members {
            if known.get(&member.id) != Some(&member) {
                peers.learn(&member);
                known.insert(member.id, member);
            }
        }
    }

    /// Agrees to a founding unless another one was agreed to.
    fn agree(&self, founder: NodeId, now: Instant) -> bool {
        let mut agreed = self.agreed.lock();
        match *agreed {
            Some((other, until)) if other != founder && now < until => false,
            _ => {
                *agreed = Some((founder, now + BOUND));
                true
            }
        }
    }
}

fn cluster(inner: &Inner) -> Result<&Cluster, Status> {
    inner.cluster.as_ref().ok_or_else(|| Status::unavailable("this node belongs to no cluster"))
}

/// This node about itself.
pub fn introduction(inner: &Inner, cluster: &Cluster, initialized: bool) -> Introduction {
    Introduction {
        id: inner.identity.node_id,
        name: inner.options.node_name.clone(),
        address: cluster.options.advertise.clone(),
        cluster: inner.identity.cluster_id.clone(),
        voter: cluster.options.voter,
        expect: cluster.options.bootstrap_expect,
        initialized,
        reads: Reads::ours(),
    }
}

/// What the membership should say of a node.
pub fn peer_of(introduction: &Introduction) -> Peer {
    Peer {
        name: introduction.name.clone(),
        address: Some(introduction.address.clone()),
        voter: introduction.voter,
        reads: introduction.reads,
    }
}

/// Answers a hello, and learns from it where a member is now.
pub fn hello(inner: &Inner, other: &Introduction) -> Result<Hello, Status> {
    let cluster = cluster(inner)?;
    let core = inner.live_core().map_err(|error| Status::unavailable(error.to_string()))?;
    learn(cluster, &core, other);
    let members = core.members();
    Ok(Hello { me: introduction(inner, cluster, !members.is_empty()), leader: core.leader_contact(), members })
}

/// A node's own word about its address is newer than the membership's, if it is a member under that name.
fn learn(cluster: &Cluster, core: &Core, other: &Introduction) {
    let contact = Contact { id: other.id, name: other.name.clone(), address: other.address.clone() };
    if core.member_name(other.id).as_ref() == Some(&other.name) {
        cluster.peers.learn(&contact);
        cluster.peers.heard(other.id);
    }
}

/// Answers the question whether this node takes part in a founding.
pub async fn agree(inner: &Inner, founder: NodeId, agree: &Agree) -> Agreed {
    let me = inner.identity.node_id;
    let invited = agree.founders.contains(&me) && agree.founders.iter().min() == Some(&founder);
    let free = match inner.live_core() {
        Ok(core) => matches!(core.raft.is_initialized().await, Ok(false)),
        Err(_) => false,
    };
    let yes = match &inner.cluster {
        Some(cluster) => invited && free && cluster.options.voter && cluster.joining.agree(founder, Instant::now()),
        None => false,
    };
    Agreed { yes }
}

/// Runs as long as the node.
pub async fn run(inner: Arc<Inner>) {
    let Some(cluster) = &inner.cluster else { return };
    let mut said: Option<Instant> = None;
    if let Ok(core) = inner.live_core()
        && matches!(core.raft.is_initialized().await, Ok(true))
    {
        cluster.joining.was_member.store(true, Ordering::Release);
    }
    loop {
        let round = async {
            let core = inner.live_core()?;
            if core.was_member(inner.identity.node_id) {
                cluster.joining.was_member.store(true, Ordering::Release);
            }
            let initialized = core.raft.is_initialized().await.map_err(|error| crate::group::core::fatal(&error))?;
            if initialized && core.member(inner.identity.node_id).is_some() {
                settled(&inner, cluster, &core).await.map(|()| SETTLED)
            } else {
                search(&inner, cluster, &core).await.map(|()| SEARCH)
            }
        };
        let pause = tokio::select! {
            () = inner.cancel.cancelled() => return,
            outcome = round => outcome.unwrap_or_else(|error| {
                if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    tracing::warn!(%error, "the node's place in the group isn't settled");
                    said = Some(Instant::now());
                }
                SEARCH
            }),
        };
        let pause = pause.mul_f64(rand::rng().random_range(0.7..1.3));
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round of a node that belongs to no group yet.
async fn search(inner: &Inner, cluster: &Cluster, core: &Core) -> Result<(), RaftError> {
    if cluster.joining.is_removed() {
        return Ok(());
    }
    // Once a member, and now unknown: see `members::join`.
    let me = introduction(inner, cluster, cluster.joining.was_member.load(Ordering::Acquire));
    let heard = say_hello(cluster, core, &me).await;
    match decide(&me, &heard) {
        Step::Wait => Ok(()),
        Step::Join(contacts) => ask_to_join(inner, cluster, &me, contacts).await,
        Step::Found(founders) => found(inner, cluster, core, &me, founders).await,
    }
}

/// One round of a member: is what the group knows of it still true?
async fn settled(inner: &Inner, cluster: &Cluster, core: &Core) -> Result<(), RaftError> {
    let me = introduction(inner, cluster, cluster.joining.was_member.load(Ordering::Acquire));
    cluster.joining.follow(core.members(), &cluster.peers);
    let leader = core.leader_contact();
    if leader.is_some() && core.member(me.id).as_ref() == Some(&peer_of(&me)) {
        return Ok(());
    }
    // After a restart the leader is whom the log speaks of. It may have moved as this node has, and then only hellos
    // tell where to.
    let heard = say_hello(cluster, core, &me).await;
    // A removed node hears from nobody: it asks.
    let leaders: Vec<Contact> = heard.into_iter().filter_map(|hello| hello.leader).chain(leader).collect();
    if leaders.is_empty() || cluster.joining.is_removed() {
        return Ok(());
    }
    ask_to_join(inner, cluster, &me, leaders).await
}

/// Says hello to all seeds and everybody known; gives the answers.
async fn say_hello(cluster: &Cluster, core: &Core, me: &Introduction) -> Vec<Hello> {
    let seeds = cluster.options.peers.iter().cloned();
    let members = core.members().into_iter().map(|contact| contact.address);
    let addresses: BTreeSet<String> =
        seeds.chain(members).filter(|address| !address.is_empty() && *address != me.address).collect();
    let calls = addresses.iter().map(|address| async move {
        let request = cluster.peers.request(0, me)?;
        let mut client = cluster.peers.client_at(address)?;
        let hello: Hello = answer(client.hello(request), CALL).await?;
        Ok::<_, CallError>(hello)
    });
    let mut heard = Vec::new();
    for (address, answered) in addresses.iter().zip(join_all(calls).await) {
        match answered {
            Ok(hello) if hello.me.id == me.id || cluster.peers.is_cut(hello.me.id) => {}
            Ok(hello) => {
                learn(cluster, core, &hello.me);
                heard.push(hello);
            }
            Err(error) => tracing::debug!(address, %error, "no answer to hello"),
        }
    }
    heard
}

/// The cluster that a node which has no identity yet is about to join, if a seed belongs to one. It may have another
/// name than its authority: a single box that was given company keeps its own.
pub async fn cluster_to_join(options: &ClusterOptions, name: &str, tls: Arc<Tls>) -> Option<String> {
    let peers = &Peers::new(0, tls.name(), String::new(), tls, tokio::runtime::Handle::current());
    let me = &Introduction {
        id: 0,
        name: name.to_owned(),
        address: options.advertise.clone(),
        cluster: String::new(),
        voter: options.voter,
        expect: options.bootstrap_expect,
        initialized: false,
        reads: Reads::ours(),
    };
    let seeds = options.peers.iter().filter(|seed| **seed != options.advertise);
    let calls = seeds.map(|seed| async move {
        let mut client = peers.client_at(seed)?;
        answer::<Hello>(client.hello(peers.request(0, me)?), CALL).await
    });
    let mut heard = join_all(calls).await.into_iter().filter_map(Result::ok);
    heard.find(|hello| hello.me.initialized).map(|hello| hello.me.cluster)
}

async fn ask_to_join(
    inner: &Inner,
    cluster: &Cluster,
    me: &Introduction,
    contacts: Vec<Contact>,
) -> Result<(), RaftError> {
    let mut queue: std::collections::VecDeque<Contact> = contacts.into();
    let mut asked = BTreeSet::new();
    while let Some(contact) = queue.pop_front() {
        if !asked.insert(contact.address.clone()) {
            continue;
        }
        let joined = if contact.id == me.id {
            crate::group::members::join(inner, me).await
        } else {
            // A member's book follows the membership, and what nodes say of themselves: that is newer than a contact.
            if !me.initialized || cluster.peers.contact(contact.id).is_none() {
                cluster.peers.learn(&contact);
            }
            let call = async {
                let request = cluster.peers.request(contact.id, me)?;
                let mut client = cluster.peers.client(contact.id, crate::network::peers::Lane::Bulk)?;
                answer(client.join(request), JOIN).await
            };
            match call.await {
                Ok(joined) => joined,
                Err(error) => {
                    tracing::debug!(node = contact.name, %error, "can't ask to join");
                    continue;
                }
            }
        };
        match joined {
            Joined::Member => return Ok(()),
            Joined::NotLeader(Some(leader)) => queue.push_back(leader),
            Joined::NotLeader(None) => {}
            Joined::Later(reason) => {
                tracing::debug!(reason, "the group takes this node in later");
                return Ok(());
            }
            Joined::Removed => {
                inner.set_removed();
                return Ok(());
            }
            Joined::Refused(reason) => return Err(RaftError::NotAdmitted(reason)),
        }
    }
    Ok(())
}

/// Asks all founders, then makes the group.
async fn found(
    inner: &Inner,
    cluster: &Cluster,
    core: &Core,
    me: &Introduction,
    founders: Vec<Introduction>,
) -> Result<(), RaftError> {
    if !cluster.joining.agree(me.id, Instant::now()) {
        return Ok(());
    }
    let ask = Agree { founders: founders.iter().map(|founder| founder.id).collect() };
    let calls = founders.iter().filter(|founder| founder.id != me.id).map(|founder| async {
        let request = cluster.peers.request(founder.id, &ask)?;
        let mut client = cluster.peers.client_at(&founder.address)?;
        answer::<Agreed>(client.agree(request), CALL).await
    });
    let answers = join_all(calls).await;
    if !answers.iter().all(|answer| matches!(answer, Ok(Agreed { yes: true }))) {
        tracing::info!("not all founders agree yet");
        return Ok(());
    }
    let members: BTreeMap<NodeId, Peer> = founders.iter().map(|founder| (founder.id, peer_of(founder))).collect();
    let names: Vec<&str> = founders.iter().map(|founder| founder.name.as_str()).collect();
    tracing::info!(cluster = inner.identity.cluster_id, members = ?names, "founding the group");
    core.found(members).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_agrees_to_one_founding_at_a_time() {
        let (joining, now) = (Joining::default(), Instant::now());
        assert!(joining.agree(1, now) && joining.agree(1, now));
        assert!(!joining.agree(2, now + BOUND / 2));
        assert!(joining.agree(2, now + BOUND));
    }
}
