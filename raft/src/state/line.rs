//! The waiters of a key, in order of asking, found by request in logarithmic time: 100,000 may wait for one key.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::permits::Waiter;

/// Written as the list of waiters.
#[derive(Debug, Clone, Default)]
pub struct Line {
    order: BTreeMap<u64, Waiter>,
    places: BTreeMap<String, u64>,
    next: u64,
}

impl Line {
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn contains(&self, request: &str) -> bool {
        self.places.contains_key(request)
    }

    /// How many are ahead of it; linear.
    pub fn ahead_of(&self, request: &str) -> Option<usize> {
        self.places.get(request).map(|place| self.order.range(..place).count())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.order.values()
    }

    /// Puts it last, unless it waits already.
    pub fn push(&mut self, waiter: Waiter) {
        if self.contains(&waiter.request) {
            return;
        }
        self.places.insert(waiter.request.clone(), self.next);
        self.order.insert(self.next, waiter);
        self.next += 1;
    }

    pub fn pop(&mut self) -> Option<Waiter> {
        let (_, waiter) = self.order.pop_first()?;
        self.places.remove(&waiter.request);
        Some(waiter)
    }

    pub fn remove(&mut self, request: &str) {
        if let Some(place) = self.places.remove(request) {
            self.order.remove(&place);
        }
    }

    pub fn retain(&mut self, keep: impl Fn(&Waiter) -> bool) {
        let places = &mut self.places;
        self.order.retain(|_, waiter| {
            let kept = keep(waiter);
            if !kept {
                places.remove(&waiter.request);
            }
            kept
        });
    }
}

/// Equal order is what counts; the numbers of the places differ after a snapshot.
impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Line {}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut line = Self::default();
        Vec::<Waiter>::deserialize(deserializer)?.into_iter().for_each(|waiter| line.push(waiter));
        Ok(line)
    }
}
