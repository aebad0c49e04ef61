//! Grants to executions that another node asked for.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use model::Id;

/// More than these are left to recovery.
const BOUND: usize = 20_000;

/// Executions that were granted a permit and have not gone on yet: their node gets some time, then anybody may help.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    order: BTreeSet<(Instant, Id)>,
    /// When it is due, and the key of the permit.
    ids: HashMap<Id, (Instant, String)>,
}

impl Orphans {
    /// Remembers a grant until `due`; one that is known keeps its time.
    pub(super) fn push(&mut self, id: Id, key: String, due: Instant) {
        if self.ids.len() < BOUND && !self.ids.contains_key(&id) {
            self.order.insert((due, id));
            self.ids.insert(id, (due, key));
        }
    }

    pub(super) fn remove(&mut self, id: Id) {
        if let Some((due, _)) = self.ids.remove(&id) {
            self.order.remove(&(due, id));
        }
    }

    /// How long until the first is due.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.order.first().map(|(due, _)| due.saturating_duration_since(now))
    }

    /// Takes what is due, at most `limit`.
    pub(super) fn due(&mut self, now: Instant, limit: usize) -> Vec<(Id, String)> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((due, id)) = self.order.first().copied()
            && due <= now
        {
            self.order.pop_first();
            if let Some((_, key)) = self.ids.remove(&id) {
                taken.push((id, key));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[test]
    fn they_are_due_in_time_unless_they_went_on() {
        let id = |n: &str| Id::derive("test", Timestamp::default(), &[n]);
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut orphans = Orphans::default();
        for (n, ms) in [("a", 30), ("b", 10), ("c", 20), ("b", 5)] {
            orphans.push(id(n), format!("k{n}"), at(ms));
        }
        assert_eq!(orphans.next(now), Some(Duration::from_millis(10)));
        orphans.remove(id("c"));
        assert!(orphans.due(at(9), 9).is_empty());
        assert_eq!(orphans.due(at(30), 1), [(id("b"), "kb".to_owned())]);
        assert_eq!(orphans.due(at(30), 9), [(id("a"), "ka".to_owned())]);
        assert_eq!(orphans.next(now), None);
    }
}
