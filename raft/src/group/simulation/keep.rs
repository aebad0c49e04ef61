//! What a simulated node does for its session, as the real keeper does, and what the users of its rights do.

use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::time::Duration;

use super::consensus::{Answer, Message};
use super::net::Time;
use super::node::{Call, LEASE, Node, RENEW, TTL, limits};
use super::oracle::Belief;
use super::world::{Event, World, id};
use crate::group::keeper::{is_over, to_release};
use crate::group::leases::{Renewed, View};
use crate::state::{Claim, Command, Response};

/// How long a proposal may take before it is tried again.
const PATIENCE: Duration = Duration::from_millis(700);
const AGAIN: Duration = Duration::from_millis(150);

impl World {
    fn call(&mut self, me: usize, message: impl FnOnce(u64) -> Message, within: Duration, renewal: bool) {
        let Some(leader) = self.nodes[me].memory.consensus.leader else { return };
        self.calls += 1;
        let (number, sent) = (self.calls, self.local(me));
        self.nodes[me].memory.call = Some(Call { number, renewal, sent, until: sent + within });
        self.send(me, leader, message(number));
    }

    /// Proposes without waiting for the answer.
    pub fn say(&mut self, me: usize, command: Command) {
        let Some(leader) = self.nodes[me].memory.consensus.leader else { return };
        self.calls += 1;
        self.send(me, leader, Message::Propose { call: self.calls, command: Rc::new(command) });
    }

    pub fn keep(&mut self, me: usize) {
        let now = self.local(me);
        let memory = &mut self.nodes[me].memory;
        if let Some(call) = &memory.call {
            if now < call.until {
                return;
            }
            if call.renewal {
                memory.patience = (memory.patience * 2).min(TTL / 3);
            }
            memory.call = None;
        }
        let Some(epoch) = memory.epoch.filter(|&epoch| !is_over(&memory.state, id(me), epoch)) else {
            return self.register(me);
        };
        if memory.sent.is_none_or(|sent| now >= sent + RENEW) {
            let within = memory.patience;
            return self.call(me, |call| Message::Renew { call, epoch }, within, true);
        }
        self.say_what_is_due(me, epoch);
    }

    fn say_what_is_due(&mut self, me: usize, epoch: u64) {
        let now = self.local(me);
        let memory = &mut self.nodes[me].memory;
        memory.said.retain(|_, said| now < *said + AGAIN);
        let session = memory.state.sessions.get(&id(me)).cloned();
        let two = memory.state.agreed_version() >= 2;
        let drains = memory.drains && two;
        let release = to_release(&memory.state, id(me), &memory.given_up);
        let mut due = Vec::new();
        if session.as_ref().is_some_and(|session| two && session.lease_ms == 0) {
            due.push(Command::SetLease { node: id(me), epoch, lease_ms: LEASE.as_millis() as u64 });
        }
        if drains && session.is_some_and(|session| !session.draining) {
            due.push(Command::DrainSession { node: id(me), epoch });
        }
        if let Some((duty, epoch, command)) = release {
            if two {
                memory.given_up.duty(duty, epoch);
            }
            due.push(command);
        }
        for (sensor, epoch) in memory.given_up.stopped_sensors(now, id(me), &memory.state) {
            memory.given_up.sensor(&sensor, epoch);
            due.push(Command::ReleaseSensor { sensor, node: id(me), epoch });
        }
        // Not at every step: the answer takes its time.
        due.retain(|command| match memory.said.entry(command.to_string()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(now);
                true
            }
        });
        due.into_iter().for_each(|command| self.say(me, command));
    }

    fn register(&mut self, me: usize) {
        let now = self.local(me);
        let nonce = self.chance.below(u64::MAX).max(1);
        let version = self.nodes[me].version;
        let memory = &mut self.nodes[me].memory;
        memory.epoch = None;
        let known = memory.state.sessions.get(&id(me)).map_or(0, |session| session.epoch);
        let claim = memory.claim.filter(|(claim, _)| claim.after >= known);
        let (claim, sent) = claim.unwrap_or((Claim { after: known, nonce }, now));
        memory.claim = Some((claim, sent));
        let two = version >= 2 && memory.state.agreed_version() >= 2;
        let command = Command::RegisterSession {
            node: id(me),
            name: format!("n{me}"),
            roles: ["sensors".to_owned()].into(),
            duties: model::Duty::ALL.into(),
            ttl_ms: TTL.as_millis() as u64,
            lease_ms: if two { LEASE.as_millis() as u64 } else { 0 },
            claim: two.then_some(claim),
        };
        self.call(me, |call| Message::Propose { call, command: Rc::new(command) }, PATIENCE, false);
    }

    pub fn proposed(&mut self, me: usize, call: u64, answer: Option<Response>) {
        let memory = &mut self.nodes[me].memory;
        if memory.call.as_ref().is_none_or(|waiting| waiting.number != call || waiting.renewal) {
            return;
        }
        memory.call = None;
        if let Some(Response::Session { epoch }) = answer
            && let Some((_, sent)) = memory.claim.take()
        {
            memory.epoch = Some(epoch);
            memory.sent = Some(sent);
            memory.patience = RENEW;
            memory.renewed = Some(Renewed::next(memory.renewed, epoch, Some(0), sent, limits()));
            self.show(me);
        }
    }

    pub fn renewed(&mut self, me: usize, call: u64, answer: Answer) {
        let memory = &mut self.nodes[me].memory;
        let Some(waiting) = memory.call.take_if(|waiting| waiting.number == call && waiting.renewal) else { return };
        let Some(epoch) = memory.epoch else { return };
        match answer {
            Answer::Accepted(era) => {
                memory.sent = Some(waiting.sent);
                memory.patience = RENEW;
                memory.renewed = Some(Renewed::next(memory.renewed, epoch, era, waiting.sent, limits()));
                self.show(me);
            }
            Answer::Over => {
                memory.epoch = None;
                memory.renewed = None;
                self.show(me);
            }
            Answer::NotLeader => {}
        }
    }

    /// Publishes what the node may use, and lets the users of it follow.
    pub fn show(&mut self, me: usize) {
        let now = self.local(me);
        let node = &mut self.nodes[me];
        let memory = &mut node.memory;
        let view = View::at(now, id(me), memory.renewed, &memory.state, &mut memory.given_up);
        if view == memory.view {
            return;
        }
        let clock = node.clock;
        for (at, duty) in model::Duty::ALL.iter().enumerate() {
            match view.duties[at] {
                Some(lease) => {
                    let belief = Belief { epoch: lease.epoch, until: clock.truth(lease.valid_until) };
                    self.oracle.believes(me, duty.as_str(), belief, self.now);
                }
                None => self.oracle.gives_up(me, duty.as_str()),
            }
        }
        let mut stops: Vec<(String, u64)> = Vec::new();
        for (sensor, lease) in &view.sensors {
            let (epoch, stopping) = memory.running.entry(sensor.clone()).or_insert((lease.epoch, None));
            if *epoch != lease.epoch {
                // A process of an earlier ownership is still being stopped: the new one starts afterwards.
                if stopping.is_none() {
                    *stopping = Some(self.now);
                    stops.push((sensor.clone(), *epoch));
                }
                continue;
            }
            let belief = Belief { epoch: lease.epoch, until: clock.truth(lease.valid_until) };
            self.oracle.believes(me, sensor, belief, self.now);
        }
        let running = memory.running.iter_mut().filter(|(sensor, _)| !view.sensors.contains_key(*sensor));
        for (sensor, (epoch, stopping)) in running {
            if stopping.is_none() {
                *stopping = Some(self.now);
                stops.push((sensor.clone(), *epoch));
            }
        }
        memory.view = view;
        for (sensor, epoch) in stops {
            // The process lives until it is stopped, at most as long as its last lease (the oracle knows that).
            let at: Time = self.now + Node::stop_time(&mut self.chance);
            self.queue.push(at, Event::Stopped { node: me, life: self.nodes[me].life, sensor, epoch });
        }
    }

    pub fn stopped(&mut self, me: usize, sensor: String, epoch: u64) {
        self.oracle.gives_up(me, &sensor);
        let memory = &mut self.nodes[me].memory;
        memory.running.remove(&sensor);
        memory.given_up.sensor(&sensor, epoch);
        self.say(me, Command::ReleaseSensor { sensor, node: id(me), epoch });
        self.nodes[me].memory.view = View::default();
        self.show(me);
    }
}
