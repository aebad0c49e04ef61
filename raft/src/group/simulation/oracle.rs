//! What must hold, checked as it happens.

use std::collections::BTreeMap;

use super::consensus::Entry;
use super::net::Time;
use crate::state::{Command, Holder, State};

/// A duty or a sensor, by name.
pub type Right = String;

#[derive(Debug, Clone, Copy)]
pub struct Belief {
    pub epoch: u64,
    /// In true time.
    pub until: Time,
}

#[derive(Default)]
pub struct Oracle {
    /// What each node believes to hold.
    beliefs: BTreeMap<Right, BTreeMap<usize, Belief>>,
    /// What was committed.
    committed: Vec<Entry>,
    holders: BTreeMap<(Right, u64), Holder>,
    epochs: BTreeMap<Right, u64>,
    sessions: u64,
}

impl Oracle {
    /// K2 and S1: no two nodes believe to hold the same at the same true instant.
    pub fn believes(&mut self, node: usize, right: &str, belief: Belief, now: Time) {
        let known = match self.beliefs.get_mut(right) {
            Some(known) => known,
            None => self.beliefs.entry(right.to_owned()).or_default(),
        };
        if belief.until > now {
            for (&other, &theirs) in known.iter() {
                assert!(
                    other == node || theirs.until <= now,
                    "{right}: node {node} ({belief:?}) and node {other} ({theirs:?}) both hold it at {now}"
                );
            }
        }
        known.insert(node, belief);
    }

    pub fn gives_up(&mut self, node: usize, right: &str) {
        if let Some(known) = self.beliefs.get_mut(right) {
            known.remove(&node);
        }
    }

    pub fn dies(&mut self, node: usize) {
        for known in self.beliefs.values_mut() {
            known.remove(&node);
        }
    }

    /// Who holds it now, by its own belief.
    pub fn holder(&self, right: &str, now: Time) -> Option<(usize, u64)> {
        let known = self.beliefs.get(right)?;
        known.iter().find(|(_, belief)| belief.until > now).map(|(&node, belief)| (node, belief.epoch))
    }

    /// Whether nobody has applied this entry yet.
    pub fn is_new(&self, index: usize) -> bool {
        index >= self.committed.len()
    }

    /// An entry was applied somewhere, giving this state: the log is one, epochs grow, one epoch has one holder.
    pub fn applied(&mut self, index: usize, entry: &Entry, before: Option<&State>, after: &State) {
        let Some(before) = before else {
            let known = &self.committed[index];
            let same = known.term == entry.term && known.command == entry.command;
            assert!(same, "two different entries were committed at {index}");
            return;
        };
        assert_eq!(index, self.committed.len(), "an entry was skipped");
        self.committed.push(entry.clone());
        if let Some(Command::RegisterSession { .. }) = entry.command.as_deref() {
            assert!(after.last_session_epoch >= self.sessions, "session epochs go back");
            self.sessions = after.last_session_epoch;
        }
        for (duty, held) in &after.duties {
            if before.duties.get(duty) != Some(held) {
                self.held(duty.as_str(), held.epoch, held.holder, after);
            }
        }
        for (sensor, held) in &after.sensors {
            if before.sensors.get(sensor) != Some(held) {
                self.held(sensor, held.epoch, held.holder, after);
            }
        }
        for (key, permits) in &after.keys {
            assert!(permits.holders().len() <= 2, "{key}: more permits than the limit");
        }
    }

    fn held(&mut self, right: &str, epoch: u64, holder: Option<Holder>, state: &State) {
        // A sensor that was forgotten and is wanted again has no epoch until somebody owns it.
        let Some(holder) = holder else { return };
        let last = self.epochs.entry(right.to_owned()).or_default();
        assert!(epoch >= *last, "{right}: the epoch goes back");
        *last = epoch;
        let known = *self.holders.entry((right.to_owned(), epoch)).or_insert(holder);
        assert_eq!(known, holder, "{right}: two holders of epoch {epoch}");
        let session = &state.sessions[&holder.node];
        assert!(session.epoch == holder.session && !session.suspended, "{right}: its holder's session is over");
    }
}
