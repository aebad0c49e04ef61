//! What a coordinator remembers of one key, and how it decides: pure, the model that every adapter follows.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::port::{Answer, Grant, Holder, MAX_WAITERS};

/// A waiting request that got its permit by what was just done.
pub type Woken = (String, Grant);

/// One key: its limit, who holds a permit, who waits in which order.
///
/// After every call no request waits while a permit is free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Plain", into = "Plain")]
pub struct KeyState {
    limit: u32,
    holders: HashMap<String, Grant>,
    /// Slot → token; mirrors `holders`.
    slots: BTreeMap<u32, u64>,
    /// Ticket → request, in order of asking.
    queue: BTreeMap<u64, String>,
    tickets: HashMap<String, u64>,
    next_ticket: u64,
}

/// The stored form: holders as (request, slot, token), waiters in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Plain {
    #[serde(rename = "l")]
    limit: u32,
    #[serde(rename = "h", default)]
    holders: Vec<(String, u32, u64)>,
    #[serde(rename = "w", default)]
    waiters: Vec<String>,
}

impl From<Plain> for KeyState {
    fn from(plain: Plain) -> Self {
        let mut state = Self { limit: plain.limit, ..Self::default() };
        for (request, slot, token) in plain.holders {
            state.hold(request, Grant { slot, token });
        }
        for request in plain.waiters {
            state.enqueue(request);
        }
        state
    }
}

impl From<KeyState> for Plain {
    fn from(state: KeyState) -> Self {
        let mut holders: Vec<(String, u32, u64)> =
            state.holders.into_iter().map(|(request, grant)| (request, grant.slot, grant.token)).collect();
        holders.sort_unstable_by_key(|(_, slot, _)| *slot);
        Self { limit: state.limit, holders, waiters: state.queue.into_values().collect() }
    }
}

/// Too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overfull;

impl KeyState {
    /// Nothing is worth remembering.
    pub fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.queue.is_empty()
    }

    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Who holds a permit, by slot.
    pub fn holders(&self) -> Vec<(Holder, Grant)> {
        let mut holders: Vec<(Holder, Grant)> = self
            .holders
            .iter()
            .map(|(request, grant)| (Holder { request: request.clone(), slot: grant.slot }, *grant))
            .collect();
        holders.sort_unstable_by_key(|(holder, _)| holder.slot);
        holders
    }

    /// See [`crate::Coordinator::acquire`]. `token` is the last one given out; it grows with every grant.
    ///
    /// A request that waited and is granted by this very call is among the woken, too.
    pub fn ask(
        &mut self,
        limit: u32,
        request: &str,
        wait: bool,
        token: &mut u64,
    ) -> Result<(Answer, Vec<Woken>), Overfull> {
        let known = self.holders.contains_key(request) || self.tickets.contains_key(request);
        let free = self.holders.len() < limit as usize && self.queue.len() < limit as usize - self.holders.len();
        if !known && wait && !free && self.queue.len() >= MAX_WAITERS {
            return Err(Overfull);
        }
        self.limit = limit;
        if !known {
            self.enqueue(request.to_owned());
        }
        let mut woken = self.grant_free(token);
        if let Some(grant) = self.holders.get(request) {
            if !known {
                woken.retain(|(name, _)| name != request);
            }
            return Ok((Answer::Granted(*grant), woken));
        }
        if wait {
            return Ok((Answer::Queued, woken));
        }
        self.leave(request);
        Ok((Answer::Busy, woken))
    }

    /// See [`crate::Coordinator::release`].
    pub fn release(&mut self, request: &str, token: &mut u64) -> Vec<Woken> {
        self.leave(request);
        if let Some(grant) = self.holders.remove(request) {
            self.slots.remove(&grant.slot);
        }
        self.grant_free(token)
    }

    /// See [`crate::Coordinator::restore`]. The holders' slots are distinct (the port checks it).
    pub fn restore(&mut self, limit: u32, holders: &[Holder], token: &mut u64) -> Vec<Woken> {
        self.limit = limit;
        let before = std::mem::take(&mut self.holders);
        self.slots.clear();
        for holder in holders {
            self.leave(&holder.request);
            let kept = before.get(&holder.request).filter(|grant| grant.slot == holder.slot);
            let grant = kept.copied().unwrap_or_else(|| Grant { slot: holder.slot, token: next(token) });
            self.hold(holder.request.clone(), grant);
        }
        self.grant_free(token)
    }

    fn grant_free(&mut self, token: &mut u64) -> Vec<Woken> {
        let mut woken = Vec::new();
        while self.holders.len() < self.limit as usize
            && let Some((_, request)) = self.queue.pop_first()
        {
            self.tickets.remove(&request);
            let grant = Grant { slot: self.lowest_free(), token: next(token) };
            self.hold(request.clone(), grant);
            woken.push((request, grant));
        }
        woken
    }

    /// With fewer holders than the limit there is one below the limit.
    fn lowest_free(&self) -> u32 {
        (0..).zip(self.slots.keys()).find(|(at, slot)| at != *slot).map_or(self.slots.len() as u32, |(at, _)| at)
    }

    fn hold(&mut self, request: String, grant: Grant) {
        self.slots.insert(grant.slot, grant.token);
        self.holders.insert(request, grant);
    }

    fn enqueue(&mut self, request: String) {
        self.tickets.insert(request.clone(), self.next_ticket);
        self.queue.insert(self.next_ticket, request);
        self.next_ticket += 1;
    }

    fn leave(&mut self, request: &str) {
        if let Some(ticket) = self.tickets.remove(request) {
            self.queue.remove(&ticket);
        }
    }
}

fn next(token: &mut u64) -> u64 {
    *token += 1;
    *token
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Ask { limit: u32, request: u8, wait: bool },
        Release { request: u8 },
        Restore { limit: u32, holders: Vec<u8> },
        Store,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u32..4, 0u8..12, prop::bool::weighted(0.8))
                .prop_map(|(limit, request, wait)| Step::Ask { limit, request, wait }),
            4 => (0u8..12).prop_map(|request| Step::Release { request }),
            1 => (0u32..4, prop::collection::vec(0u8..12, 0..5))
                .prop_map(|(limit, holders)| Step::Restore { limit, holders }),
            1 => Just(Step::Store),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Slots are distinct and below the limit they were granted under, tokens grow, nobody waits beside a free
        /// permit, the order of asking is kept, and the stored form loses nothing that decides.
        #[test]
        fn the_rules_hold(steps in prop::collection::vec(step(), 1..120)) {
            let mut state = KeyState::default();
            let (mut token, mut highest) = (0, 0);
            let mut order: Vec<String> = Vec::new();
            for step in steps {
                let before = state.holders.clone();
                let woken = match step {
                    Step::Ask { limit, request, wait } => {
                        let request = format!("r{request}");
                        let waited = order.contains(&request);
                        let (answer, mut woken) = state.ask(limit, &request, wait, &mut token).unwrap();
                        match answer {
                            Answer::Granted(grant) => {
                                prop_assert_eq!(state.holders.get(&request), Some(&grant));
                                if !waited && !before.contains_key(&request) {
                                    woken.push((request, grant));
                                }
                            }
                            Answer::Queued => {
                                if !waited {
                                    order.push(request.clone());
                                }
                                prop_assert!(wait && state.tickets.contains_key(&request));
                            }
                            Answer::Busy => {
                                order.retain(|name| *name != request);
                                prop_assert!(!wait && !state.tickets.contains_key(&request));
                            }
                        }
                        woken
                    }
                    Step::Release { request } => {
                        let request = format!("r{request}");
                        order.retain(|name| *name != request);
                        let woken = state.release(&request, &mut token);
                        prop_assert!(!state.holders.contains_key(&request));
                        woken
                    }
                    Step::Restore { limit, mut holders } => {
                        holders.sort_unstable();
                        holders.dedup();
                        let holders: Vec<Holder> = (0u32..).zip(holders)
                            .map(|(slot, n)| Holder { request: format!("r{n}"), slot: slot * 2 }).collect();
                        order.retain(|name| holders.iter().all(|holder| holder.request != *name));
                        let woken = state.restore(limit, &holders, &mut token);
                        for holder in &holders {
                            prop_assert_eq!(state.holders[&holder.request].slot, holder.slot);
                        }
                        prop_assert_eq!(state.holders.len(), holders.len() + woken.len());
                        woken
                    }
                    Step::Store => {
                        let text = serde_json::to_string(&state).unwrap();
                        state = serde_json::from_str(&text).unwrap();
                        prop_assert_eq!(serde_json::to_string(&state).unwrap(), text);
                        Vec::new()
                    }
                };
                for (request, grant) in &woken {
                    prop_assert!(grant.token > highest);
                    highest = grant.token;
                    prop_assert!(grant.slot < state.limit);
                    if let Some(at) = order.iter().position(|name| name == request) {
                        prop_assert_eq!(at, 0, "{} was granted out of turn", request);
                        order.remove(0);
                    }
                }
                highest = token;
                prop_assert_eq!(state.slots.len(), state.holders.len());
                prop_assert!(state.queue.is_empty() || state.holders.len() >= state.limit as usize);
                prop_assert_eq!(&state.queue.values().cloned().collect::<Vec<_>>(), &order);
            }
        }
    }
}
