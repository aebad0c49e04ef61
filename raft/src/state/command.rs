//! What can be proposed to the group, and what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::Duty;
use serde::{Deserialize, Serialize};

use super::{NodeId, Secret};

/// The highest version of commands that this release knows. A node refuses to read a newer one, so a leader doesn't
/// propose commands above the version that the members agreed on ([`State::format`](super::State::format)); old
/// versions are decoded for ever (samples in `testdata/`).
///
/// 1: sessions, duties, content, permits that belong to sessions. 2: leases shorter than sessions, draining, sensor
/// partitions, permits that belong to requests, agreed values, content by compare-and-set.
pub const COMMAND_VERSION: u16 = 3;

/// A change of the [`State`](super::State). Every command can be repeated without harm.
///
/// `Display` and `Debug` show kind, numbers and sizes only: openraft prints entries into logs, and keys may hold
/// parameters of actions.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Starts a node's session and ends its former one.
    RegisterSession {
        node: NodeId,
        name: String,
        roles: BTreeSet<String>,
        duties: BTreeSet<Duty>,
        ttl_ms: u64,
        /// How long its duties and sensors outlive its last accepted renewal; 0: as long as the session.
        #[serde(default, skip_serializing_if = "is_zero")]
        lease_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claim: Option<Claim>,
    },
    /// The node says that it stops.
    EndSession {
        node: NodeId,
        epoch: u64,
    },
    /// The leader saw no renewal in time.
    ExpireSession {
        node: NodeId,
        epoch: u64,
        /// See [`Command::decided_in`].
        #[serde(default, skip_serializing_if = "is_zero")]
        term: u64,
    },
    /// The holder has stopped a duty that another node was chosen for.
    ReleaseDuty {
        duty: Duty,
        node: NodeId,
        epoch: u64,
    },
    /// The cluster should have the content with this hash.
    AdvanceContent {
        hash: String,
    },
    /// A permit of `key`, of which at most `limit` exist; `request` names the caller's wish, for repeats.
    AcquirePermit {
        key: String,
        limit: u32,
        request: String,
        node: NodeId,
        session: u64,
        wait: bool,
    },
    ReleasePermit {
        key: String,
        token: u64,
    },
    /// Gives up a wish, whether it still waits or was granted meanwhile.
    CancelPermit {
        key: String,
        request: String,
    },

    // Since version 2:
    /// All members read commands of this version; proposed by the leader. Read by every release that can be told so.
    SetVersion {
        version: u16,
    },
    /// This node leads from now on; duties whose hand-over must be fast are kept away from it.
    Lead {
        node: NodeId,
    },
    /// Gives a session that was registered under version 1 its lease.
    SetLease {
        node: NodeId,
        epoch: u64,
        lease_ms: u64,
    },
    /// The leader saw no renewal for as long as the lease: duties and sensors go to others, the session lives on.
    SuspendSession {
        node: NodeId,
        epoch: u64,
        /// The suspensions before this one; another number means that the decision is out of date.
        era: u64,
        term: u64,
    },
    /// A suspended session was renewed.
    ResumeSession {
        node: NodeId,
        epoch: u64,
        era: u64,
    },
    /// The node will stop: it hands over what it holds and gets nothing new.
    DrainSession {
        node: NodeId,
        epoch: u64,
    },
    /// The holder has stopped a duty for good: who is to have it gets it, or whoever suits best, under a new epoch.
    YieldDuty {
        duty: Duty,
        node: NodeId,
        epoch: u64,
    },
    /// These sensors, and no others, shall run somewhere; if nobody has changed that since `revision`.
    WantSensors {
        revision: u64,
        refs: BTreeSet<String>,
        /// Names of the nodes that alone may run a sensor; those that aren't in it may run anywhere. Since version 3.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pins: BTreeMap<String, BTreeSet<String>>,
    },
    /// The holder has stopped the sensor.
    ReleaseSensor {
        sensor: String,
        node: NodeId,
        epoch: u64,
    },
    /// A permit for a request, whoever asks for it.
    AskPermit {
        key: String,
        limit: u32,
        request: String,
        wait: bool,
    },
    GiveUpPermit {
        key: String,
        request: String,
    },
    /// Makes these (request, slot) the holders of the key.
    RestorePermits {
        key: String,
        limit: u32,
        holders: Vec<(String, u32)>,
    },
    /// Answers who holds the key at this point of the log.
    InspectPermits {
        key: String,
    },
    /// Sets a value that never changes again; answers what it is.
    Agree {
        name: String,
        value: Secret,
    },
    /// As [`Command::AdvanceContent`], if the revision is still the expected one.
    SetContent {
        expected: u64,
        hash: String,
    },
}

/// Makes a registration repeatable, and a late copy of an old one harmless: it would end a session whose node believes
/// in its leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The latest session of its node that the registering process knows of: a live one with a higher epoch is newer
    /// than this registration and stays.
    pub after: u64,
    /// Drawn for this registration; repeats have the same.
    pub nonce: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Command {
    /// The version that a node must know to read it.
    pub fn version(&self) -> u16 {
        match self {
            Self::WantSensors { pins, .. } if !pins.is_empty() => 3,
            Self::RegisterSession { lease_ms: 0, claim: None, .. } | Self::ExpireSession { term: 0, .. } => 1,
            Self::EndSession { .. }
            | Self::ReleaseDuty { .. }
            | Self::AdvanceContent { .. }
            | Self::AcquirePermit { .. }
            | Self::ReleasePermit { .. }
            | Self::CancelPermit { .. } => 1,
            Self::RegisterSession { .. }
            | Self::ExpireSession { .. }
            | Self::SetVersion { .. }
            | Self::Lead { .. }
            | Self::SetLease { .. }
            | Self::SuspendSession { .. }
            | Self::ResumeSession { .. }
            | Self::DrainSession { .. }
            | Self::YieldDuty { .. }
            | Self::WantSensors { .. }
            | Self::ReleaseSensor { .. }
            | Self::AskPermit { .. }
            | Self::GiveUpPermit { .. }
            | Self::RestorePermits { .. }
            | Self::InspectPermits { .. }
            | Self::Agree { .. }
            | Self::SetContent { .. } => 2,
        }
    }

    /// Whether it may change who holds which duty or sensor, or what nodes do about it.
    pub const fn is_about_rights(&self) -> bool {
        !matches!(
            self,
            Self::AdvanceContent { .. }
                | Self::SetContent { .. }
                | Self::AcquirePermit { .. }
                | Self::ReleasePermit { .. }
                | Self::CancelPermit { .. }
                | Self::AskPermit { .. }
                | Self::GiveUpPermit { .. }
                | Self::RestorePermits { .. }
                | Self::InspectPermits { .. }
                | Self::Agree { .. }
        )
    }

    /// The term whose leader decided this by its book of deadlines. In an entry of another term the decision is void:
    /// that term's leader may have accepted renewals since. (Version 1 didn't say it.)
    pub const fn decided_in(&self) -> Option<u64> {
        match self {
            Self::ExpireSession { term, .. } | Self::SuspendSession { term, .. } if *term > 0 => Some(*term),
            _ => None,
        }
    }

    /// The version that the group must have agreed on before it may be proposed. The agreement itself needs none: the
    /// leader proposes it when all members can read it.
    pub fn needs(&self) -> u16 {
        match self {
            Self::SetVersion { .. } => 1,
            other => other.version(),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegisterSession { node, .. } => write!(f, "register-session node={node:x}"),
            Self::EndSession { node, epoch } => write!(f, "end-session node={node:x} epoch={epoch}"),
            Self::ExpireSession { node, epoch, .. } => write!(f, "expire-session node={node:x} epoch={epoch}"),
            Self::ReleaseDuty { duty, node, epoch } => {
                write!(f, "release-duty {} node={node:x} epoch={epoch}", duty.as_str())
            }
            Self::AdvanceContent { hash } => write!(f, "advance-content {} bytes", hash.len()),
            Self::AcquirePermit { key, limit, node, session, .. } => {
                write!(f, "acquire-permit key of {} bytes limit={limit} node={node:x} session={session}", key.len())
            }
            Self::ReleasePermit { key, token } => write!(f, "release-permit key of {} bytes token={token}", key.len()),
            Self::CancelPermit { key, .. } => write!(f, "cancel-permit key of {} bytes", key.len()),
            Self::SetVersion { version } => write!(f, "set-version {version}"),
            Self::Lead { node } => write!(f, "lead node={node:x}"),
            Self::SetLease { node, epoch, lease_ms } => {
                write!(f, "set-lease node={node:x} epoch={epoch} lease={lease_ms}ms")
            }
            Self::SuspendSession { node, epoch, era, .. } => {
                write!(f, "suspend-session node={node:x} epoch={epoch} era={era}")
            }
            Self::ResumeSession { node, epoch, era } => {
                write!(f, "resume-session node={node:x} epoch={epoch} era={era}")
            }
            Self::DrainSession { node, epoch } => write!(f, "drain-session node={node:x} epoch={epoch}"),
            Self::YieldDuty { duty, node, epoch } => {
                write!(f, "yield-duty {} node={node:x} epoch={epoch}", duty.as_str())
            }
            Self::WantSensors { refs, .. } => write!(f, "want-sensors {} of them", refs.len()),
            Self::ReleaseSensor { node, epoch, .. } => write!(f, "release-sensor node={node:x} epoch={epoch}"),
            Self::AskPermit { key, limit, .. } => write!(f, "ask-permit key of {} bytes limit={limit}", key.len()),
            Self::GiveUpPermit { key, .. } => write!(f, "give-up-permit key of {} bytes", key.len()),
            Self::RestorePermits { key, limit, holders } => {
                write!(f, "restore-permits key of {} bytes limit={limit} holders={}", key.len(), holders.len())
            }
            Self::InspectPermits { key } => write!(f, "inspect-permits key of {} bytes", key.len()),
            Self::Agree { name, value } => write!(f, "agree {name} {} bytes", value.len()),
            Self::SetContent { expected, hash } => write!(f, "set-content after={expected} {} bytes", hash.len()),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A command as it is written to the log: with its version.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    pub v: u16,
    pub command: Command,
}

impl Proposal {
    pub fn new(command: Command) -> Self {
        Self { v: command.version(), command }
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            v: u16,
            command: serde_json::Value,
        }
        let wire = Wire::deserialize(deserializer)?;
        if wire.v == 0 || wire.v > COMMAND_VERSION {
            let text = format!("command version {} is not known to this release (up to {COMMAND_VERSION})", wire.v);
            return Err(serde::de::Error::custom(text));
        }
        let command = serde_json::from_value(wire.command).map_err(serde::de::Error::custom)?;
        Ok(Self { v: wire.v, command })
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command.fmt(f)
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What applying a command gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Nothing more to say; also for entries without a command.
    Done,
    Session {
        epoch: u64,
    },
    Content {
        revision: u64,
    },
    /// The permit is held.
    Granted {
        token: u64,
        slot: u32,
    },
    /// The wish waits behind so many others.
    Queued {
        ahead: u32,
    },
    Refused(Refusal),
    Agreed(Secret),
    Holders(Vec<PermitHolder>),
}

/// Who holds a slot of a key. `Debug` shows no name, see [`Command`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitHolder {
    pub request: String,
    pub slot: u32,
    pub token: u64,
}

impl fmt::Debug for PermitHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitHolder").field("slot", &self.slot).field("token", &self.token).finish_non_exhaustive()
    }
}

/// Why the state machine refused a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the session has ended")]
    SessionEnded,
    #[error("the duty is not held under this epoch")]
    DutyNotHeld,
    #[error("no permit is free")]
    Busy,
    #[error("too many wait for this permit")]
    TooManyWaiters,
    #[error("the permit is not held under this token")]
    PermitNotHeld,
    #[error("a key must have 1 to 512 bytes, and a limit must be at least 1")]
    BadKey,
    #[error("the decision is out of date")]
    OutOfDate,
    #[error("the sensor is not held under this epoch")]
    SensorNotHeld,
    #[error("the content has another revision than the expected one")]
    ContentMoved,
    #[error("too many or too large: at most 10000 sensors, 64 agreed values of 16 KiB")]
    TooMuch,
}

impl Refusal {
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::SessionEnded | Self::Busy | Self::TooManyWaiters)
    }
}

/// What changed, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    SessionRegistered {
        node: NodeId,
        epoch: u64,
    },
    SessionEnded {
        node: NodeId,
        epoch: u64,
        expired: bool,
    },
    DutyAssigned {
        duty: Duty,
        node: NodeId,
        epoch: u64,
    },
    /// The holder is asked to hand the duty to `node`.
    DutyWanted {
        duty: Duty,
        node: NodeId,
    },
    ContentAdvanced {
        revision: u64,
    },
    /// A waiting wish was granted.
    PermitGranted(Granted),
    VersionAgreed {
        version: u16,
    },
    SessionSuspended {
        node: NodeId,
        epoch: u64,
    },
    SessionResumed {
        node: NodeId,
        epoch: u64,
    },
    SessionDrains {
        node: NodeId,
        epoch: u64,
    },
    SensorAssigned {
        sensor: String,
        node: NodeId,
        epoch: u64,
    },
    /// The holder is asked to stop the sensor, so that it can run elsewhere or nowhere.
    SensorMoves {
        sensor: String,
        node: NodeId,
    },
}

/// A permit that a waiting request got. `Debug` shows no names, see [`Command`].
#[derive(Clone, PartialEq, Eq)]
pub struct Granted {
    pub key: String,
    pub request: String,
    pub slot: u32,
    pub token: u64,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted").field("slot", &self.slot).field("token", &self.token).finish_non_exhaustive()
    }
}
