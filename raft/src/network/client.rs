//! openraft's network port: consensus calls to one other member.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use rand::Rng;

use super::SNAPSHOT_PART;
use super::peers::{CallError, Lane, Peers, answer};
use super::proto::{Request, SnapshotPart};
use super::wire::{Append, Appended, Ballot, Contact, Handover, HandoverAnswer, Installed, SnapshotHead, Voted};
use crate::state::NodeId;
use crate::types::{Peer, TypeConfig};

/// Deadline of an append with entries: the follower's disk may be slow, and a repeat would make it slower. Heartbeats
/// keep to openraft's shorter one.
const APPEND: Duration = Duration::from_secs(2);
/// Deadline of a whole snapshot.
const SNAPSHOT: Duration = Duration::from_secs(60);
/// Pauses of replication to a member that can't be reached, milliseconds.
const PAUSES: (u64, u64) = (50, 500);

/// Makes connections to members; without peers (a group of one) they lead nowhere.
#[derive(Clone)]
pub struct Network(pub Option<Arc<Peers>>);

/// A connection to one member.
pub struct Connection {
    target: NodeId,
    peers: Option<Arc<Peers>>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Connection {
        if let (Some(peers), Some(address)) = (&self.0, &node.address)
            && peers.contact(target).is_none()
        {
            // Newer addresses than the membership's may be in the book already.
            peers.learn(&Contact { id: target, name: node.name.clone(), address: address.clone() });
        }
        Connection { target, peers: self.0.clone() }
    }
}

fn failed(error: CallError) -> RPCError<TypeConfig> {
    match error {
        // "Unreachable" makes openraft pause; a lost answer may be asked for again at once.
        CallError::Unreachable(_) | CallError::Refused(_) => Unreachable::from_string(error).into(),
        CallError::Timeout(_) => NetworkError::from_string(error).into(),
    }
}

impl Connection {
    fn peers(&self) -> Result<&Arc<Peers>, CallError> {
        self.peers.as_ref().ok_or_else(|| CallError::Unreachable(format!("no transport to node {:x}", self.target)))
    }

    async fn call<B, A, F, Fut>(&self, body: &B, within: Duration, call: F) -> Result<A, CallError>
    where
        B: serde::Serialize,
        A: serde::de::DeserializeOwned,
        F: FnOnce(super::proto::node_client::NodeClient<tonic::transport::Channel>, Request) -> Fut,
        Fut: Future<Output = Result<tonic::Response<super::proto::Reply>, tonic::Status>>,
    {
        let peers = self.peers()?;
        let outcome = async {
            let request = peers.request(self.target, body)?;
            answer(call(peers.client(self.target, Lane::Consensus)?, request), within).await
        }
        .await;
        peers.note(self.target, &outcome);
        outcome
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = Vec<u8>;

    // The default `stream_append` takes a request from its stream before it calls this: openraft's pause lies in that
    // stream, and a transport that dialed first would spin while a member is down.
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let within = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND };
        let body = Append::of(&rpc);
        let call = self.call(&body, within, |mut client, request| async move { client.append(request).await });
        let appended: Appended = call.await.map_err(failed)?;
        Ok(appended.into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Ballot::of(&rpc);
        let call = self.call(&body, option.hard_ttl(), |mut client, request| async move { client.vote(request).await });
        let voted: Voted = call.await.map_err(failed)?;
        Ok(voted.into())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Ballot::of(&rpc);
        let call =
            self.call(&body, option.hard_ttl(), |mut client, request| async move { client.pre_vote(request).await });
        let voted: Voted = call.await.map_err(failed)?;
        Ok(voted.into())
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Vec<u8>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = async {
            let peers = self.peers()?;
            let head = SnapshotHead::of(vote.into(), &snapshot.meta, snapshot.snapshot.len());
            let head = peers.request(self.target, &head)?;
            let mut client = peers.client(self.target, Lane::Bulk)?;
            let parts: Vec<Vec<u8>> = snapshot.snapshot.chunks(SNAPSHOT_PART).map(<[u8]>::to_vec).collect();
            let first = SnapshotPart { head: Some(head), data: Vec::new() };
            let parts = parts.into_iter().map(|data| SnapshotPart { head: None, data });
            let stream = futures::stream::iter(std::iter::once(first).chain(parts));
            let outcome: Result<Installed, CallError> = answer(client.snapshot(stream), SNAPSHOT).await;
            peers.note(self.target, &outcome);
            outcome
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => match sent {
                Ok(installed) => Ok(SnapshotResponse::new(installed.vote.into())),
                Err(error) => Err(failed(error).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Handover::of(&request);
        let call = self
            .call(&body, option.hard_ttl(), |mut client, request| async move { client.transfer_leader(request).await });
        match call.await.map_err(failed)? {
            HandoverAnswer::Accepted => Ok(Ok(())),
            HandoverAnswer::Declined(reason) => Err(NetworkError::from_string(reason).into()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let doubled = |n: u32| PAUSES.0.saturating_mul(1 << n.min(10)).min(PAUSES.1);
        Some(Backoff::new((0..).map(move |n| {
            let pause = doubled(n);
            Duration::from_millis(rand::rng().random_range(pause / 2..=pause))
        })))
    }
}
