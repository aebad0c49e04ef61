//! Who may run under concurrency policies: counts by key, in one place, pure.
//!
//! This is the single box's decider behind the scheduler's seam: `ask`, `ended` and `adopt` are what a permit service
//! has to offer. Executions count from their admission until they are neither requested, delayed, scheduled nor
//! running (spec/scheduling.md §5).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{Id, Timestamp};

/// One policy as it applies to one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// Policy and, for attribute policies, the values.
    pub key: Arc<str>,
    pub threshold: usize,
    /// Cancel what doesn't fit instead of letting it wait.
    pub cancel: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admit,
    Wait,
    Cancel,
    /// It waits or runs already.
    Known,
}

type Place = (Timestamp, Id);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gate {
    admitted: HashMap<Id, Vec<Arc<str>>>,
    used: HashMap<Arc<str>, usize>,
    waiting: BTreeMap<Place, Vec<Limit>>,
    places: HashMap<Id, Place>,
    /// Waiters by key, in order.
    by_key: HashMap<Arc<str>, BTreeMap<Place, ()>>,
}

impl Gate {
    /// Whether the execution may run now. All limits have to allow it; the first that doesn't says what happens.
    /// One that waits is asked for by [`Gate::wait`] after it was put down as delayed.
    pub(super) fn ask(&mut self, id: Id, limits: &[Limit]) -> Verdict {
        if self.admitted.contains_key(&id) {
            return Verdict::Known;
        }
        match self.first_full(limits) {
            Some(limit) if limit.cancel => Verdict::Cancel,
            Some(_) => Verdict::Wait,
            None => {
                self.adopt(id, limits);
                Verdict::Admit
            }
        }
    }

    fn first_full<'a>(&self, limits: &'a [Limit]) -> Option<&'a Limit> {
        limits.iter().find(|limit| self.used.get(&limit.key).copied().unwrap_or(0) >= limit.threshold)
    }

    /// It runs: found so in the store, or admitted.
    pub(super) fn adopt(&mut self, id: Id, limits: &[Limit]) {
        self.forget_waiter(id);
        if self.admitted.contains_key(&id) {
            return;
        }
        let mut keys: Vec<Arc<str>> = limits.iter().map(|limit| limit.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            *self.used.entry(key.clone()).or_insert(0) += 1;
        }
        self.admitted.insert(id, keys);
    }

    /// Puts it among the waiters, by the time of its request.
    pub(super) fn wait(&mut self, id: Id, since: Timestamp, limits: Vec<Limit>) {
        self.forget_waiter(id);
        let place = (since, id);
        for limit in &limits {
            self.by_key.entry(limit.key.clone()).or_default().insert(place, ());
        }
        self.places.insert(id, place);
        self.waiting.insert(place, limits);
    }

    fn forget_waiter(&mut self, id: Id) {
        let Some(place) = self.places.remove(&id) else { return };
        for limit in self.waiting.remove(&place).unwrap_or_default() {
            if let Some(waiters) = self.by_key.get_mut(&limit.key) {
                waiters.remove(&place);
                if waiters.is_empty() {
                    self.by_key.remove(&limit.key);
                }
            }
        }
    }

    /// It doesn't count any more (or was canceled while it waited). Returns those that are admitted in its place.
    pub(super) fn ended(&mut self, id: Id) -> Vec<Id> {
        self.forget_waiter(id);
        let Some(keys) = self.admitted.remove(&id) else {
            return Vec::new();
        };
        for key in &keys {
            if let Some(used) = self.used.get_mut(key) {
                *used -= 1;
                if *used == 0 {
                    self.used.remove(key);
                }
            }
        }
        let mut places: Vec<Place> =
            keys.iter().filter_map(|key| self.by_key.get(key)).flat_map(|waiters| waiters.keys().copied()).collect();
        places.sort_unstable();
        places.dedup();
        let mut admitted = Vec::new();
        for place in places {
            let Some(limits) = self.waiting.get(&place).cloned() else { continue };
            if self.first_full(&limits).is_none() {
                self.adopt(place.1, &limits);
                admitted.push(place.1);
            } else if keys.iter().all(|key| self.is_full_for(key)) {
                break;
            }
        }
        admitted
    }

    /// Whether the next waiter of the key can't be admitted.
    fn is_full_for(&self, key: &Arc<str>) -> bool {
        let used = self.used.get(key).copied().unwrap_or(0);
        let first = self.by_key.get(key).and_then(|waiters| waiters.keys().next());
        let limits = first.and_then(|place| self.waiting.get(place));
        limits.is_none_or(|limits| limits.iter().any(|limit| limit.key == *key && used >= limit.threshold))
    }

    pub(super) fn knows(&self, id: Id) -> bool {
        self.admitted.contains_key(&id) || self.places.contains_key(&id)
    }

    pub(super) fn waiters(&self) -> Vec<Id> {
        self.waiting.keys().map(|(_, id)| *id).collect()
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn admitted(&self) -> Vec<Id> {
        self.admitted.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> Id {
        Id::derive("test", Timestamp::default(), &[&n.to_string()])
    }

    fn limit(key: u8, threshold: usize) -> Limit {
        Limit { key: format!("k{key}").into(), threshold, cancel: false }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask(u32, Vec<u8>),
        End(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u32..200, prop::collection::vec(0u8..3, 1..3)).prop_map(|(n, keys)| Step::Ask(n, keys)),
            2 => any::<prop::sample::Index>().prop_map(|index| Step::End(index.index(1_000))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// P1: never more than the threshold; nobody waits while all its keys have room; earlier waiters of a single
        /// key go first.
        #[test]
        fn thresholds_hold_and_nobody_starves(steps in prop::collection::vec(step(), 1..200), threshold in 1usize..4) {
            let mut gate = Gate::default();
            let mut limits_of: HashMap<Id, Vec<Limit>> = HashMap::new();
            let mut running: Vec<Id> = Vec::new();
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Ask(n, mut keys) => {
                        keys.sort_unstable();
                        keys.dedup();
                        let id = id(n);
                        if limits_of.contains_key(&id) {
                            continue;
                        }
                        let limits: Vec<Limit> = keys.into_iter().map(|key| limit(key, threshold)).collect();
                        limits_of.insert(id, limits.clone());
                        match gate.ask(id, &limits) {
                            Verdict::Admit => running.push(id),
                            Verdict::Wait => gate.wait(id, Timestamp::from_micros(at as i64), limits),
                            other => prop_assert!(false, "{other:?}"),
                        }
                    }
                    Step::End(index) => {
                        if running.is_empty() {
                            continue;
                        }
                        let id = running.swap_remove(index % running.len());
                        running.extend(gate.ended(id));
                    }
                }
                let used = |key: &Arc<str>| {
                    running.iter().filter(|id| limits_of[id].iter().any(|limit| limit.key == *key)).count()
                };
                for key in ["k0", "k1", "k2"] {
                    prop_assert!(used(&key.into()) <= threshold);
                }
                for waiter in gate.waiters() {
                    prop_assert!(limits_of[&waiter].iter().any(|limit| used(&limit.key) >= threshold), "{waiter} starves");
                }
            }
        }
    }

    #[test]
    fn threshold_zero_holds_everything_and_cancel_is_said() {
        let mut gate = Gate::default();
        assert_eq!(gate.ask(id(1), &[limit(0, 0)]), Verdict::Wait);
        let cancel = Limit { cancel: true, ..limit(1, 1) };
        assert_eq!(gate.ask(id(2), std::slice::from_ref(&cancel)), Verdict::Admit);
        assert_eq!(gate.ask(id(2), std::slice::from_ref(&cancel)), Verdict::Known);
        assert_eq!(gate.ask(id(3), &[cancel]), Verdict::Cancel);
    }
}
