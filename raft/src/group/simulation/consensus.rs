//! A model of the consensus under the group: terms, votes refused while a leader was heard lately, elections by
//! transfer, the log, and rounds that confirm a leadership. It stands for openraft, whose rules it follows as far as
//! leases depend on them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::net::Chance;
use crate::state::{Command, Response};

pub const HEARTBEAT: Duration = Duration::from_millis(120);
pub const ELECTION_MIN: Duration = Duration::from_millis(300);
/// Also how long a voter refuses others after it heard from a leader.
pub const ELECTION_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Entry {
    pub term: u64,
    pub command: Option<Rc<Command>>,
}

/// From node to node; nodes are numbered from 0 here, their ids are one higher.
#[derive(Debug, Clone)]
pub enum Message {
    Vote { pre: bool, term: u64, last: (u64, usize), transfer: bool },
    Voted { pre: bool, term: u64, granted: bool },
    Append { term: u64, prev: usize, prev_term: u64, entries: Vec<Entry>, commit: usize, round: u64 },
    Appended { term: u64, ok: bool, matched: usize, round: u64 },
    Transfer { term: u64 },
    // To the leader, and back:
    Propose { call: u64, command: Rc<Command> },
    Proposed { call: u64, answer: Option<Response> },
    Renew { call: u64, epoch: u64 },
    Renewed { call: u64, answer: Answer },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accepted(Option<u64>),
    Over,
    NotLeader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate,
    Leader,
}

/// What survives a kill.
#[derive(Debug, Default)]
pub struct Disk {
    pub term: u64,
    pub voted: Option<usize>,
    pub log: Vec<Entry>,
}

impl Disk {
    pub fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }
}

/// A leader's work.
#[derive(Debug, Default)]
pub struct Lead {
    pub next: BTreeMap<usize, usize>,
    pub matched: BTreeMap<usize, usize>,
    /// Who misses something; they are sent everything from `next` until they have it.
    pub probing: BTreeSet<usize>,
    /// The latest round that each voter has answered.
    pub rounds: BTreeMap<usize, u64>,
    pub round: u64,
    /// Who waits for the confirmation of a round: (round, from, call, epoch).
    pub reads: Vec<(u64, usize, u64, u64)>,
    /// Who waits for an entry: index → (from, call).
    pub calls: BTreeMap<usize, (usize, u64)>,
}

/// What doesn't survive a kill.
#[derive(Debug)]
pub struct Consensus {
    pub role: Role,
    pub leader: Option<usize>,
    pub commit: usize,
    /// When a leader was heard; what votes are refused by.
    pub heard: Option<Instant>,
    /// When the next election may begin.
    pub election: Instant,
    pub promised: BTreeSet<usize>,
    pub granted: BTreeSet<usize>,
    pub lead: Lead,
    pub beat: Option<Instant>,
}

/// Effects: messages to send.
pub type Out = Vec<(usize, Message)>;

pub fn quorum(count: usize, voters: usize) -> bool {
    count * 2 > voters
}

impl Consensus {
    pub fn new(now: Instant, chance: &mut Chance) -> Self {
        let mut new = Self {
            role: Role::Follower,
            leader: None,
            commit: 0,
            heard: None,
            election: now,
            promised: BTreeSet::new(),
            granted: BTreeSet::new(),
            lead: Lead::default(),
            beat: None,
        };
        new.wait(now, chance);
        new
    }

    pub fn wait(&mut self, now: Instant, chance: &mut Chance) {
        let (low, high) = (ELECTION_MIN.as_micros() as u64, ELECTION_MAX.as_micros() as u64);
        self.election = now + Duration::from_micros(chance.between(low, high));
        if self.heard.is_some() {
            self.election += ELECTION_MAX;
        }
    }

    pub fn follow(&mut self, leader: Option<usize>) {
        self.role = Role::Follower;
        self.leader = leader;
        self.lead = Lead::default();
        self.promised.clear();
        self.granted.clear();
    }

    /// Whether votes for others are refused now.
    pub fn refuses(&self, now: Instant, voters: usize, local: impl Fn(u64) -> Instant) -> bool {
        match self.role {
            Role::Leader => {
                let mut rounds: Vec<u64> = self.lead.rounds.values().copied().collect();
                rounds.sort_unstable_by(|one, two| two.cmp(one));
                // This node itself and as many others as make a quorum.
                let needed = voters / 2;
                let acked = if needed == 0 { Some(self.lead.round) } else { rounds.get(needed - 1).copied() };
                acked.is_some_and(|round| round > 0 && now < local(round) + ELECTION_MAX)
            }
            _ => self.heard.is_some_and(|heard| now <= heard + ELECTION_MAX),
        }
    }

    /// Whether a round was answered by a quorum.
    pub fn confirmed(&self, round: u64, voters: usize) -> bool {
        quorum(1 + self.lead.rounds.values().filter(|&&answered| answered >= round).count(), voters)
    }
}
