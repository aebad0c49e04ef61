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
//! A node may be dedicated to one sensor (its session has the role `sensor:<ref>`): it runs that one and nothing else, and
//! while it is there nobody else does. It doesn't count for the bound, and neither does its sensor.
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
/// Beginning of the role, beside [`SENSORS_ROLE`], of a node that runs one sensor alone; its ref follows.
pub const SENSOR_ROLE: &str = "sensor:";

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

/// Where sensors may go.
struct Places {
    /// What each node has and will keep, so far.
    load: BTreeMap<NodeId, usize>,
    /// Sensors that have a node of their own.
    dedicated: BTreeSet<String>,
    /// Most for a node that may run any sensor; none if there is no such node.
    bound: Option<usize>,
}

impl SessionState {
    fn runs_sensors(&self) -> bool {
        self.is_eligible() && self.roles.contains(SENSORS_ROLE)
    }

    /// The sensor that its node alone runs, and alone.
    pub(super) fn dedicated_to(&self) -> Option<&str> {
        self.roles.iter().find_map(|role| role.strip_prefix(SENSOR_ROLE))
    }

    fn may_run(&self, sensor: &str, state: &SensorState, dedicated: &BTreeSet<String>) -> bool {
        match self.dedicated_to() {
            Some(only) => only == sensor,
            None => state.may_run_on(&self.name) && !dedicated.contains(sensor),
        }
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
        let mut places = self.places();
        if places.load.is_empty() {
            // Nobody could take over: who still runs something goes on.
            self.sensors.values_mut().for_each(|state| state.moves = false);
            return;
        }
        for (sensor, state) in &self.sensors {
            if let (Some(holder), false) = (state.holder, state.unwanted)
                && self.may_stay(sensor, state, holder.node, &places)
                && let Some(load) = places.load.get_mut(&holder.node)
            {
                *load += 1;
            }
        }
        let from = self.choose_moves(&places);
        for (sensor, state) in &mut self.sensors {
            let Some(holder) = state.holder.filter(|_| !state.unwanted) else { continue };
            let moves = from.contains(sensor);
            if moves && !state.moves {
                events.push(Event::SensorMoves { sensor: sensor.clone(), node: holder.node });
            }
            state.moves = moves;
            // One in a place where it may not be was never counted there.
            let session = self.sessions.get(&holder.node);
            let counted = session.is_some_and(|session| session.may_run(sensor, state, &places.dedicated));
            if moves
                && counted
                && let Some(load) = places.load.get_mut(&holder.node)
            {
                *load -= 1;
            }
        }
        self.give_free_sensors(&mut places, events);
    }

    fn places(&self) -> Places {
        let nodes = || self.sessions.iter().filter(|(_, session)| session.runs_sensors());
        let dedicated: BTreeSet<String> =
            nodes().filter_map(|(_, session)| session.dedicated_to()).map(str::to_owned).collect();
        let for_all = nodes().filter(|(_, session)| session.dedicated_to().is_none()).count();
        let wanted = self.sensors.iter().filter(|(sensor, state)| !state.unwanted && !dedicated.contains(*sensor));
        let bound = (for_all > 0).then(|| wanted.count().div_ceil(for_all));
        Places { load: nodes().map(|(&node, _)| (node, 0)).collect(), dedicated, bound }
    }

    /// Held sensors that are to leave their nodes: those of nodes that may run none, and what is above the bound.
    fn choose_moves(&self, places: &Places) -> BTreeSet<String> {
        let mut held: BTreeMap<NodeId, Vec<(bool, u64, &String)>> = BTreeMap::new();
        let mut moves = BTreeSet::new();
        for (sensor, state) in &self.sensors {
            let Some(holder) = state.holder.filter(|_| !state.unwanted) else { continue };
            let is_dedicated = places.dedicated.contains(sensor);
            if !self.may_stay(sensor, state, holder.node, places) {
                moves.insert(sensor.clone());
            } else if places.load.contains_key(&holder.node) {
                if !state.nodes.is_empty() || is_dedicated {
                    continue;
                }
                // What is already moving goes on doing so; then what suits the node least.
                held.entry(holder.node).or_default().push((!state.moves, score(sensor, holder.node), sensor));
            } else if is_dedicated || places.bound.is_some() {
                moves.insert(sensor.clone());
            }
        }
        for (node, mut sensors) in held {
            let load = places.load.get(&node).copied().unwrap_or_default();
            let above = places.bound.map_or(0, |bound| load.saturating_sub(bound));
            sensors.sort_unstable();
            moves.extend(sensors.into_iter().take(above).map(|(_, _, sensor)| sensor.clone()));
        }
        moves
    }

    fn may_stay(&self, sensor: &str, state: &SensorState, node: NodeId, places: &Places) -> bool {
        // Of a node without a session the name isn't known: there it can't stay anyway.
        self.sessions.get(&node).is_none_or(|session| session.may_run(sensor, state, &places.dedicated))
    }

    fn give_free_sensors(&mut self, places: &mut Places, events: &mut Vec<Event>) {
        // Those that have no choice go first.
        let free = self.sensors.iter().filter(|(_, state)| state.holder.is_none());
        let mut free: Vec<(bool, String)> = free
            .map(|(sensor, state)| (state.nodes.is_empty() && !places.dedicated.contains(sensor), sensor.clone()))
            .collect();
        free.sort_unstable();
        for (is_bounded, sensor) in &free {
            let Some(state) = self.sensors.get_mut(sensor) else { continue };
            let suits = |node: &NodeId| {
                self.sessions.get(node).is_some_and(|session| session.may_run(sensor, state, &places.dedicated))
            };
            let has_room = |load: usize| !is_bounded || places.bound.is_some_and(|bound| load < bound);
            let below = places.load.iter().filter(|(node, load)| has_room(**load) && suits(node));
            let below = below.map(|(&node, _)| node);
            let Some(node) = below.max_by_key(|&node| (score(sensor, node), node)) else { continue };
            let Some(session) = self.sessions.get(&node) else { continue };
            self.last_sensor_epoch += 1;
            state.epoch = self.last_sensor_epoch;
            state.holder = Some(Holder { node, session: session.epoch });
            state.moves = false;
            *places.load.entry(node).or_default() += 1;
            events.push(Event::SensorAssigned { sensor: sensor.clone(), node, epoch: state.epoch });
        }
    }
}
