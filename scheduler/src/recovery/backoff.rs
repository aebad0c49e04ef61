//! What was rung lately.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use model::Id;

/// Ids kept; more than that are rung as if they were new.
const BOUND: usize = 100_000;

/// Lets a document be rung again after a pause that doubles each time.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    rung: HashMap<Id, (Instant, Duration)>,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, rung: HashMap::new() }
    }

    /// Whether it may be rung now; if so it counts as rung.
    pub(super) fn allows(&mut self, id: Id, now: Instant) -> bool {
        let pause = match self.rung.get(&id) {
            Some((until, _)) if now < *until => return false,
            Some((_, pause)) => (*pause * 2).min(self.longest),
            None => self.first,
        };
        if self.rung.len() >= BOUND {
            self.rung.clear();
        }
        self.rung.insert(id, (now + pause, pause));
        true
    }

    /// Forgets what has not been seen for long.
    pub(super) fn prune(&mut self, now: Instant) {
        self.rung.retain(|_, (until, pause)| now < *until + *pause);
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[test]
    fn pauses_grow_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(20));
        let id = Id::derive("test", Timestamp::default(), &[]);
        let start = Instant::now();
        let allowed: Vec<u64> = (0..100).filter(|at| backoff.allows(id, start + Duration::from_secs(*at))).collect();
        assert_eq!(allowed, [0, 5, 15, 35, 55, 75, 95]);
        backoff.prune(start + Duration::from_secs(1_000));
        assert!(backoff.rung.is_empty());
    }
}
