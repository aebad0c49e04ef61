//! True time, chance, and the network between the nodes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Microseconds of true time.
pub type Time = u64;
pub const MS: Time = 1_000;
pub const SECOND: Time = 1_000 * MS;

/// xorshift*: a seed means the same everywhere.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        chance.below(2);
        chance
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24) % bound.max(1)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Events in the order of their times, then of their making.
pub struct Queue<E> {
    heap: BinaryHeap<Slot<E>>,
    made: u64,
}

struct Slot<E>(Time, u64, E);

impl<E> PartialEq for Slot<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl<E> Eq for Slot<E> {}

impl<E> PartialOrd for Slot<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Slot<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), made: 0 }
    }

    pub fn push(&mut self, at: Time, event: E) {
        self.made += 1;
        self.heap.push(Slot(at, self.made, event));
    }

    pub fn pop(&mut self) -> Option<(Time, E)> {
        self.heap.pop().map(|Slot(at, _, event)| (at, event))
    }
}

/// Which links work, and how well.
pub struct Net {
    /// `cut[from][to]`.
    pub cut: Vec<Vec<bool>>,
    /// Messages lost, delayed long, or delivered twice, of a thousand.
    pub lost: u64,
    pub late: u64,
    pub twice: u64,
}

impl Net {
    pub fn new(nodes: usize) -> Self {
        Self { cut: vec![vec![false; nodes]; nodes], lost: 0, late: 0, twice: 0 }
    }

    pub fn heal(&mut self) {
        *self = Self::new(self.cut.len());
    }

    /// When the copies of a message arrive.
    pub fn arrivals(&self, from: usize, to: usize, now: Time, chance: &mut Chance) -> [Option<Time>; 2] {
        if self.cut[from][to] || chance.below(1_000) < self.lost {
            return [None, None];
        }
        let quick = now + chance.between(MS / 5, 3 * MS);
        let first = if chance.below(1_000) < self.late { now + chance.between(0, 900 * MS) } else { quick };
        let second = (chance.below(1_000) < self.twice).then(|| now + chance.between(0, 4 * SECOND));
        [Some(first), second]
    }
}
