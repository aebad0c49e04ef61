//! The replicated state: a pure, deterministic, versioned machine.
//!
//! [`State::apply`] depends on nothing but the state and the command: no clock, no randomness, no I/O, ordered maps
//! only. Equal commands give equal states on every node, compared by [`State::hash`] (invariant K3).
//!
//! What holds at every point (tested in `properties`):
//! * session epochs and fencing tokens grow strictly over the life of the cluster, duty epochs over the life of a duty;
//! * one duty epoch has one holder (K2); a duty's or permit's holder has a live session;
//! * a key has at most as many permits as its limit when they were given.
//!
//! New fields must be `#[serde(default)]` so that older snapshots decode; sensor partitions will be one.

mod command;
mod duties;
mod permits;
mod snapshot;

#[cfg(test)]
mod properties;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::Duty;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use command::{COMMAND_VERSION, Command, Event, Proposal, Refusal, Response};
pub use duties::{DutyState, Holder};
pub use permits::{MAX_KEY_BYTES, MAX_WAITERS, PermitKey, PermitSlot, Waiter};
pub use snapshot::{SNAPSHOT_FORMAT, SnapshotError};

/// A node's permanent number within its cluster; never reused.
pub type NodeId = u64;

/// How many past content revisions are remembered (executions pin the revision they began with).
pub const CONTENT_HISTORY: usize = 256;

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    pub name: String,
    pub epoch: u64,
    pub roles: BTreeSet<String>,
    /// Duties it is willing to hold.
    pub duties: BTreeSet<Duty>,
    /// How long it outlives its last accepted renewal, milliseconds by the leader's clock.
    pub ttl_ms: u64,
}

/// Which content (packs) the cluster should have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentState {
    /// Grows by one with every change; 0: none yet.
    pub revision: u64,
    /// The content's hash at the last [`CONTENT_HISTORY`] revisions, oldest first.
    pub history: VecDeque<(u64, String)>,
}

impl ContentState {
    /// The hash of the current revision; empty before the first.
    pub fn hash(&self) -> &str {
        self.history.back().map_or("", |(_, hash)| hash)
    }
}

/// Everything that the group agrees on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The highest session epoch ever given.
    #[serde(default)]
    pub last_session_epoch: u64,
    /// The highest fencing token ever given.
    #[serde(default)]
    pub last_token: u64,
    #[serde(default)]
    pub sessions: BTreeMap<NodeId, SessionState>,
    #[serde(default)]
    pub duties: BTreeMap<Duty, DutyState>,
    #[serde(default)]
    pub permits: BTreeMap<String, PermitKey>,
    #[serde(default)]
    pub content: ContentState,
}

impl State {
    /// Applies one committed command.
    pub fn apply(&mut self, command: &Command) -> (Response, Vec<Event>) {
        let mut events = Vec::new();
        let response = self.apply_into(command, &mut events).unwrap_or_else(Response::Refused);
        (response, events)
    }

    fn apply_into(&mut self, command: &Command, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        match command {
            Command::RegisterSession { node, name, roles, duties, ttl_ms } => {
                let epoch = self.register(*node, name, roles, duties, *ttl_ms, events);
                Ok(Response::Session { epoch })
            }
            Command::EndSession { node, epoch } => self.end(*node, *epoch, false, events),
            Command::ExpireSession { node, epoch } => self.end(*node, *epoch, true, events),
            Command::ReleaseDuty { duty, node, epoch } => self.release_duty(*duty, *node, *epoch, events),
            Command::AdvanceContent { hash } => self.advance_content(hash, events),
            Command::AcquirePermit { key, limit, request, node, session, wait } => {
                let owner = Holder { node: *node, session: *session };
                self.acquire_permit(key, *limit, request, owner, *wait)
            }
            Command::ReleasePermit { key, token } => self.release_permit(key, *token, events),
            Command::CancelPermit { key, request } => self.cancel_permit(key, request, events),
        }
    }

    /// SHA-256 of the state's canonical form, hex. Equal on all replicas at an equal index (K3).
    pub fn hash(&self) -> String {
        // A struct of ordered maps and plain values always serializes.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `node` has a live session with this epoch.
    pub fn is_live(&self, node: NodeId, epoch: u64) -> bool {
        self.sessions.get(&node).is_some_and(|session| session.epoch == epoch)
    }

    fn register(
        &mut self,
        node: NodeId,
        name: &str,
        roles: &BTreeSet<String>,
        duties: &BTreeSet<Duty>,
        ttl_ms: u64,
        events: &mut Vec<Event>,
    ) -> u64 {
        // One process at a time uses a data directory, so a new session of a node proves that the old one is over.
        let previous = self.sessions.remove(&node);
        if let Some(previous) = &previous {
            self.drop_rights(Holder { node, session: previous.epoch }, events);
            events.push(Event::SessionEnded { node, epoch: previous.epoch, expired: false });
        }
        self.last_session_epoch += 1;
        let epoch = self.last_session_epoch;
        let session =
            SessionState { name: name.to_owned(), epoch, roles: roles.clone(), duties: duties.clone(), ttl_ms };
        self.sessions.insert(node, session);
        events.push(Event::SessionRegistered { node, epoch });
        self.assign_duties(events);
        self.spread_duties(events);
        epoch
    }

    fn end(&mut self, node: NodeId, epoch: u64, expired: bool, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        if !self.is_live(node, epoch) {
            return Err(Refusal::SessionEnded);
        }
        self.sessions.remove(&node);
        self.drop_rights(Holder { node, session: epoch }, events);
        events.push(Event::SessionEnded { node, epoch, expired });
        self.assign_duties(events);
        Ok(Response::Done)
    }

    /// Takes duties and permits from an ended session. Duties are assigned anew by the caller.
    fn drop_rights(&mut self, holder: Holder, events: &mut Vec<Event>) {
        self.drop_duties(holder);
        self.drop_permits(holder, events);
    }

    fn advance_content(&mut self, hash: &str, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        if hash.is_empty() || hash.len() > MAX_KEY_BYTES {
            return Err(Refusal::BadKey);
        }
        if self.content.hash() != hash {
            self.content.revision += 1;
            self.content.history.push_back((self.content.revision, hash.to_owned()));
            while self.content.history.len() > CONTENT_HISTORY {
                self.content.history.pop_front();
            }
            events.push(Event::ContentAdvanced { revision: self.content.revision });
        }
        Ok(Response::Content { revision: self.content.revision })
    }
}
