//! Which session does which duty: assigned at once when free, spread by hand-over when a node joins.
//!
//! Only *eligible* sessions (neither suspended nor draining) are given duties. The timers are kept away from the leader:
//! when a leader dies, its successor can't know when it accepted the last renewals, so that the leader's own duties
//! stay without a holder for longer than anybody else's.

use model::Duty;
use serde::{Deserialize, Serialize};

use super::command::{Event, Refusal, Response};
use super::{NodeId, SessionState, State};

/// A right belongs to a session, not to a node: it ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub node: NodeId,
    pub session: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyState {
    /// Grows by one with every new holder.
    pub epoch: u64,
    pub holder: Option<Holder>,
    /// The holder is asked to stop and release, this node comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_by: Option<NodeId>,
}

impl State {
    /// Gives every free duty to the willing, eligible session with the fewest duties.
    pub(super) fn assign_duties(&mut self, events: &mut Vec<Event>) {
        for duty in Duty::ALL {
            if self.duties.get(&duty).is_some_and(|state| state.holder.is_some()) {
                continue;
            }
            if let Some(node) = self.least_loaded(duty) {
                self.give_duty(duty, node, events);
            }
        }
    }

    /// Asks holders to hand a duty over: a draining one, the leader if it holds the timers, and the busiest while
    /// another willing node has two fewer.
    pub(super) fn spread_duties(&mut self, events: &mut Vec<Event>) {
        for duty in Duty::ALL {
            let Some(state) = self.duties.get(&duty) else { continue };
            let (Some(holder), None) = (state.holder, state.wanted_by) else { continue };
            let Some(next) = self.least_loaded(duty).filter(|&next| next != holder.node) else { continue };
            let drains = !self.sessions.get(&holder.node).is_some_and(SessionState::is_eligible);
            let too_busy = self.load(holder.node) >= self.load(next) + 2 && !self.is_bad_place(duty, next);
            let leads = self.is_bad_place(duty, holder.node) && !self.is_bad_place(duty, next);
            if !(drains || too_busy || leads) {
                continue;
            }
            if let Some(state) = self.duties.get_mut(&duty) {
                state.wanted_by = Some(next);
                events.push(Event::DutyWanted { duty, node: next });
            }
        }
    }

    pub(super) fn release_duty(
        &mut self,
        duty: Duty,
        node: NodeId,
        epoch: u64,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        let state = self.duties.get_mut(&duty).ok_or(Refusal::DutyNotHeld)?;
        if state.epoch != epoch || state.holder.is_none_or(|holder| holder.node != node) {
            return Err(Refusal::DutyNotHeld);
        }
        // Without a successor (it may be gone again) the holder keeps the duty and goes on.
        if let Some(next) = state.wanted_by.take()
            && self.sessions.get(&next).is_some_and(SessionState::is_eligible)
        {
            self.give_duty(duty, next, events);
        }
        Ok(Response::Done)
    }

    pub(super) fn yield_duty(
        &mut self,
        duty: Duty,
        node: NodeId,
        epoch: u64,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        let state = self.duties.get_mut(&duty).ok_or(Refusal::DutyNotHeld)?;
        if state.epoch != epoch || state.holder.is_none_or(|holder| holder.node != node) {
            return Err(Refusal::DutyNotHeld);
        }
        state.holder = None;
        let next = state.wanted_by.take().filter(|next| self.sessions.get(next).is_some_and(SessionState::is_eligible));
        if let Some(next) = next {
            self.give_duty(duty, next, events);
        }
        // Without a successor (it may be gone again) anybody, even the old holder: under a new epoch.
        self.assign_duties(events);
        self.spread_duties(events);
        Ok(Response::Done)
    }

    pub(super) fn drop_duties(&mut self, gone: Holder) {
        for state in self.duties.values_mut() {
            if state.holder == Some(gone) {
                state.holder = None;
                state.wanted_by = None;
            }
            if state.wanted_by == Some(gone.node) {
                state.wanted_by = None;
            }
        }
    }

    fn give_duty(&mut self, duty: Duty, node: NodeId, events: &mut Vec<Event>) {
        let Some(session) = self.sessions.get(&node).map(|session| session.epoch) else { return };
        let state = self.duties.entry(duty).or_default();
        state.epoch += 1;
        state.holder = Some(Holder { node, session });
        state.wanted_by = None;
        events.push(Event::DutyAssigned { duty, node, epoch: state.epoch });
    }

    /// Duties that the node holds or is to get, less those it is to hand over.
    fn load(&self, node: NodeId) -> usize {
        let belongs = |state: &&super::DutyState| match (state.wanted_by, state.holder) {
            (Some(next), _) => next == node,
            (None, Some(holder)) => holder.node == node,
            (None, None) => false,
        };
        self.duties.values().filter(belongs).count()
    }

    fn least_loaded(&self, duty: Duty) -> Option<NodeId> {
        let willing =
            self.sessions.iter().filter(|(_, session)| session.is_eligible() && session.duties.contains(&duty));
        willing.map(|(&node, _)| node).min_by_key(|&node| (self.is_bad_place(duty, node), self.load(node), node))
    }

    fn is_bad_place(&self, duty: Duty, node: NodeId) -> bool {
        duty == Duty::Timers && self.leader == Some(node)
    }
}
