//! Permits that belong to requests: at most `limit` holders of a key, in the order of asking, each with a fencing token.
//!
//! What runs under a permit goes on when the scheduler that asked for it is gone, so a permit stays until its request
//! gives it up or whoever knows the truth restores the key. The decisions are [`coordinator::KeyState`]'s, the model
//! that all coordinators follow; its stored form is part of our snapshots.

use coordinator::{Answer, Grant, Holder, KeyState};

use super::command::{Event, Granted, PermitHolder, Refusal, Response};
use super::{MAX_KEY_BYTES, State};

fn check(names: &[&str]) -> Result<(), Refusal> {
    let good = names.iter().all(|name| !name.is_empty() && name.len() <= MAX_KEY_BYTES);
    good.then_some(()).ok_or(Refusal::BadKey)
}

fn tell(key: &str, woken: Vec<(String, Grant)>, events: &mut Vec<Event>) {
    events.extend(woken.into_iter().map(|(request, Grant { slot, token })| {
        Event::PermitGranted(Granted { key: key.to_owned(), request, slot, token })
    }));
}

impl State {
    pub(super) fn ask_permit(
        &mut self,
        key: &str,
        limit: u32,
        request: &str,
        wait: bool,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        check(&[key, request])?;
        let entry = self.keys.entry(key.to_owned()).or_default();
        let asked = entry.ask(limit, request, wait, &mut self.last_token);
        self.forget_idle(key);
        let (answer, woken) = asked.map_err(|_| Refusal::TooManyWaiters)?;
        tell(key, woken, events);
        match answer {
            Answer::Granted(Grant { slot, token }) => Ok(Response::Granted { token, slot }),
            Answer::Queued => Ok(Response::Queued { ahead: 0 }),
            Answer::Busy => Err(Refusal::Busy),
        }
    }

    pub(super) fn give_up_permit(
        &mut self,
        key: &str,
        request: &str,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        check(&[key, request])?;
        if let Some(entry) = self.keys.get_mut(key) {
            tell(key, entry.release(request, &mut self.last_token), events);
            self.forget_idle(key);
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
        let holders: Vec<Holder> =
            holders.iter().map(|(request, slot)| Holder { request: request.clone(), slot: *slot }).collect();
        coordinator::port::check_holders(key, &holders).map_err(|_| Refusal::BadKey)?;
        let entry = self.keys.entry(key.to_owned()).or_default();
        tell(key, entry.restore(limit, &holders, &mut self.last_token), events);
        self.forget_idle(key);
        Ok(Response::Done)
    }

    pub(super) fn inspect_permits(&self, key: &str) -> Result<Response, Refusal> {
        check(&[key])?;
        let holders = self.keys.get(key).map(KeyState::holders).unwrap_or_default().into_iter();
        let holder = |(holder, grant): (Holder, Grant)| PermitHolder {
            request: holder.request,
            slot: grant.slot,
            token: grant.token,
        };
        Ok(Response::Holders(holders.map(holder).collect()))
    }

    fn forget_idle(&mut self, key: &str) {
        if self.keys.get(key).is_some_and(KeyState::is_idle) {
            self.keys.remove(key);
        }
    }
}
