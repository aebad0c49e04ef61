//! Cluster-wide duties, their leases, and node sessions (DESIGN §2 rule 5, §4).

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Work that exactly one node does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    Timers,
    GarbageCollector,
    BackupScheduler,
}

impl Duty {
    pub const ALL: [Duty; 3] = [Duty::Timers, Duty::GarbageCollector, Duty::BackupScheduler];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timers => "timers",
            Self::GarbageCollector => "garbage-collector",
            Self::BackupScheduler => "backup-scheduler",
        }
    }
}

/// The right to do a duty, until `valid_until` by this process's monotonic clock (measured from when the last
/// accepted renewal was *sent*). Writes made under it carry `epoch` as a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub epoch: u64,
    pub valid_until: Instant,
}

impl Lease {
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.valid_until
    }
}

/// A node's membership from its start (or rejoin) to its loss. Claims made under an ended session are void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub node: String,
    pub epoch: u64,
}
