//! Permits of version 1, which belong to sessions and end with them. Nothing proposes them any more; they are applied
//! as they were then, for equal logs must give equal states. Those of version 2 are in [`super::asks`].

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::command::{Event, Granted, Refusal, Response};
use super::duties::Holder;
use super::{MAX_KEY_BYTES, State};

/// Most wishes that wait for one key.
const MAX_WAITERS: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitSlot {
    pub token: u64,
    pub request: String,
    pub owner: Holder,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    pub request: String,
    pub owner: Holder,
}

/// One key: who holds its slots (numbered from 0) and who waits. A key that nobody holds or wants doesn't exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitKey {
    /// As the last caller said.
    pub limit: u32,
    pub slots: BTreeMap<u32, PermitSlot>,
    pub waiters: VecDeque<Waiter>,
}

impl PermitKey {
    /// The slot and token of a granted wish.
    pub fn granted(&self, request: &str) -> Option<(u32, u64)> {
        self.slots.iter().find(|(_, slot)| slot.request == request).map(|(&number, slot)| (number, slot.token))
    }

    fn free_slot(&self) -> Option<u32> {
        (0..self.limit).find(|number| !self.slots.contains_key(number))
    }

    fn is_unused(&self) -> bool {
        self.slots.is_empty() && self.waiters.is_empty()
    }
}

impl State {
    pub(super) fn acquire_permit(
        &mut self,
        key: &str,
        limit: u32,
        request: &str,
        owner: Holder,
        wait: bool,
    ) -> Result<Response, Refusal> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || request.len() > MAX_KEY_BYTES || limit == 0 {
            return Err(Refusal::BadKey);
        }
        if !self.is_live(owner.node, owner.session) {
            return Err(Refusal::SessionEnded);
        }
        let entry = self.permits.entry(key.to_owned()).or_default();
        entry.limit = limit;
        if let Some((slot, token)) = entry.granted(request) {
            return Ok(Response::Granted { token, slot });
        }
        let ahead = |position: usize| Response::Queued { ahead: u32::try_from(position).unwrap_or(u32::MAX) };
        if !entry.waiters.iter().any(|waiter| waiter.request == request) {
            if !wait && (entry.free_slot().is_none() || !entry.waiters.is_empty()) {
                return Err(Refusal::Busy);
            }
            if entry.waiters.len() >= MAX_WAITERS {
                return Err(Refusal::TooManyWaiters);
            }
            entry.waiters.push_back(Waiter { request: request.to_owned(), owner });
        }
        self.grant_waiters(key, &mut Vec::new());
        let entry = self.permits.get(key).ok_or(Refusal::PermitNotHeld)?;
        if let Some((slot, token)) = entry.granted(request) {
            return Ok(Response::Granted { token, slot });
        }
        Ok(ahead(entry.waiters.iter().position(|waiter| waiter.request == request).unwrap_or(0)))
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
            entry.waiters.retain(|waiter| waiter.request != request);
            self.grant_waiters(key, events);
        }
        Ok(Response::Done)
    }

    pub(super) fn drop_permits(&mut self, gone: Holder, events: &mut Vec<Event>) {
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
            let Some(waiter) = entry.waiters.pop_front() else { break };
            self.last_token += 1;
            let token = self.last_token;
            let granted = Granted { key: key.to_owned(), request: waiter.request.clone(), slot: number, token };
            events.push(Event::PermitGranted(granted));
            entry.slots.insert(number, PermitSlot { token, request: waiter.request, owner: waiter.owner });
        }
        if entry.is_unused() {
            self.permits.remove(key);
        }
    }
}
