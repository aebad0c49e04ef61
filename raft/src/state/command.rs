//! What can be proposed to the group, and what comes back.

use std::collections::BTreeSet;
use std::fmt;

use model::Duty;
use serde::{Deserialize, Serialize};

use super::NodeId;

/// The version of the commands' encoding. A node refuses to read a newer one, so a leader must not propose commands
/// that a member doesn't know; old versions are decoded for ever (samples in `testdata/`).
pub const COMMAND_VERSION: u16 = 1;

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
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegisterSession { node, .. } => write!(f, "register-session node={node:x}"),
            Self::EndSession { node, epoch } => write!(f, "end-session node={node:x} epoch={epoch}"),
            Self::ExpireSession { node, epoch } => write!(f, "expire-session node={node:x} epoch={epoch}"),
            Self::ReleaseDuty { duty, node, epoch } => {
                write!(f, "release-duty {} node={node:x} epoch={epoch}", duty.as_str())
            }
            Self::AdvanceContent { hash } => write!(f, "advance-content {} bytes", hash.len()),
            Self::AcquirePermit { key, limit, node, session, .. } => {
                write!(f, "acquire-permit key of {} bytes limit={limit} node={node:x} session={session}", key.len())
            }
            Self::ReleasePermit { key, token } => write!(f, "release-permit key of {} bytes token={token}", key.len()),
            Self::CancelPermit { key, .. } => write!(f, "cancel-permit key of {} bytes", key.len()),
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
        Self { v: COMMAND_VERSION, command }
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
    PermitGranted {
        token: u64,
        node: NodeId,
    },
}
