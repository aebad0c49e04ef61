//! openraft's type parameters, and its values in the forms in which we write them to disk.
//!
//! Our own wire forms keep the disk format independent of openraft's serde output, which may change between its
//! pre-releases.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::alias::{EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, Membership};
use serde::{Deserialize, Serialize};

use crate::state::{COMMAND_VERSION, NodeId, Proposal, Response, SNAPSHOT_FORMAT};

/// A member as the others find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    /// `host:port` of its node-to-node listener; none in a group of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Becomes a voter when it has caught up and there is room.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub voter: bool,
    #[serde(default, skip_serializing_if = "Reads::is_first")]
    pub reads: Reads,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_yes(value: &bool) -> bool {
    *value
}

impl Default for Peer {
    fn default() -> Self {
        Self { name: String::new(), address: None, voter: true, reads: Reads::default() }
    }
}

/// The highest versions that a node's release can read: nobody may write newer ones while it is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    pub command: u16,
    pub snapshot: u16,
    pub wire: u16,
}

/// The version of what nodes say to each other.
pub const WIRE_VERSION: u16 = 1;

impl Default for Reads {
    /// Those of the first release, which didn't tell.
    fn default() -> Self {
        Self { command: 1, snapshot: 1, wire: 1 }
    }
}

impl Reads {
    /// This release's.
    pub fn ours() -> Self {
        Self { command: COMMAND_VERSION, snapshot: SNAPSHOT_FORMAT, wire: WIRE_VERSION }
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn is_first(&self) -> bool {
        *self == Self::default()
    }

    /// What both can read.
    pub fn lowest(self, other: Self) -> Self {
        Self {
            command: self.command.min(other.command),
            snapshot: self.snapshot.min(other.snapshot),
            wire: self.wire.min(other.wire),
        }
    }
}

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Proposal,
        R = Response,
        NodeId = u64,
        Node = Peer,
);

pub type LogId = LogIdOf<TypeConfig>;
pub type Vote = VoteOf<TypeConfig>;
pub type Entry = EntryOf<TypeConfig>;
pub type StoredMembership = StoredMembershipOf<TypeConfig>;

/// A log position on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub term: u64,
    pub node: NodeId,
    pub index: u64,
}

impl From<LogId> for Position {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<Position> for LogId {
    fn from(at: Position) -> Self {
        Self { leader_id: LeaderId { term: at.term, node_id: at.node }, index: at.index }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct VoteRecord {
    term: u64,
    /// Who leads or wants to.
    pub node: NodeId,
    committed: bool,
}

impl From<Vote> for VoteRecord {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        Self { leader_id: LeaderId { term: record.term, node_id: record.node }, committed: record.committed }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Members {
    configs: Vec<BTreeSet<NodeId>>,
    nodes: BTreeMap<NodeId, Peer>,
}

impl Members {
    fn of(membership: &Membership<NodeId, Peer>) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
        }
    }

    fn into_membership(self) -> io::Result<Membership<NodeId, Peer>> {
        if self.configs.is_empty() && self.nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(self.configs, self.nodes).map_err(damaged)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Payload {
    Blank,
    Command(Proposal),
    Members(Members),
}

/// A log entry on disk, and between nodes.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryRecord {
    at: Position,
    payload: Payload,
}

impl EntryRecord {
    pub fn of(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(proposal) => Payload::Command(proposal.clone()),
            EntryPayload::Membership(members) => Payload::Members(Members::of(members)),
        };
        Self { at: entry.log_id.into(), payload }
    }

    pub fn into_entry(self) -> io::Result<Entry> {
        let payload = match self.payload {
            Payload::Blank => EntryPayload::Blank,
            Payload::Command(proposal) => EntryPayload::Normal(proposal),
            Payload::Members(members) => EntryPayload::Membership(members.into_membership()?),
        };
        Ok(Entry { log_id: self.at.into(), payload })
    }
}

/// What a snapshot was taken at; stored beside its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub last: Option<Position>,
    pub members_at: Option<Position>,
    pub members: Members,
}

impl SnapshotRecord {
    pub fn of(last: Option<LogId>, membership: &StoredMembership) -> Self {
        Self {
            last: last.map(Into::into),
            members_at: membership.log_id().map(Into::into),
            members: Members::of(membership.membership()),
        }
    }

    pub fn into_parts(self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let members = self.members.into_membership()?;
        Ok((self.last.map(Into::into), StoredMembership::new(self.members_at.map(Into::into), members)))
    }
}

/// First byte of every record, so that the encoding of records can change.
const RECORD_FORMAT: u8 = 1;

pub fn damaged(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![RECORD_FORMAT];
    serde_json::to_writer(&mut bytes, value)?;
    Ok(bytes)
}

pub fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> io::Result<T> {
    match bytes.split_first() {
        Some((&RECORD_FORMAT, json)) => serde_json::from_slice(json).map_err(damaged),
        Some((format, _)) => Err(damaged(format!("record format {format} is not known to this release"))),
        None => Err(damaged("an empty record")),
    }
}

pub fn encode_entry(entry: &Entry) -> io::Result<Vec<u8>> {
    encode(&EntryRecord::of(entry))
}

pub fn decode_entry(bytes: &[u8]) -> io::Result<Entry> {
    decode::<EntryRecord>(bytes)?.into_entry()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records written by the first release.
    #[test]
    fn version_1_records_decode() {
        for line in include_str!("../testdata/records-v1.txt").lines() {
            let mut bytes = vec![1];
            bytes.extend_from_slice(line.as_bytes());
            let entry = decode_entry(&bytes).unwrap();
            assert_eq!(encode_entry(&entry).unwrap(), bytes, "the encoding of format 1 has changed");
        }
    }

    #[test]
    fn unknown_and_torn_records_are_errors() {
        assert!(decode::<VoteRecord>(b"").is_err());
        assert!(decode::<VoteRecord>(b"\x02{}").unwrap_err().to_string().contains("format 2"));
        assert!(decode::<VoteRecord>(b"\x01{\"term\":1").is_err());
    }
}
