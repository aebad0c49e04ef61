//! Answers the other nodes' calls.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use openraft::alias::SnapshotOf;
use openraft::errors::Fatal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Request, Response, Status, Streaming};

use super::MAX_SNAPSHOT;
use super::listener::Who;
use super::proto::node_server::Node;
use super::proto::{Reply, Request as Envelope, SnapshotPart};
use super::wire::{
    AdminCall, Agree, Append, Appended, Ballot, Enroll, Failure, Handover, HandoverAnswer, Installed, Introduction,
    Propose, Proposed, Renew, Renewed, SnapshotHead, Voted,
};
use crate::group::Inner;
use crate::group::core::Core;
use crate::state::NodeId;
use crate::types::{TypeConfig, decode, encode};

/// Longest pause between two parts of a snapshot.
const PART: Duration = Duration::from_secs(5);
/// Longest that anything asked for by callers may take here.
const LONGEST: Duration = Duration::from_secs(30);

pub struct NodeService(pub Arc<Inner>);

type Answer = Result<Response<Reply>, Status>;

fn reply<T: Serialize>(body: &T) -> Answer {
    let body = encode(body).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(Reply { body }))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    decode(body).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn unreadable(error: io::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

/// A call whose sender was checked.
struct Call {
    from: NodeId,
    body: Vec<u8>,
}

fn speaker(who: Option<&Who>) -> Result<Arc<str>, Status> {
    let who = who.ok_or_else(|| Status::internal("the connection is not known"))?;
    who.name.clone().ok_or_else(|| Status::unauthenticated("a certificate is needed"))
}

impl NodeService {
    /// Checks who calls whom. `member`: the call is between members of one group.
    fn check(&self, who: Option<&Who>, envelope: Envelope, member: bool) -> Result<Call, Status> {
        let certified = speaker(who)?;
        if *certified != *envelope.name {
            return Err(Status::permission_denied(format!(
                "the certificate is that of '{certified}', the call is from '{}'",
                envelope.name
            )));
        }
        let me = &self.0.identity;
        if envelope.to != 0 && envelope.to != me.node_id {
            return Err(Status::failed_precondition(format!("this is node {:x}, not {:x}", me.node_id, envelope.to)));
        }
        if member && envelope.cluster != me.cluster_id {
            return Err(Status::permission_denied(format!("this node belongs to cluster '{}'", me.cluster_id)));
        }
        if let Some(peers) = self.0.peers()
            && envelope.from != 0
        {
            if peers.is_cut(envelope.from) {
                return Err(Status::unavailable("cut off by a test"));
            }
            peers.heard(envelope.from);
        }
        Ok(Call { from: envelope.from, body: envelope.body })
    }

    fn member_call(&self, request: Request<Envelope>) -> Result<(Call, Arc<Core>), Status> {
        let who = request.extensions().get::<Who>().cloned();
        let envelope = request.into_inner();
        let core = self.0.live_core().map_err(fatal)?;
        // One name, one node: the id must be that of the name, as far as the membership tells.
        if let Some(name) = core.member_name(envelope.from)
            && name != envelope.name
        {
            return Err(Status::permission_denied(format!("node {:x} is '{name}'", envelope.from)));
        }
        Ok((self.check(who.as_ref(), envelope, true)?, core))
    }

    fn any_call(&self, request: Request<Envelope>) -> Result<Call, Status> {
        let who = request.extensions().get::<Who>().cloned();
        self.check(who.as_ref(), request.into_inner(), false)
    }
}

/// Just after its start a node doesn't know whether it promised a leader not to vote for others.
fn may_vote(core: &Core, ballot: &Ballot) -> Result<(), Status> {
    if core.witness.may_vote(Instant::now(), ballot.transfer) {
        return Ok(());
    }
    Err(Status::unavailable("this node has just started and doesn't vote yet"))
}

/// A node speaks for itself only.
fn own(call: &Call, node: NodeId) -> Result<(), Status> {
    if call.from == node {
        return Ok(());
    }
    Err(Status::permission_denied(format!("node {:x} speaks for node {node:x}", call.from)))
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn append(&self, request: Request<Envelope>) -> Answer {
        let (call, core) = self.member_call(request)?;
        let append: Append = read(&call.body)?;
        own(&call, append.vote.node)?;
        core.witness.heard_append(Instant::now());
        let response = core.raft.append_entries(append.into_request().map_err(unreadable)?).await.map_err(fatal)?;
        reply(&Appended::from(response))
    }

    async fn vote(&self, request: Request<Envelope>) -> Answer {
        let (call, core) = self.member_call(request)?;
        let ballot: Ballot = read(&call.body)?;
        own(&call, ballot.vote.node)?;
        may_vote(&core, &ballot)?;
        reply(&Voted::from(core.raft.vote(ballot.into_request()).await.map_err(fatal)?))
    }

    async fn pre_vote(&self, request: Request<Envelope>) -> Answer {
        let (call, core) = self.member_call(request)?;
        let ballot: Ballot = read(&call.body)?;
        own(&call, ballot.vote.node)?;
        may_vote(&core, &ballot)?;
        reply(&Voted::from(core.raft.pre_vote(ballot.into_request()).await.map_err(fatal)?))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Answer {
        let who = request.extensions().get::<Who>().cloned();
        let mut parts = request.into_inner();
        let mut next = async || match tokio::time::timeout(PART, parts.next()).await {
            Ok(Some(part)) => part.map(Some),
            Ok(None) => Ok(None),
            Err(_) => Err(Status::deadline_exceeded("the snapshot stopped on the way")),
        };
        let head = next().await?.and_then(|part| part.head);
        let head = head.ok_or_else(|| Status::invalid_argument("a snapshot without its head"))?;
        let call = self.check(who.as_ref(), head, true)?;
        let head: SnapshotHead = read(&call.body)?;
        own(&call, head.vote.node)?;
        self.0.live_core().map_err(fatal)?.witness.heard_append(Instant::now());
        let (vote, bytes) = (head.vote, head.bytes);
        if bytes > MAX_SNAPSHOT {
            return Err(Status::new(Code::InvalidArgument, format!("a snapshot of {bytes} bytes is too large")));
        }
        let mut data = Vec::new();
        while let Some(part) = next().await? {
            data.extend_from_slice(&part.data);
            if data.len() as u64 > bytes {
                break;
            }
        }
        if data.len() as u64 != bytes {
            return Err(Status::invalid_argument("the snapshot has another length than its head says"));
        }
        let meta = head.into_meta().map_err(unreadable)?;
        let core = self.0.live_core().map_err(fatal)?;
        let snapshot = SnapshotOf::<TypeConfig, Vec<u8>> { meta, snapshot: data };
        let installed = core.raft.install_full_snapshot(vote.into(), snapshot).await;
        let installed = installed.map_err(|error: Fatal<TypeConfig>| fatal(error))?;
        reply(&Installed { vote: installed.vote.into() })
    }

    async fn transfer_leader(&self, request: Request<Envelope>) -> Answer {
        let (call, core) = self.member_call(request)?;
        let handover: Handover = read(&call.body)?;
        own(&call, handover.vote.node)?;
        core.witness.heard_transfer(core.term());
        let answer = match core.raft.handle_transfer_leader(handover.into_request()).await.map_err(fatal)? {
            Ok(()) => HandoverAnswer::Accepted,
            Err(error) => HandoverAnswer::Declined(error.to_string()),
        };
        reply(&answer)
    }

    async fn propose(&self, request: Request<Envelope>) -> Answer {
        let (call, core) = self.member_call(request)?;
        if core.member_name(call.from).is_none() {
            let failure = if core.leading_term().is_some() { Failure::NotMember } else { Failure::NotLeader };
            return reply(&Proposed::Failed(failure));
        }
        let propose: Propose = read(&call.body)?;
        let within = Duration::from_millis(propose.within_ms).min(LONGEST);
        reply(&match core.propose_here(propose.command, within).await {
            Ok((response, index)) => Proposed::Applied { response, index },
            Err(error) => Proposed::Failed(Failure::of(error)),
        })
    }

    async fn renew(&self, request: Request<Envelope>) -> Answer {
        let (call, core) = self.member_call(request)?;
        if core.member_name(call.from).is_none() {
            let failure = if core.leading_term().is_some() { Failure::NotMember } else { Failure::NotLeader };
            return reply(&Renewed::Failed(failure));
        }
        let renew: Renew = read(&call.body)?;
        let within = Duration::from_millis(renew.within_ms).min(LONGEST);
        reply(&match core.renew_here(call.from, renew.epoch, within).await {
            Ok(era) => Renewed::Accepted { era },
            Err(error) => Renewed::Failed(Failure::of(error)),
        })
    }

    async fn hello(&self, request: Request<Envelope>) -> Answer {
        let call = self.any_call(request)?;
        let other: Introduction = read(&call.body)?;
        own(&call, other.id)?;
        reply(&crate::join::hello(&self.0, &other)?)
    }

    async fn agree(&self, request: Request<Envelope>) -> Answer {
        let call = self.any_call(request)?;
        let agree: Agree = read(&call.body)?;
        reply(&crate::join::agree(&self.0, call.from, &agree).await)
    }

    async fn join(&self, request: Request<Envelope>) -> Answer {
        let call = self.any_call(request)?;
        let other: Introduction = read(&call.body)?;
        own(&call, other.id)?;
        reply(&crate::group::members::join(&self.0, &other).await)
    }

    async fn admin(&self, request: Request<Envelope>) -> Answer {
        let who = request.extensions().get::<Who>().cloned();
        let by = speaker(who.as_ref())?;
        let envelope = request.into_inner();
        let call: AdminCall = read(&envelope.body)?;
        reply(&crate::group::members::admin(&self.0, &by, call).await)
    }

    async fn enroll(&self, request: Request<Envelope>) -> Answer {
        let enroll: Enroll = read(&request.into_inner().body)?;
        reply(&crate::join::enroll::issue(&self.0, enroll).await)
    }
}
