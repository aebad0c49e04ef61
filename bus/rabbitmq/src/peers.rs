//! How far the other processes got with their events: a gap means that some were lost. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A process that tells how far it got is heard within this time after our queue was made. One that turns up later
/// was away meanwhile, and what it said is lost.
const GRACE: Duration = Duration::from_secs(5);
const BOUND: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Peers {
    since: Instant,
    /// Number of the next event of each process.
    next: HashMap<String, u64>,
}

impl Peers {
    /// `since`: when the queue was made that everything comes through.
    pub fn new(since: Instant) -> Self {
        Self { since, next: HashMap::new() }
    }

    /// Events `first .. first + count` of a process came; returns how many before them didn't (at least).
    pub fn heard(&mut self, from: &str, first: u64, count: u64, now: Instant) -> u64 {
        let after = first.saturating_add(count);
        if let Some(next) = self.next.get_mut(from) {
            let lost = first.saturating_sub(*next);
            *next = after.max(*next);
            return lost;
        }
        if self.next.len() >= BOUND {
            self.next.clear();
            self.since = now;
        }
        self.next.insert(from.to_owned(), after);
        u64::from(first > 0 && now.duration_since(self.since) > GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_noticed() {
        let start = Instant::now();
        let mut peers = Peers::new(start);
        assert_eq!(peers.heard("a", 40, 2, start), 0, "it was there before us");
        assert_eq!(peers.heard("a", 42, 1, start), 0);
        assert_eq!(peers.heard("b", 0, 1, start), 0);
        assert_eq!(peers.heard("a", 50, 1, start), 7);
        assert_eq!(peers.heard("a", 42, 1, start), 0, "said again");
        assert_eq!(peers.heard("a", 51, 0, start), 0, "only says where it is");
        assert_eq!(peers.heard("a", 53, 0, start), 2);
        assert_eq!(peers.heard("b", 1, 5, start), 0);
        let later = start + GRACE * 2;
        assert_eq!(peers.heard("new", 0, 3, later), 0);
        assert_eq!(peers.heard("was away", 9, 3, later), 1);
        assert_eq!(peers.heard("was away", 12, 3, later), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let start = Instant::now();
        let mut peers = Peers::new(start);
        for n in 0..3 * BOUND {
            assert_eq!(peers.heard(&n.to_string(), 5, 1, start), 0);
        }
        assert!(peers.next.len() <= BOUND);
    }
}
