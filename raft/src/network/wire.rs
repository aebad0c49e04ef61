//! The bodies of what nodes say to each other: our own records, encoded as on disk (a format byte, then JSON).
//!
//! New fields must be `#[serde(default)]`: nodes of neighbouring releases talk to each other during an upgrade.

use std::io;

use openraft::alias::SnapshotMetaOf;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};

use crate::state::{Command, NodeId, Refusal, Response};
use crate::types::{EntryRecord, LogId, Position, Reads, SnapshotRecord, TypeConfig, VoteRecord};

fn position(at: Option<LogId>) -> Option<Position> {
    at.map(Into::into)
}

fn log_id(at: Option<Position>) -> Option<LogId> {
    at.map(Into::into)
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Append {
    pub vote: VoteRecord,
    prev: Option<Position>,
    commit: Option<Position>,
    entries: Vec<EntryRecord>,
}

impl Append {
    pub fn of(request: &AppendEntriesRequest<TypeConfig>) -> Self {
        Self {
            vote: request.vote.into(),
            prev: position(request.prev_log_id),
            commit: position(request.leader_commit),
            entries: request.entries.iter().map(EntryRecord::of).collect(),
        }
    }

    pub fn into_request(self) -> io::Result<AppendEntriesRequest<TypeConfig>> {
        Ok(AppendEntriesRequest {
            vote: self.vote.into(),
            prev_log_id: log_id(self.prev),
            leader_commit: log_id(self.commit),
            entries: self.entries.into_iter().map(EntryRecord::into_entry).collect::<io::Result<_>>()?,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Appended {
    Success,
    Partial(Option<Position>),
    Conflict,
    HigherVote(VoteRecord),
}

impl From<AppendEntriesResponse<TypeConfig>> for Appended {
    fn from(response: AppendEntriesResponse<TypeConfig>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(at) => Self::Partial(position(at)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<Appended> for AppendEntriesResponse<TypeConfig> {
    fn from(answer: Appended) -> Self {
        match answer {
            Appended::Success => Self::Success,
            Appended::Partial(at) => Self::PartialSuccess(log_id(at)),
            Appended::Conflict => Self::Conflict,
            Appended::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

/// For votes and pre-votes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ballot {
    pub vote: VoteRecord,
    last: Option<Position>,
    /// The leader asked for this election.
    #[serde(default)]
    pub transfer: bool,
}

impl Ballot {
    pub fn of(request: &VoteRequest<TypeConfig>) -> Self {
        Self { vote: request.vote.into(), last: position(request.last_log_id), transfer: request.leadership_transfer }
    }

    pub fn into_request(self) -> VoteRequest<TypeConfig> {
        let mut request = VoteRequest::new(self.vote.into(), log_id(self.last));
        request.leadership_transfer = self.transfer;
        request
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Voted {
    vote: VoteRecord,
    granted: bool,
    last: Option<Position>,
}

impl From<VoteResponse<TypeConfig>> for Voted {
    fn from(response: VoteResponse<TypeConfig>) -> Self {
        Self { vote: response.vote.into(), granted: response.vote_granted, last: position(response.last_log_id) }
    }
}

impl From<Voted> for VoteResponse<TypeConfig> {
    fn from(answer: Voted) -> Self {
        Self { vote: answer.vote.into(), vote_granted: answer.granted, last_log_id: log_id(answer.last) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Handover {
    pub vote: VoteRecord,
    to: NodeId,
    last: Option<Position>,
}

impl Handover {
    pub fn of(request: &TransferLeaderRequest<TypeConfig>) -> Self {
        Self {
            vote: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: position(request.last_log_id().copied()),
        }
    }

    pub fn into_request(self) -> TransferLeaderRequest<TypeConfig> {
        TransferLeaderRequest::new(self.vote.into(), self.to, log_id(self.last))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverAnswer {
    Accepted,
    Declined(String),
}

/// Precedes the bytes of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotHead {
    pub vote: VoteRecord,
    record: SnapshotRecord,
    pub bytes: u64,
}

impl SnapshotHead {
    pub fn of(vote: VoteRecord, meta: &SnapshotMetaOf<TypeConfig>, bytes: usize) -> Self {
        let record = SnapshotRecord::of(meta.last_log_id, &meta.last_membership);
        Self { vote, record, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) }
    }

    pub fn into_meta(self) -> io::Result<SnapshotMetaOf<TypeConfig>> {
        let (last_log_id, last_membership) = self.record.into_parts()?;
        Ok(SnapshotMetaOf::<TypeConfig> { last_log_id, last_membership })
    }
}

/// Answer to append, vote and snapshot calls: with the node's vote where openraft wants it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Installed {
    pub vote: VoteRecord,
}

#[derive(Serialize, Deserialize)]
pub struct Propose {
    pub command: Command,
    pub within_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proposed {
    Applied { response: Response, index: u64 },
    Failed(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Renew {
    pub epoch: u64,
    pub within_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewed {
    Accepted {
        /// In which it counts for duties and sensors too.
        era: Option<u64>,
    },
    Failed(Failure),
}

/// Why the asked node couldn't do it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    NotLeader,
    /// The asking node isn't a member (any more).
    NotMember,
    Refused(Refusal),
    Timeout,
    /// Its storage doesn't work, or it stops.
    Unavailable(String),
}

/// A node about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    pub id: NodeId,
    pub name: String,
    pub address: String,
    pub cluster: String,
    /// Wants to vote.
    pub voter: bool,
    /// How many founders it waits for.
    pub expect: u32,
    /// Has a log: belongs to a group.
    pub initialized: bool,
    #[serde(default)]
    pub reads: Reads,
}

/// Another node as somebody knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    pub id: NodeId,
    pub name: String,
    pub address: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    pub me: Introduction,
    #[serde(default)]
    pub leader: Option<Contact>,
    /// All members, if it belongs to a group.
    #[serde(default)]
    pub members: Vec<Contact>,
}

/// A node without a certificate asks for one.
#[derive(Serialize, Deserialize)]
pub struct Enroll {
    pub token: String,
    pub name: String,
    /// PEM.
    pub request: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enrolled {
    Issued {
        /// The node's certificate and the authority's behind it, PEM.
        chain: String,
        /// The authority's, PEM.
        ca: String,
    },
    Refused(String),
}

/// "I am going to found the group with exactly these; are you in?"
#[derive(Debug, Serialize, Deserialize)]
pub struct Agree {
    pub founders: Vec<NodeId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Agreed {
    pub yes: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joined {
    /// It is a member, with what it told about itself.
    Member,
    NotLeader(Option<Contact>),
    /// Ask again.
    Later(String),
    /// It was a member and was removed.
    Removed,
    /// Asking again doesn't help, unless somebody changes something.
    Refused(String),
}

/// What operators ask for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminCall {
    Status,
    Remove {
        node: String,
    },
    /// To the named voter, or to the best one.
    Transfer {
        to: Option<String>,
    },
    /// Told to a node that is about to be removed: give all rights back.
    Leave,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAnswer {
    Status(Box<crate::Status>),
    Done,
    NotLeader(Option<Contact>),
    Refused(String),
}
