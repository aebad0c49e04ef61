//! Which session runs which sensor (DESIGN §4 "partitions"; invariant S1).
//!
//! Placement is rendezvous hashing with bounded load: a free sensor goes to the eligible node that scores highest for it
//! among those below the bound, `ceil(sensors / nodes)`. Held sensors stay where they are; only what is above the bound
//! moves, so that a node that joins takes its share and nothing else moves, and of a node that leaves only its own
//! sensors move.
//!
//! A sensor that is pinned to nodes runs on one of those or nowhere; it counts for the bound, and the bound doesn't move
//! it.
//!
//! A sensor is given away only when its holder has released it (it has stopped the process) or the holder's lease is
//! over (the session is suspended or ended).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{Event, Refusal, Response};
use super::duties::Holder;
use super::{MAX_KEY_BYTES, NodeId, SessionState, State};

/// Most sensors of a cluster.
pub const MAX_SENSORS: usize = 10_000;
/// The role of the nodes that run sensors.
pub const SENSORS_ROLE: &str = "sensors";

/// One sensor. A free one that nobody wants doesn't exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorState {
    /// Higher than that of any earlier owner of any sensor.
    pub epoch: u64,
    pub holder: Option<Holder>,
    /// The holder is asked to stop and release it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moves: bool,
    /// Nobody wants it any more; it is forgotten once its holder has stopped it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwanted: bool,
    /// Names of the nodes that alone may run it; any may if there is none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<String>,
}

impl SensorState {
    pub(super) fn may_run_on(&self, name: &str) -> bool {
        self.nodes.is_empty() || self.nodes.contains(name)
    }
}

impl SessionState {
    fn runs_sensors(&self) -> bool {
        self.is_eligible() && self.roles.contains(SENSORS_ROLE)
    }
}

/// How well a node suits a sensor: the same everywhere and for ever, for placements are in snapshots.
fn score(sensor: &str, node: NodeId) -> u64 {
    // FNV-1a over the name, then the node mixed in by the finalizer of splitmix64.
    let name = sensor
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(name ^ mix(node))
}

const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl State {
    pub(super) fn want_sensors(
        &mut self,
        revision: u64,
        refs: &BTreeSet<String>,
        pins: &BTreeMap<String, BTreeSet<String>>,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        if refs.len() > MAX_SENSORS || pins.len() > MAX_SENSORS {
            return Err(Refusal::TooMuch);
        }
        if refs.iter().any(|sensor| sensor.is_empty() || sensor.len() > MAX_KEY_BYTES) {
            return Err(Refusal::BadKey);
        }
        let nodes_of = |sensor: &String| pins.get(sensor).cloned().unwrap_or_default();
        if self.wanted_sensors().eq(refs) && refs.iter().all(|sensor| self.sensors[sensor].nodes == nodes_of(sensor)) {
            return Ok(Response::Done);
        }
        if revision != self.sensor_revision {
            return Err(Refusal::OutOfDate);
        }
        self.sensor_revision += 1;
        for (sensor, state) in &mut self.sensors {
            let unwanted = !refs.contains(sensor);
            if unwanted
                && !state.unwanted
                && let Some(holder) = state.holder
            {
                events.push(Event::SensorMoves { sensor: sensor.clone(), node: holder.node });
            }
            state.unwanted = unwanted;
        }
        for sensor in refs {
            self.sensors.entry(sensor.clone()).or_default().nodes = nodes_of(sensor);
        }
        self.place_sensors(events);
        Ok(Response::Done)
    }

    /// Those that shall run, in order.
    pub fn wanted_sensors(&self) -> impl Iterator<Item = &String> {
        self.sensors.iter().filter(|(_, state)| !state.unwanted).map(|(sensor, _)| sensor)
    }

    pub(super) fn release_sensor(
        &mut self,
        sensor: &str,
        node: NodeId,
        epoch: u64,
        events: &mut Vec<Event>,
    ) -> Result<Response, Refusal> {
        let state = self.sensors.get_mut(sensor).ok_or(Refusal::SensorNotHeld)?;
        if state.epoch != epoch || state.holder.is_none_or(|holder| holder.node != node) {
            return Err(Refusal::SensorNotHeld);
        }
        state.holder = None;
        state.moves = false;
        self.place_sensors(events);
        Ok(Response::Done)
    }

    /// Takes the sensors of a session whose rights are over. They are placed anew by the caller.
    pub(super) fn drop_sensors(&mut self, gone: Holder) {
        for state in self.sensors.values_mut() {
            if state.holder == Some(gone) {
                state.holder = None;
                state.moves = false;
            }
        }
    }

    /// Forgets what nobody wants, gives free sensors to nodes, and asks for those that are in the wrong place.
    pub(super) fn place_sensors(&mut self, events: &mut Vec<Event>) {
        self.sensors.retain(|_, state| state.holder.is_some() || !state.unwanted);
        let nodes = self.sessions.iter().filter(|(_, session)| session.runs_sensors());
        // What each node has and will keep, so far.
        let mut load: BTreeMap<NodeId, usize> = nodes.map(|(&node, _)| (node, 0)).collect();
        if load.is_empty() {
            // Nobody could take over: who still runs something goes on.
            self.sensors.values_mut().for_each(|state| state.moves = false);
            return;
        }
        let wanted = self.sensors.values().filter(|state| !state.unwanted).count();
        let bound = wanted.div_ceil(load.len());
        for state in self.sensors.values() {
            if let (Some(holder), false) = (state.holder, state.unwanted)
                && self.may_stay(state, holder.node)
                && let Some(load) = load.get_mut(&holder.node)
            {
                *load += 1;
            }
        }
        let from = self.choose_moves(&load, bound);
        for (sensor, state) in &mut self.sensors {
            let Some(holder) = state.holder.filter(|_| !state.unwanted) else { continue };
            let moves = from.contains(sensor);
            if moves && !state.moves {
                events.push(Event::SensorMoves { sensor: sensor.clone(), node: holder.node });
            }
            state.moves = moves;
            // One in a place where it may not be was never counted there.
            let counted = self.sessions.get(&holder.node).is_some_and(|session| state.may_run_on(&session.name));
            if moves
                && counted
                && let Some(load) = load.get_mut(&holder.node)
            {
                *load -= 1;
            }
        }
        self.give_free_sensors(&mut load, bound, events);
    }

    /// Held sensors that are to leave their nodes: those of nodes that may run none, and what is above the bound.
    fn choose_moves(&self, load: &BTreeMap<NodeId, usize>, bound: usize) -> BTreeSet<String> {
        let mut held: BTreeMap<NodeId, Vec<(bool, u64, &String)>> = BTreeMap::new();
        let mut moves = BTreeSet::new();
        for (sensor, state) in &self.sensors {
            let Some(holder) = state.holder.filter(|_| !state.unwanted) else { continue };
            if !self.may_stay(state, holder.node) {
                moves.insert(sensor.clone());
            } else if load.contains_key(&holder.node) {
                if !state.nodes.is_empty() {
                    continue;
                }
                // What is already moving goes on doing so; then what suits the node least.
                held.entry(holder.node).or_default().push((!state.moves, score(sensor, holder.node), sensor));
            } else {
                moves.insert(sensor.clone());
            }
        }
        for (node, mut sensors) in held {
            let above = load.get(&node).map_or(0, |load| load.saturating_sub(bound));
            sensors.sort_unstable();
            moves.extend(sensors.into_iter().take(above).map(|(_, _, sensor)| sensor.clone()));
        }
        moves
    }

    fn may_stay(&self, sensor: &SensorState, node: NodeId) -> bool {
        // Of a node without a session the name isn't known: there it can't stay anyway.
        self.sessions.get(&node).is_none_or(|session| sensor.may_run_on(&session.name))
    }

    fn give_free_sensors(&mut self, load: &mut BTreeMap<NodeId, usize>, bound: usize, events: &mut Vec<Event>) {
        // Those that have no choice go first.
        let free = self.sensors.iter().filter(|(_, state)| state.holder.is_none());
        let mut free: Vec<(bool, String)> =
            free.map(|(sensor, state)| (state.nodes.is_empty(), sensor.clone())).collect();
        free.sort_unstable();
        for (_, sensor) in &free {
            let Some(state) = self.sensors.get_mut(sensor) else { continue };
            let suits = |node: &NodeId| self.sessions.get(node).is_some_and(|session| state.may_run_on(&session.name));
            let is_pinned = !state.nodes.is_empty();
            let below = load.iter().filter(|(node, load)| (is_pinned || **load < bound) && suits(node));
            let below = below.map(|(&node, _)| node);
            let Some(node) = below.max_by_key(|&node| (score(sensor, node), node)) else { continue };
            let Some(session) = self.sessions.get(&node) else { continue };
            self.last_sensor_epoch += 1;
            state.epoch = self.last_sensor_epoch;
            state.holder = Some(Holder { node, session: session.epoch });
            state.moves = false;
            *load.entry(node).or_default() += 1;
            events.push(Event::SensorAssigned { sensor: sensor.clone(), node, epoch: state.epoch });
        }
    }
}
