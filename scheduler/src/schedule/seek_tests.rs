//! Random worlds: nodes that seek, a coordinator that may forget, a store that doesn't.

use coordinator::{Holder, KeyState};
use proptest::prelude::*;

use super::*;

/// What is on its way; anything of it may come next.
#[derive(Debug, Clone)]
enum OnItsWay {
    Effect(usize, Effect),
    Answer { node: usize, id: Id, key: String, answer: Option<Answer> },
    Grant { node: usize, id: Id, key: String, grant: Grant },
    Released(Id, Vec<String>),
    Retreated(usize, Id, bool),
}

/// xorshift*
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Runs,
    Over,
}

struct World {
    random: Random,
    nodes: Vec<Seekers>,
    keys: HashMap<String, KeyState>,
    token: u64,
    slots: HashMap<(String, u32), Id>,
    executions: HashMap<Id, (Vec<Limit>, State)>,
    on_its_way: Vec<OnItsWay>,
    /// In the order in which they went on.
    went_on: Vec<Id>,
    faults: bool,
}

fn id(n: usize) -> Id {
    Id::derive("test", Timestamp::default(), &[&n.to_string()])
}

impl World {
    fn new(seed: u64, nodes: usize, faults: bool) -> Self {
        Self {
            random: Random(seed | 1),
            nodes: (0..nodes).map(|_| Seekers::default()).collect(),
            keys: HashMap::new(),
            token: 0,
            slots: HashMap::new(),
            executions: HashMap::new(),
            on_its_way: Vec::new(),
            went_on: Vec::new(),
            faults,
        }
    }

    fn collect(&mut self, node: usize) {
        let effects = self.nodes[node].take_effects();
        self.on_its_way.extend(effects.into_iter().map(|effect| OnItsWay::Effect(node, effect)));
    }

    fn want(&mut self, node: usize, id: Id, at: usize) {
        let (limits, state) = &self.executions[&id];
        if *state == State::Open {
            self.nodes[node].want(id, Timestamp::from_micros(at as i64), limits.clone(), false);
            self.collect(node);
        }
    }

    fn tell(&mut self, key: &str, woken: Vec<(String, Grant)>) {
        for (request, grant) in woken {
            let id = request.parse().unwrap();
            for node in 0..self.nodes.len() {
                if self.faults && self.random.below(8) == 0 {
                    continue;
                }
                self.on_its_way.push(OnItsWay::Grant { node, id, key: key.to_owned(), grant });
            }
        }
    }

    fn step(&mut self, at: usize) {
        let next = self.on_its_way.swap_remove(at);
        match next {
            OnItsWay::Effect(node, effect) => self.apply(node, effect),
            OnItsWay::Answer { node, id, key, answer } => {
                self.nodes[node].asked(id, &key, answer);
                self.collect(node);
            }
            OnItsWay::Grant { node, id, key, grant } => {
                self.nodes[node].heard(id, &key, grant);
                self.collect(node);
            }
            OnItsWay::Retreated(node, id, done) => {
                self.nodes[node].retreated(id, done);
                self.collect(node);
            }
            OnItsWay::Released(id, keys) => {
                for key in keys {
                    let woken = self.keys.entry(key.clone()).or_default().release(&id.to_string(), &mut self.token);
                    self.tell(&key, woken);
                }
            }
        }
    }

    fn apply(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Ask { id, limit } => {
                let fails = self.faults && self.random.below(10) == 0;
                let answer = (!fails).then(|| {
                    let state = self.keys.entry(limit.key.clone()).or_default();
                    let asked = state.ask(limit.threshold, &id.to_string(), !limit.cancel, &mut self.token);
                    let (answer, woken) = asked.unwrap();
                    self.tell(&limit.key, woken);
                    answer
                });
                self.on_its_way.push(OnItsWay::Answer { node, id, key: limit.key, answer });
            }
            Effect::Retreat { id, keys } => {
                let done = !(self.faults && self.random.below(10) == 0);
                for key in keys.iter().filter(|_| done) {
                    let woken = self.keys.entry(key.clone()).or_default().release(&id.to_string(), &mut self.token);
                    self.tell(key, woken);
                }
                self.on_its_way.push(OnItsWay::Retreated(node, id, done));
            }
            Effect::Wait { .. } => {}
            Effect::Admit { id, permits } => {
                let outcome = self.admit(id, &permits);
                self.nodes[node].admitted(id, outcome);
                self.collect(node);
            }
            Effect::Cancel { id } => self.end(id),
            Effect::Release { id, keys } => self.on_its_way.push(OnItsWay::Released(id, keys)),
            Effect::Mend { key, limit } => {
                let found = self.mend(&key, limit);
                self.nodes[node].mended(&key, Some(found));
                self.collect(node);
            }
        }
    }

    /// The store's commit.
    fn admit(&mut self, id: Id, permits: &[HeldPermit]) -> Admitted {
        let (limits, state) = self.executions.get_mut(&id).unwrap();
        match state {
            State::Runs => return Admitted::GoesOn,
            State::Over => return Admitted::NotNeeded,
            State::Open => {}
        }
        assert_eq!(limits.len(), permits.len());
        let place = |held: &HeldPermit| (held.key.clone(), held.slot);
        let taken: Vec<String> =
            permits.iter().filter(|held| self.slots.contains_key(&place(held))).map(|h| h.key.clone()).collect();
        if !taken.is_empty() {
            return Admitted::Taken(taken);
        }
        for (held, limit) in permits.iter().zip(limits.iter()) {
            assert!(held.key == limit.key && held.slot < limit.threshold);
            self.slots.insert(place(held), id);
        }
        *state = State::Runs;
        self.went_on.push(id);
        for limit in &self.executions[&id].0 {
            let running = self.slots.keys().filter(|(key, _)| *key == limit.key).count();
            assert!(running <= limit.threshold as usize, "P1: {running} run under {limit:?}");
        }
        Admitted::GoesOn
    }

    fn end(&mut self, id: Id) {
        let (limits, state) = self.executions.get_mut(&id).unwrap();
        if *state == State::Over {
            return;
        }
        *state = State::Over;
        let keys: Vec<String> = limits.iter().map(|limit| limit.key.clone()).collect();
        self.slots.retain(|_, holder| *holder != id);
        if !(self.faults && self.random.below(6) == 0) {
            self.on_its_way.push(OnItsWay::Released(id, keys));
        }
        for node in 0..self.nodes.len() {
            if !(self.faults && self.random.below(4) == 0) {
                self.nodes[node].over(id);
                self.collect(node);
            }
        }
    }

    /// As [`domain::permits::reconcile`].
    fn mend(&mut self, key: &str, limit: u32) -> Found {
        let state = self.keys.entry(key.to_owned()).or_default();
        let held = state.holders();
        let stored: HashMap<String, u32> =
            self.slots.iter().filter(|((k, _), _)| k == key).map(|((_, slot), id)| (id.to_string(), *slot)).collect();
        let mut woken = Vec::new();
        let mut live: Vec<Holder> = Vec::new();
        for (holder, _) in held {
            let id: Id = holder.request.parse().unwrap();
            if stored.contains_key(&holder.request) {
                continue;
            } else if self.executions[&id].1 == State::Over {
                woken.extend(state.release(&holder.request, &mut self.token));
            } else {
                live.push(holder);
            }
        }
        let known: HashMap<String, u32> = state.holders().into_iter().map(|(h, _)| (h.request, h.slot)).collect();
        let restored = stored.iter().any(|(request, slot)| known.get(request) != Some(slot));
        if restored {
            let mut holders: Vec<Holder> =
                stored.iter().map(|(request, slot)| Holder { request: request.clone(), slot: *slot }).collect();
            holders.extend(live.into_iter().filter(|h| stored.values().all(|slot| *slot != h.slot)));
            woken.extend(state.restore(limit, &holders, &mut self.token));
        }
        let free = state.holders().len() < limit as usize;
        let all = state.holders().into_iter().map(|(holder, _)| holder.request);
        let granted = all.filter(|request| !stored.contains_key(request)).map(|id| id.parse().unwrap()).collect();
        self.tell(key, woken);
        Found { restored, free, granted }
    }

    fn end_some(&mut self) {
        let running: Vec<Id> =
            self.executions.iter().filter(|(_, (_, s))| *s == State::Runs).map(|(id, _)| *id).collect();
        if !running.is_empty() {
            let mut running = running;
            running.sort_unstable();
            let which = self.random.below(running.len());
            self.end(running[which]);
        }
    }

    fn disturb(&mut self) {
        let node = self.random.below(self.nodes.len());
        match self.random.below(4) {
            0 => self.keys.clear(),
            1 => self.nodes[node] = Seekers::default(),
            2 => self.nodes[node].lost(),
            _ => self.on_its_way.retain(|what| !matches!(what, OnItsWay::Grant { .. })),
        }
        self.collect(node);
    }

    /// What timers and recovery do in time.
    fn tick(&mut self) {
        for node in 0..self.nodes.len() {
            self.nodes[node].retry();
            for (key, limit) in self.nodes[node].awaited() {
                self.nodes[node].mend(key, limit);
            }
            self.collect(node);
        }
        let mut open: Vec<Id> =
            self.executions.iter().filter(|(_, (_, state))| *state == State::Open).map(|(id, _)| *id).collect();
        open.sort_unstable();
        for id in open {
            let node = self.random.below(self.nodes.len());
            if self.nodes.iter().all(|seekers| !seekers.knows(id)) {
                self.want(node, id, 0);
            }
        }
    }

    fn drain(&mut self) {
        for _ in 0..20_000 {
            if self.executions.values().all(|(_, state)| *state == State::Over) {
                return;
            }
            match self.on_its_way.len() {
                0 => {
                    self.end_some();
                    self.tick();
                }
                waiting => {
                    let at = self.random.below(waiting);
                    self.step(at);
                }
            }
        }
        let stuck: Vec<_> = self.executions.iter().filter(|(_, (_, state))| *state != State::Over).collect();
        panic!("P2: nothing moves any more: {stuck:?}\n{:?}\n{:?}\n{:?}", self.nodes, self.keys, self.on_its_way);
    }
}

fn limits(random: &mut Random, keys: usize, cancel: bool) -> Vec<Limit> {
    let mut limits: Vec<Limit> = (0..1 + random.below(3))
        .map(|_| {
            let key = random.below(keys);
            Limit { key: format!("k{key}"), threshold: 1 + key as u32 % 3, cancel: cancel && key == 0 }
        })
        .collect();
    limits.sort_by(|a, b| a.key.cmp(&b.key));
    limits.dedup_by(|a, b| a.key == b.key);
    limits
}

fn live(seed: u64, nodes: usize, faults: bool, count: usize) -> World {
    let mut world = World::new(seed, nodes, faults);
    let mut asked = 0;
    while asked < count {
        match world.random.below(if faults { 40 } else { 38 }) {
            0..10 => {
                let limits = limits(&mut world.random, 4, seed.is_multiple_of(2));
                world.executions.insert(id(asked), (limits, State::Open));
                let node = world.random.below(nodes);
                world.want(node, id(asked), asked);
                asked += 1;
            }
            10..14 => world.end_some(),
            14..16 if faults => world.tick(),
            38.. => world.disturb(),
            _ if !world.on_its_way.is_empty() => {
                let at = world.random.below(world.on_its_way.len());
                world.step(at);
            }
            _ => {}
        }
    }
    world.faults = false;
    world.drain();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    /// P1 at every step, and P2: everything ends, whatever is lost or forgotten on the way.
    #[test]
    fn thresholds_hold_and_all_end(seed in any::<u64>(), nodes in 1usize..4, faults in any::<bool>()) {
        live(seed, nodes, faults, 60);
    }

    /// Nothing fails, one node, one key: first come, first served.
    #[test]
    fn the_order_is_kept(seed in any::<u64>(), threshold in 1u32..4) {
        let mut world = World::new(seed, 1, false);
        for n in 0..40 {
            let limits = vec![Limit { key: "k".to_owned(), threshold, cancel: false }];
            world.executions.insert(id(n), (limits, State::Open));
            world.want(0, id(n), n);
            // Commits of several that were granted may overtake each other; here they don't.
            while let Some(at) = (!world.on_its_way.is_empty()).then_some(0) {
                world.step(at);
            }
            if world.random.below(3) == 0 {
                world.end_some();
            }
        }
        world.drain();
        prop_assert_eq!(world.went_on, (0..40).map(id).collect::<Vec<_>>());
    }
}

/// A policy that is gone lets its waiters go.
#[test]
fn waiters_go_when_their_limits_do() {
    let mut world = World::new(1, 1, false);
    let limits = vec![Limit { key: "k".to_owned(), threshold: 0, cancel: false }];
    world.executions.insert(id(0), (limits, State::Open));
    world.want(0, id(0), 0);
    while !world.on_its_way.is_empty() {
        world.step(0);
    }
    assert_eq!(world.nodes[0].awaited(), [("k".to_owned(), 0)]);
    world.executions.get_mut(&id(0)).unwrap().0.clear();
    world.want(0, id(0), 0);
    while !world.on_its_way.is_empty() {
        world.step(0);
    }
    assert_eq!(world.went_on, [id(0)]);
    assert!(world.nodes[0].is_empty() && world.keys["k"].is_idle());
}
