//! Executions that wait for a time.

use std::collections::{BTreeSet, HashMap};

use model::{Id, Timestamp};

/// Bounded, by due time. When it is full, the latest stay in the store; `horizon` tells from when on that has to be
/// asked again.
#[derive(Debug)]
pub(super) struct Delays {
    bound: usize,
    order: BTreeSet<(Timestamp, Id)>,
    ids: HashMap<Id, Timestamp>,
    horizon: Option<Timestamp>,
}

impl Delays {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound: bound.max(1), order: BTreeSet::new(), ids: HashMap::new(), horizon: None }
    }

    pub(super) fn push(&mut self, due: Timestamp, id: Id) {
        if self.ids.contains_key(&id) {
            return;
        }
        self.order.insert((due, id));
        self.ids.insert(id, due);
        if self.ids.len() > self.bound
            && let Some((latest, id)) = self.order.pop_last()
        {
            self.ids.remove(&id);
            self.horizon = Some(self.horizon.map_or(latest, |horizon| horizon.min(latest)));
        }
    }

    pub(super) fn contains(&self, id: Id) -> bool {
        self.ids.contains_key(&id)
    }

    /// When something is to be done: the first in memory is due, or the store has earlier ones.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let first = self.order.first().map(|(due, _)| *due);
        match (first, self.horizon) {
            (Some(first), Some(horizon)) => Some(first.min(horizon)),
            (first, horizon) => first.or(horizon),
        }
    }

    /// Takes what is due, at most `limit`.
    pub(super) fn due(&mut self, now: Timestamp, limit: usize) -> Vec<Id> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((at, id)) = self.order.first().copied()
            && at <= now
        {
            self.order.pop_first();
            self.ids.remove(&id);
            due.push(id);
        }
        due
    }

    /// Whether the store has to be asked for delayed executions now: those that did not fit are due, or there is
    /// room again. (What is in memory is never later than they are.)
    pub(super) fn take_horizon(&mut self, now: Timestamp) -> bool {
        let wanted = self.horizon.is_some_and(|horizon| horizon <= now || self.ids.len() <= self.bound / 2);
        if wanted {
            self.horizon = None;
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Everything comes out exactly once, not before its time, in order; what didn't fit is announced in time.
        #[test]
        fn all_come_out_in_time(dues in prop::collection::vec(0i64..1_000, 1..60), bound in 1usize..20) {
            let mut delays = Delays::new(bound);
            let stored: Vec<(Timestamp, Id)> = dues
                .iter()
                .enumerate()
                .map(|(index, due)| {
                    let due = Timestamp::from_micros(*due);
                    (due, Id::derive("test", due, &[&index.to_string()]))
                })
                .collect();
            let mut out: Vec<Id> = Vec::new();
            for (due, id) in &stored {
                delays.push(*due, *id);
            }
            for now in (0..1_000).map(Timestamp::from_micros) {
                while delays.next().is_some_and(|next| next <= now) {
                    if delays.take_horizon(now) {
                        for (due, id) in stored.iter().filter(|(_, id)| !out.contains(id)) {
                            delays.push(*due, *id);
                        }
                    }
                    let due = delays.due(now, 3);
                    for id in &due {
                        prop_assert!(stored.iter().any(|(at, other)| other == id && *at <= now));
                    }
                    out.extend(due);
                }
                for (due, id) in &stored {
                    prop_assert!(*due > now || out.contains(id), "{id} due at {due:?} is late at {now:?}");
                }
            }
            prop_assert_eq!(out.len(), stored.len());
        }
    }
}
