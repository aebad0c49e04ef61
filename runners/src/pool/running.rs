//! The executions that run here, and how to stop them.

use std::collections::HashMap;

use model::Id;
use parking_lot::Mutex;

use crate::stop::{Stop, StopReason, Stopper};

#[derive(Debug)]
struct Entry {
    stopper: Stopper,
    session: u64,
}

/// By execution.
#[derive(Debug, Default)]
pub struct Running {
    entries: Mutex<HashMap<Id, Entry>>,
}

/// Removes the execution when the run is over.
#[derive(Debug)]
pub struct Registration<'a> {
    running: &'a Running,
    id: Id,
}

impl Running {
    /// `None` if the execution runs here already: a repeated delivery.
    pub fn register(&self, id: Id, session: u64) -> Option<(Registration<'_>, Stop)> {
        let (stopper, stop) = Stop::new();
        match self.entries.lock().entry(id) {
            std::collections::hash_map::Entry::Occupied(_) => None,
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Entry { stopper, session });
                Some((Registration { running: self, id }, stop))
            }
        }
    }

    pub fn stop(&self, id: Id, reason: StopReason) {
        if let Some(entry) = self.entries.lock().get(&id) {
            entry.stopper.stop(reason);
        }
    }

    pub fn stop_all(&self, reason: StopReason) {
        for entry in self.entries.lock().values() {
            entry.stopper.stop(reason);
        }
    }

    /// Stops what was claimed under another session than `current`.
    pub fn stop_other_sessions(&self, current: Option<u64>) {
        for entry in self.entries.lock().values().filter(|entry| Some(entry.session) != current) {
            entry.stopper.stop(StopReason::SessionLost);
        }
    }

    pub fn ids(&self) -> Vec<Id> {
        self.entries.lock().keys().copied().collect()
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.running.entries.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    #[test]
    fn runs_are_stopped_by_id_and_by_session() {
        let running = Running::default();
        let id = |n: i64| Id::fresh(Timestamp::from_micros(n));
        let (old, new) = (id(1), id(2));
        let (kept, stop_old) = running.register(old, 1).unwrap();
        let (_new, stop_new) = running.register(new, 2).unwrap();
        assert!(running.register(old, 1).is_none());
        running.stop_other_sessions(Some(2));
        assert_eq!((stop_old.reason(), stop_new.reason()), (Some(StopReason::SessionLost), None));
        running.stop(new, StopReason::Cancel);
        assert_eq!(stop_new.reason(), Some(StopReason::Cancel));
        drop(kept);
        assert_eq!(running.ids(), [new]);
    }
}
