//! The replicated state: a pure, deterministic, versioned machine.
//!
//! [`State::apply`] depends on nothing but the state and the command: no clock, no randomness, no I/O, ordered maps
//! only. Equal commands give equal states on every node, compared by [`State::hash`] (invariant K3).
//!
//! What holds at every point (tested in `properties`):
//! * session epochs and fencing tokens grow strictly over the life of the cluster, duty epochs over the life of a duty;
//! * one duty or sensor epoch has one holder (K2, S1), whose session is live and not suspended;
//! * a key has at most as many permits as its limit when they were given.
//!
//! Versions: equal logs give equal states on every release, so the meaning of a command never changes once it was
//! released; what is new gets a new command. New fields are `#[serde(default)]`, so that older snapshots decode, and are
//! not written while they have their default, so that a state without newer commands is written as older releases do.

mod asks;
mod command;
mod duties;
mod permits;
mod secret;
mod sensors;
mod snapshot;

#[cfg(test)]
mod properties;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use coordinator::KeyState;
use model::Duty;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use command::{COMMAND_VERSION, Claim, Command, Event, Granted, PermitHolder, Proposal, Refusal, Response};
pub use duties::{DutyState, Holder};
pub use permits::{PermitKey, PermitSlot, Waiter};
pub use secret::Secret;
pub use sensors::{MAX_SENSORS, SENSOR_ROLE, SENSORS_ROLE, SensorState};
pub use snapshot::{SNAPSHOT_FORMAT, SnapshotError};

/// A node's permanent number within its cluster; never reused.
pub type NodeId = u64;

/// How many past content revisions are remembered (executions pin the revision they began with).
pub const CONTENT_HISTORY: usize = 256;
/// Longest key, request name, sensor's name and content hash, bytes.
pub const MAX_KEY_BYTES: usize = coordinator::port::MAX_NAME_BYTES;
/// Most agreed values, and the largest one, bytes.
pub const MAX_AGREED: (usize, usize) = (64, 16 << 10);

/// A live session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    pub name: String,
    pub epoch: u64,
    pub roles: BTreeSet<String>,
    /// Duties it is willing to hold.
    pub duties: BTreeSet<Duty>,
    /// How long it outlives its last accepted renewal, milliseconds by the leader's clock.
    pub ttl_ms: u64,
    /// How long its duties and sensors do; 0: as long as the session.
    #[serde(default, skip_serializing_if = "command::is_zero")]
    pub lease_ms: u64,
    /// How often it was suspended. A lease is valid in the era in which it was renewed.
    #[serde(default, skip_serializing_if = "command::is_zero")]
    pub era: u64,
    /// See [`Claim`].
    #[serde(default, skip_serializing_if = "command::is_zero")]
    pub nonce: u64,
    /// It wasn't renewed in time: it holds neither duties nor sensors and is given none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// The node will stop: it is given nothing new and hands over what it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

impl SessionState {
    /// Whether it may be given duties and sensors.
    pub const fn is_eligible(&self) -> bool {
        !self.suspended && !self.draining
    }

    pub const fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    pub fn lease(&self) -> Duration {
        let lease = if self.lease_ms == 0 { self.ttl_ms } else { self.lease_ms.min(self.ttl_ms) };
        Duration::from_millis(lease)
    }
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
    /// The version of commands that all members agreed on; 0 is 1.
    #[serde(default, skip_serializing_if = "is_first")]
    pub format: u16,
    /// Who leads, as far as placement cares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeId>,
    /// Permits that belong to requests. An idle key isn't kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, KeyState>,
    /// The highest sensor epoch ever given.
    #[serde(default, skip_serializing_if = "command::is_zero")]
    pub last_sensor_epoch: u64,
    /// Counts changes of which sensors are wanted.
    #[serde(default, skip_serializing_if = "command::is_zero")]
    pub sensor_revision: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sensors: BTreeMap<String, SensorState>,
    /// Values that are set once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agreed: BTreeMap<String, Secret>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
const fn is_first(format: &u16) -> bool {
    *format <= 1
}

impl State {
    /// Applies one committed command, from an entry of this term.
    pub fn apply_in(&mut self, term: u64, command: &Command) -> (Response, Vec<Event>) {
        if command.decided_in().is_some_and(|decided| decided != term) {
            return (Response::Refused(Refusal::OutOfDate), Vec::new());
        }
        self.apply(command)
    }

    /// Applies one committed command, wherever it was decided.
    pub fn apply(&mut self, command: &Command) -> (Response, Vec<Event>) {
        let mut events = Vec::new();
        let response = self.apply_into(command, &mut events).unwrap_or_else(Response::Refused);
        (response, events)
    }

    fn apply_into(&mut self, command: &Command, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        match command {
            Command::RegisterSession { node, name, roles, duties, ttl_ms, lease_ms, claim } => {
                let session = SessionState {
                    name: name.clone(),
                    roles: roles.clone(),
                    duties: duties.clone(),
                    ttl_ms: *ttl_ms,
                    lease_ms: *lease_ms,
                    nonce: claim.map_or(0, |claim| claim.nonce),
                    ..SessionState::default()
                };
                let epoch = self.register(*node, session, *claim, events)?;
                Ok(Response::Session { epoch })
            }
            Command::EndSession { node, epoch } => self.end(*node, *epoch, false, events),
            Command::ExpireSession { node, epoch, .. } => self.end(*node, *epoch, true, events),
            Command::ReleaseDuty { duty, node, epoch } => self.release_duty(*duty, *node, *epoch, events),
            Command::AdvanceContent { hash } => self.advance_content(None, hash, events),
            Command::AcquirePermit { key, limit, request, node, session, wait } => {
                let owner = Holder { node: *node, session: *session };
                self.acquire_permit(key, *limit, request, owner, *wait)
            }
            Command::ReleasePermit { key, token } => self.release_permit(key, *token, events),
            Command::CancelPermit { key, request } => self.cancel_permit(key, request, events),
            newer => self.apply_2(newer, events),
        }
    }

    /// The commands of version 2.
    fn apply_2(&mut self, command: &Command, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        match command {
            Command::SetVersion { version } => Ok(self.set_version(*version, events)),
            Command::Lead { node } => {
                self.leader = Some(*node);
                self.spread_duties(events);
                Ok(Response::Done)
            }
            Command::SetLease { node, epoch, lease_ms } => {
                self.live_mut(*node, *epoch)?.lease_ms = *lease_ms;
                Ok(Response::Done)
            }
            Command::SuspendSession { node, epoch, era, .. } => self.suspend(*node, *epoch, *era, events),
            Command::ResumeSession { node, epoch, era } => self.resume(*node, *epoch, *era, events),
            Command::DrainSession { node, epoch } => self.drain(*node, *epoch, events),
            Command::YieldDuty { duty, node, epoch } => self.yield_duty(*duty, *node, *epoch, events),
            Command::WantSensors { revision, refs, pins } => self.want_sensors(*revision, refs, pins, events),
            Command::ReleaseSensor { sensor, node, epoch } => self.release_sensor(sensor, *node, *epoch, events),
            Command::AskPermit { key, limit, request, wait } => self.ask_permit(key, *limit, request, *wait, events),
            Command::GiveUpPermit { key, request } => self.give_up_permit(key, request, events),
            Command::RestorePermits { key, limit, holders } => self.restore_permits(key, *limit, holders, events),
            Command::InspectPermits { key } => self.inspect_permits(key),
            Command::Agree { name, value } => self.agree(name, value),
            Command::SetContent { expected, hash } => self.advance_content(Some(*expected), hash, events),
            // All of version 1 was handled by the caller.
            _ => Ok(Response::Done),
        }
    }

    /// SHA-256 of the state's canonical form, hex. Equal on all replicas at an equal index (K3).
    pub fn hash(&self) -> String {
        // A struct of ordered maps and plain values always serializes.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The version of commands that all members agreed on.
    pub fn agreed_version(&self) -> u16 {
        self.format.max(1)
    }

    /// Whether `node` has a live session with this epoch.
    pub fn is_live(&self, node: NodeId, epoch: u64) -> bool {
        self.sessions.get(&node).is_some_and(|session| session.epoch == epoch)
    }

    fn live_mut(&mut self, node: NodeId, epoch: u64) -> Result<&mut SessionState, Refusal> {
        self.sessions.get_mut(&node).filter(|session| session.epoch == epoch).ok_or(Refusal::SessionEnded)
    }

    fn register(
        &mut self,
        node: NodeId,
        session: SessionState,
        claim: Option<Claim>,
        events: &mut Vec<Event>,
    ) -> Result<u64, Refusal> {
        if let Some(live) = self.sessions.get(&node) {
            match claim {
                Some(claim) if live.nonce == claim.nonce => return Ok(live.epoch),
                Some(claim) if live.epoch > claim.after => return Err(Refusal::OutOfDate),
                // A late copy from the time of version 1, which had no claims.
                None if self.agreed_version() >= 2 => return Err(Refusal::OutOfDate),
                _ => {}
            }
        }
        // One process at a time uses a data directory, so a new session of a node proves that the old one is over.
        let previous = self.sessions.remove(&node);
        if let Some(previous) = &previous {
            self.drop_rights(Holder { node, session: previous.epoch }, events);
            events.push(Event::SessionEnded { node, epoch: previous.epoch, expired: false });
        }
        self.last_session_epoch += 1;
        let epoch = self.last_session_epoch;
        self.sessions.insert(node, SessionState { epoch, ..session });
        events.push(Event::SessionRegistered { node, epoch });
        self.assign_duties(events);
        self.spread_duties(events);
        self.place_sensors(events);
        Ok(epoch)
    }

    fn end(&mut self, node: NodeId, epoch: u64, expired: bool, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        if !self.is_live(node, epoch) {
            return Err(Refusal::SessionEnded);
        }
        self.sessions.remove(&node);
        self.drop_rights(Holder { node, session: epoch }, events);
        events.push(Event::SessionEnded { node, epoch, expired });
        self.assign_duties(events);
        if self.agreed_version() >= 2 {
            self.spread_duties(events);
        }
        self.place_sensors(events);
        Ok(Response::Done)
    }

    /// Takes everything from an ended session. Duties and sensors are assigned anew by the caller.
    fn drop_rights(&mut self, holder: Holder, events: &mut Vec<Event>) {
        self.drop_duties(holder);
        self.drop_sensors(holder);
        self.drop_permits(holder, events);
    }

    fn suspend(&mut self, node: NodeId, epoch: u64, era: u64, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        let session = self.live_mut(node, epoch)?;
        if session.era != era || session.suspended {
            return Err(Refusal::OutOfDate);
        }
        session.suspended = true;
        session.era += 1;
        events.push(Event::SessionSuspended { node, epoch });
        let holder = Holder { node, session: epoch };
        self.drop_duties(holder);
        self.drop_sensors(holder);
        self.assign_duties(events);
        self.spread_duties(events);
        self.place_sensors(events);
        Ok(Response::Done)
    }

    fn resume(&mut self, node: NodeId, epoch: u64, era: u64, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        let session = self.live_mut(node, epoch)?;
        if session.era != era || !session.suspended {
            return Err(Refusal::OutOfDate);
        }
        session.suspended = false;
        events.push(Event::SessionResumed { node, epoch });
        self.assign_duties(events);
        self.spread_duties(events);
        self.place_sensors(events);
        Ok(Response::Done)
    }

    fn drain(&mut self, node: NodeId, epoch: u64, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        let session = self.live_mut(node, epoch)?;
        if !session.draining {
            session.draining = true;
            events.push(Event::SessionDrains { node, epoch });
        }
        for state in self.duties.values_mut() {
            if state.wanted_by == Some(node) {
                state.wanted_by = None;
            }
        }
        self.spread_duties(events);
        self.place_sensors(events);
        Ok(Response::Done)
    }

    fn set_version(&mut self, version: u16, events: &mut Vec<Event>) -> Response {
        if version > self.format.max(1) {
            self.format = version;
            events.push(Event::VersionAgreed { version });
        }
        Response::Done
    }

    fn agree(&mut self, name: &str, value: &Secret) -> Result<Response, Refusal> {
        if let Some(agreed) = self.agreed.get(name) {
            return Ok(Response::Agreed(agreed.clone()));
        }
        if name.is_empty() || name.len() > MAX_KEY_BYTES {
            return Err(Refusal::BadKey);
        }
        if value.len() > MAX_AGREED.1 || self.agreed.len() >= MAX_AGREED.0 {
            return Err(Refusal::TooMuch);
        }
        self.agreed.insert(name.to_owned(), value.clone());
        Ok(Response::Agreed(value.clone()))
    }

    fn advance_content(
        &mut self,
        expected: Option<u64>,
        hash: &str,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        if hash.is_empty() || hash.len() > MAX_KEY_BYTES {
            return Err(Refusal::BadKey);
        }
        if self.content.hash() != hash {
            if expected.is_some_and(|expected| expected != self.content.revision) {
                return Err(Refusal::ContentMoved);
            }
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
