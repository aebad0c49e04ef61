//! A simulated node: its clock, what it knows, and the very deciders that a real one runs: [`State`], the leader's
//! [`Deadlines`], the holder's [`View`], [`Witness`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::consensus::{Consensus, Disk, ELECTION_MAX};
use super::net::{Chance, MS, Time};
use crate::group::deadlines::{Deadlines, Leadership};
use crate::group::leases::{GivenUp, Limits, Renewed, View};
use crate::group::witness::Witness;
use crate::state::{Claim, State};

pub const TTL: Duration = Duration::from_secs(4);
pub const LEASE: Duration = Duration::from_millis(1_200);
pub const MARGIN: Duration = Duration::from_millis(200);
pub const RENEW: Duration = Duration::from_millis(333);

pub fn limits() -> Limits {
    Limits { session: TTL - MARGIN, lease: LEASE - MARGIN }
}

/// A monotonic clock that runs a little too fast or too slow.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Instant,
    offset: u64,
    per_million: i64,
}

impl Clock {
    pub fn new(base: Instant, chance: &mut Chance) -> Self {
        // Within one in a hundred of the truth.
        let per_million = i64::try_from(chance.below(20_000)).unwrap() - 10_000;
        Self { base, offset: chance.between(20_000_000, 900_000_000), per_million }
    }

    pub fn micros(&self, now: Time) -> u64 {
        let drift = i64::try_from(now).unwrap() * self.per_million / 1_000_000;
        self.offset + now.checked_add_signed(drift).unwrap()
    }

    pub fn at(&self, micros: u64) -> Instant {
        self.base + Duration::from_micros(micros)
    }

    pub fn now(&self, now: Time) -> Instant {
        self.at(self.micros(now))
    }

    /// When the clock will show this, in true time; rounded up.
    pub fn truth(&self, at: Instant) -> Time {
        let local = at.saturating_duration_since(self.base).as_micros() as u64;
        let elapsed = i64::try_from(local.saturating_sub(self.offset)).unwrap();
        u64::try_from(elapsed * 1_000_000 / (1_000_000 + self.per_million)).unwrap() + 1
    }
}

/// A call to the leader that hasn't been answered.
#[derive(Debug, Clone)]
pub struct Call {
    pub number: u64,
    pub renewal: bool,
    pub sent: Instant,
    pub until: Instant,
}

/// What a process has in memory.
pub struct Memory {
    pub consensus: Consensus,
    pub state: State,
    pub applied: usize,
    /// Whether an entry of the own term was applied since this node leads.
    pub leading: Option<u64>,
    /// The latest term applied, and the highest session epoch before it.
    pub term: (u64, u64),
    pub book: Deadlines,
    pub witness: Witness,
    // The keeper:
    pub epoch: Option<u64>,
    pub claim: Option<(Claim, Instant)>,
    pub sent: Option<Instant>,
    pub call: Option<Call>,
    pub patience: Duration,
    pub renewed: Option<Renewed>,
    pub view: View,
    /// Sensor processes: epoch, and when it will have been stopped once that was begun.
    pub running: BTreeMap<String, (u64, Option<Time>)>,
    pub given_up: GivenUp,
    /// What was lately proposed, and when.
    pub said: BTreeMap<String, Instant>,
    pub drains: bool,
}

impl Memory {
    pub fn new(now: Instant, chance: &mut Chance) -> Self {
        Self {
            consensus: Consensus::new(now, chance),
            state: State::default(),
            applied: 0,
            leading: None,
            term: (0, 0),
            book: Deadlines::default(),
            witness: Witness::new(now, ELECTION_MAX),
            epoch: None,
            claim: None,
            sent: None,
            call: None,
            patience: RENEW,
            renewed: None,
            view: View::default(),
            running: BTreeMap::new(),
            given_up: GivenUp::default(),
            said: BTreeMap::new(),
            drains: false,
        }
    }
}

pub struct Node {
    pub clock: Clock,
    pub disk: Disk,
    /// A snapshot: up to which entry, and its bytes.
    pub snapshot: Option<(usize, Vec<u8>)>,
    pub memory: Memory,
    pub up: bool,
    /// Counts the node's lives: what was meant for an earlier one is void.
    pub life: u32,
    /// Stopped by a signal until then; its clock goes on.
    pub paused: Time,
    /// The release that it runs.
    pub version: u16,
    pub voter: bool,
}

impl Node {
    pub fn new(base: Instant, voter: bool, chance: &mut Chance) -> Self {
        let clock = Clock::new(base, chance);
        let memory = Memory::new(clock.now(0), chance);
        let disk = Disk::default();
        Self { clock, disk, snapshot: None, memory, up: false, life: 0, paused: 0, version: 2, voter }
    }

    /// Begins a new life with what is on disk.
    pub fn start(&mut self, now: Time, chance: &mut Chance) {
        self.life += 1;
        self.up = true;
        self.paused = 0;
        self.memory = Memory::new(self.clock.now(now), chance);
        if let Some((upto, bytes)) = &self.snapshot {
            self.memory.state = State::from_snapshot(bytes).unwrap();
            self.memory.applied = *upto;
            self.memory.consensus.commit = *upto;
            self.memory.term.0 = upto.checked_sub(1).map_or(0, |last| self.disk.log[last].term);
        }
    }

    pub fn leadership(&self, now: Instant, voters: usize, credit: bool) -> Option<Leadership> {
        let term = self.memory.leading?;
        let credit = if credit { self.memory.witness.credit(now, term, voters) } else { Duration::ZERO };
        let earlier = if self.memory.term.0 == term { self.memory.term.1 } else { 0 };
        Some(Leadership { term, credit, earlier })
    }

    /// How long stopping a sensor's process takes.
    pub fn stop_time(chance: &mut Chance) -> Time {
        chance.between(1, 300) * MS
    }
}
