//! Permits: at most `limit` holders of a key, in the order of asking, each with a fencing token.
//!
//! Since version 2 a permit belongs to its request and stays until that gives it up: what runs under it goes on when
//! the scheduler that asked is gone. Version 1 gave permits to sessions; such entries of old logs are still applied as
//! they were then, for equal logs must give equal states.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::State;
use super::command::{Event, Granted, PermitHolder, Refusal, Response};
use super::duties::Holder;
use super::line::Line;

/// Longest key, request name, sensor's name and content hash, bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// Most wishes that wait for one key.
pub const MAX_WAITERS: usize = coordinator::port::MAX_WAITERS;
/// As many as version 1 let wait.
const MAX_WAITERS_V1: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitSlot {
    pub token: u64,
    pub request: String,
    /// The session with which it ends, if it was asked for under version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Holder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    pub request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Holder>,
}

/// One key: who holds its slots (numbered from 0) and who waits. A key that nobody holds or wants doesn't exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitKey {
    /// As the last caller said.
    pub limit: u32,
    pub slots: BTreeMap<u32, PermitSlot>,
    pub waiters: Line,
}

/// A wish, of either version.
pub(super) struct Wish<'a> {
    pub key: &'a str,
    pub limit: u32,
    pub request: &'a str,
    pub owner: Option<Holder>,
    pub wait: bool,
}

impl PermitKey {
    /// The slot and token of a granted wish.
    pub fn granted(&self, request: &str) -> Option<(u32, u64)> {
        self.slots.iter().find(|(_, slot)| slot.request == request).map(|(&number, slot)| (number, slot.token))
    }

    /// The lowest free number below the limit.
    fn free_slot(&self) -> Option<u32> {
        let mut number = 0;
        for &taken in self.slots.keys() {
            if taken > number {
                break;
            }
            number = taken.checked_add(1)?;
        }
        (number < self.limit).then_some(number)
    }

    fn is_unused(&self) -> bool {
        self.slots.is_empty() && self.waiters.is_empty()
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_KEY_BYTES
}

impl State {
    /// A version 1 wish: it ends with the session.
    pub(super) fn acquire_permit(&mut self, wish: &Wish) -> Result<Response, Refusal> {
        if !is_name(wish.key) || wish.request.len() > MAX_KEY_BYTES || wish.limit == 0 {
            return Err(Refusal::BadKey);
        }
        if !wish.owner.is_some_and(|owner| self.is_live(owner.node, owner.session)) {
            return Err(Refusal::SessionEnded);
        }
        let entry = self.permits.entry(wish.key.to_owned()).or_default();
        entry.limit = wish.limit;
        if let Some((slot, token)) = entry.granted(wish.request) {
            return Ok(Response::Granted { token, slot });
        }
        if !entry.waiters.contains(wish.request) {
            if !wish.wait && (entry.free_slot().is_none() || !entry.waiters.is_empty()) {
                return Err(Refusal::Busy);
            }
            if entry.waiters.len() >= MAX_WAITERS_V1 {
                return Err(Refusal::TooManyWaiters);
            }
            entry.waiters.push(Waiter { request: wish.request.to_owned(), owner: wish.owner });
        }
        self.grant_waiters(wish.key, &mut Vec::new());
        self.answer(wish.key, wish.request)
    }

    pub(super) fn ask_permit(&mut self, wish: &Wish, events: &mut Vec<Event>) -> Result<Response, Refusal> {
        if !is_name(wish.key) || !is_name(wish.request) || wish.limit == 0 {
            return Err(Refusal::BadKey);
        }
        let entry = self.permits.entry(wish.key.to_owned()).or_default();
        entry.limit = wish.limit;
        let is_new = entry.granted(wish.request).is_none() && !entry.waiters.contains(wish.request);
        // A higher limit serves those first who wait already.
        self.grant_waiters(wish.key, events);
        if is_new {
            let entry = self.permits.entry(wish.key.to_owned()).or_default();
            entry.limit = wish.limit;
            if entry.free_slot().is_none() || entry.slots.len() >= entry.limit as usize {
                if !wish.wait {
                    return Err(Refusal::Busy);
                }
                if entry.waiters.len() >= MAX_WAITERS {
                    return Err(Refusal::TooManyWaiters);
                }
            }
            entry.waiters.push(Waiter { request: wish.request.to_owned(), owner: None });
            // The asker hears of its own grant by the answer.
            self.grant_waiters(wish.key, &mut Vec::new());
        }
        self.answer(wish.key, wish.request)
    }

    fn answer(&self, key: &str, request: &str) -> Result<Response, Refusal> {
        let entry = self.permits.get(key).ok_or(Refusal::PermitNotHeld)?;
        if let Some((slot, token)) = entry.granted(request) {
            return Ok(Response::Granted { token, slot });
        }
        let ahead = entry.waiters.ahead_of(request).unwrap_or(0);
        Ok(Response::Queued { ahead: u32::try_from(ahead).unwrap_or(u32::MAX) })
    }

    pub(super) fn release_permit(
        &mut self,
        key: &str,
        token: u64,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        let entry = self.permits.get_mut(key).ok_or(Refusal::PermitNotHeld)?;
        let before = entry.slots.len();
        entry.slots.retain(|_, slot| slot.token != token);
        if entry.slots.len() == before {
            return Err(Refusal::PermitNotHeld);
        }
        self.grant_waiters(key, events);
        Ok(Response::Done)
    }

    pub(super) fn cancel_permit(
        &mut self,
        key: &str,
        request: &str,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        if let Some(entry) = self.permits.get_mut(key) {
            entry.slots.retain(|_, slot| slot.request != request);
            entry.waiters.remove(request);
            self.grant_waiters(key, events);
        }
        Ok(Response::Done)
    }

    pub(super) fn restore_permits(
        &mut self,
        key: &str,
        limit: u32,
        holders: &[(String, u32)],
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        let names: BTreeSet<&String> = holders.iter().map(|(request, _)| request).collect();
        let slots: BTreeSet<u32> = holders.iter().map(|(_, slot)| *slot).collect();
        let distinct = names.len() == holders.len() && slots.len() == holders.len();
        if !is_name(key) || limit == 0 || !distinct || !names.iter().all(|name| is_name(name)) {
            return Err(Refusal::BadKey);
        }
        let entry = self.permits.entry(key.to_owned()).or_default();
        entry.limit = limit;
        let mut before = std::mem::take(&mut entry.slots);
        for (request, number) in holders {
            entry.waiters.remove(request);
            // Who holds just this slot keeps its token: work is being done under it.
            let kept = before.remove(number).filter(|slot| slot.request == *request).map(|slot| slot.token);
            let token = kept.unwrap_or_else(|| {
                self.last_token += 1;
                self.last_token
            });
            entry.slots.insert(*number, PermitSlot { token, request: request.clone(), owner: None });
        }
        self.grant_waiters(key, events);
        Ok(Response::Done)
    }

    pub(super) fn inspect_permits(&self, key: &str) -> Response {
        let slots = self.permits.get(key).map(|entry| &entry.slots).into_iter().flatten();
        let holder = |(&number, slot): (&u32, &PermitSlot)| PermitHolder {
            request: slot.request.clone(),
            slot: number,
            token: slot.token,
        };
        Response::Holders(slots.map(holder).collect())
    }

    /// Ends what a session was granted under version 1.
    pub(super) fn drop_permits(&mut self, gone: Holder, events: &mut Vec<Event>) {
        let gone = Some(gone);
        let concerned = |entry: &PermitKey| {
            entry.slots.values().any(|slot| slot.owner == gone)
                || entry.waiters.iter().any(|waiter| waiter.owner == gone)
        };
        let keys: Vec<String> =
            self.permits.iter().filter(|(_, entry)| concerned(entry)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(entry) = self.permits.get_mut(&key) {
                entry.slots.retain(|_, slot| slot.owner != gone);
                entry.waiters.retain(|waiter| waiter.owner != gone);
            }
            self.grant_waiters(&key, events);
        }
    }

    /// Gives free slots to those who wait, first come first served; forgets an unused key.
    fn grant_waiters(&mut self, key: &str, events: &mut Vec<Event>) {
        let Some(entry) = self.permits.get_mut(key) else { return };
        while let Some(number) = entry.free_slot()
            && entry.slots.len() < entry.limit as usize
        {
            let Some(waiter) = entry.waiters.pop() else { break };
            self.last_token += 1;
            let token = self.last_token;
            let request = waiter.request.clone();
            events.push(Event::PermitGranted(Granted { key: key.to_owned(), request, slot: number, token }));
            entry.slots.insert(number, PermitSlot { token, request: waiter.request, owner: waiter.owner });
        }
        if entry.is_unused() {
            self.permits.remove(key);
        }
    }
}
