//! What can go wrong with the group, as callers see it.

use std::path::PathBuf;

use crate::state::Refusal;

/// An error of the consensus group. [`RaftError::is_retryable`] tells whether the same call can succeed later.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// An option is out of its range.
    #[error("raft option '{name}': {reason}")]
    Option { name: &'static str, reason: String },
    /// The data directory belongs to another node or cluster, or its identity can't be read.
    #[error("{path}: {reason}", path = path.display())]
    Identity { path: PathBuf, reason: String },
    /// A certificate, key or authority can't be used.
    #[error("{path}: {reason}", path = path.display())]
    Certificate { path: PathBuf, reason: String },
    /// The node-to-node listener can't be opened.
    #[error("the node-to-node listener: {0}")]
    Listen(String),
    /// The log can't be read or written (full disk, I/O error, damaged file, file in use).
    #[error("raft storage: {0}")]
    Storage(String),
    /// This node doesn't lead and the call must go to the leader, if one is known.
    #[error("not the leader{}", leader.as_ref().map(|name| format!(", the leader is {name}")).unwrap_or_default())]
    NotLeader { leader: Option<String> },
    /// No answer in time. The command may or may not have been applied; every command can be repeated safely.
    #[error("no answer from the raft group within {0} ms")]
    Timeout(u64),
    /// This node has no live session at the moment.
    #[error("this node has no session in the raft group")]
    NoSession,
    /// The state machine refused the command.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Some members still run a release that can't read the command.
    #[error("some members can't read commands of version {needs} yet (agreed: {agreed}); upgrade them first")]
    NotAgreed { needs: u16, agreed: u16 },
    /// The group doesn't take this node in.
    #[error("the raft group doesn't take this node in: {0}")]
    NotAdmitted(String),
    /// This node was removed from the group. It may come back as a new node: with an empty data directory.
    #[error("this node was removed from the raft group; to join again it needs an empty raft data directory")]
    Removed,
    /// The group was shut down.
    #[error("the raft group is stopped")]
    Stopped,
}

impl RaftError {
    /// Whether the same call may succeed later without anybody changing anything else.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Storage(_)
            | Self::NotLeader { .. }
            | Self::Timeout(_)
            | Self::NoSession
            | Self::NotAgreed { .. }
            | Self::NotAdmitted(_) => true,
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Option { .. }
            | Self::Identity { .. }
            | Self::Certificate { .. }
            | Self::Listen(_)
            | Self::Removed
            | Self::Stopped => false,
        }
    }
}
