//! Property tests of the state machine: any sequence of commands keeps the invariants of the module's head.

use std::collections::{BTreeMap, BTreeSet};

use model::Duty;
use proptest::prelude::*;

use super::*;

/// Commands of version 2, most of them with numbers that fit now and then.
fn newer() -> impl Strategy<Value = Command> {
    let node = 1u64..5;
    let epoch = 0u64..12;
    let sensor = prop::sample::select(vec!["p.a", "p.b", "p.c", "p.d"]).prop_map(str::to_owned);
    let name = prop::sample::select(vec!["n1", "n2", "n3", "n9"]).prop_map(str::to_owned);
    let pins = prop::collection::btree_map(sensor.clone(), prop::collection::btree_set(name, 0..3), 0..3);
    let key = prop::sample::select(vec!["a", "b", ""]).prop_map(str::to_owned);
    let request = prop::sample::select(vec!["r1", "r2", "r3", "r4"]).prop_map(str::to_owned);
    let duty = prop::sample::select(Duty::ALL.to_vec());
    let roles: [&[&str]; 5] =
        [&[], &[SENSORS_ROLE], &[SENSORS_ROLE], &[SENSORS_ROLE, "sensor:p.a"], &[SENSORS_ROLE, "sensor:p.e"]];
    let roles = prop::sample::select(roles.to_vec());
    prop_oneof![
        1 => Just(Command::SetVersion { version: 2 }),
        6 => (node.clone(), prop::collection::btree_set(duty.clone(), 0..4), roles, epoch.clone(), 1u64..6).prop_map(
            |(node, duties, roles, after, nonce)| Command::RegisterSession {
                node,
                name: format!("n{node}"),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                duties,
                ttl_ms: 4_000,
                lease_ms: 1_200,
                claim: Some(Claim { after, nonce }),
            }
        ),
        1 => node.clone().prop_map(|node| Command::Lead { node }),
        3 => (node.clone(), epoch.clone(), 0u64..3)
            .prop_map(|(node, epoch, era)| Command::SuspendSession { node, epoch, era, term: 0 }),
        3 => (node.clone(), epoch.clone(), 1u64..3)
            .prop_map(|(node, epoch, era)| Command::ResumeSession { node, epoch, era }),
        1 => (node.clone(), epoch.clone()).prop_map(|(node, epoch)| Command::DrainSession { node, epoch }),
        3 => (duty, node.clone(), epoch.clone()).prop_map(|(duty, node, epoch)| Command::YieldDuty { duty, node, epoch }),
        4 => (0u64..6, prop::collection::btree_set(sensor.clone(), 0..5), pins)
            .prop_map(|(revision, refs, pins)| Command::WantSensors { revision, refs, pins }),
        4 => (sensor, node, epoch.clone())
            .prop_map(|(sensor, node, epoch)| Command::ReleaseSensor { sensor, node, epoch }),
        3 => (key.clone(), 0u32..4, request.clone(), any::<bool>())
            .prop_map(|(key, limit, request, wait)| Command::AskPermit { key, limit, request, wait }),
        2 => (key.clone(), request.clone()).prop_map(|(key, request)| Command::GiveUpPermit { key, request }),
        1 => (key, 0u32..4, prop::collection::vec((request, 0u32..5), 0..3))
            .prop_map(|(key, limit, holders)| Command::RestorePermits { key, limit, holders }),
        1 => ("[a-c]{0,2}", "[a-c]{1,3}")
            .prop_map(|(name, value)| Command::Agree { name, value: Secret::new(value.into_bytes()) }),
        1 => (0u64..5, "[a-c]{0,2}").prop_map(|(expected, hash)| Command::SetContent { expected, hash }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![older(), newer()]
}

fn older() -> impl Strategy<Value = Command> {
    let node = 1u64..5;
    let epoch = 0u64..12;
    let duty = prop::sample::select(Duty::ALL.to_vec());
    let duties = prop::collection::btree_set(duty.clone(), 0..4);
    let key = prop::sample::select(vec!["a", "b", ""]).prop_map(str::to_owned);
    let request = prop::sample::select(vec!["r1", "r2", "r3", "r4"]).prop_map(str::to_owned);
    prop_oneof![
        4 => (node.clone(), duties).prop_map(|(node, duties)| Command::RegisterSession {
            node,
            name: format!("n{node}"),
            roles: BTreeSet::new(),
            duties,
            ttl_ms: 5_000,
            lease_ms: 0,
            claim: None,
        }),
        2 => (node.clone(), epoch.clone()).prop_map(|(node, epoch)| Command::EndSession { node, epoch }),
        2 => (node.clone(), epoch.clone()).prop_map(|(node, epoch)| Command::ExpireSession { node, epoch, term: 0 }),
        2 => (duty, node.clone(), epoch.clone())
            .prop_map(|(duty, node, epoch)| Command::ReleaseDuty { duty, node, epoch }),
        1 => "[a-c]{0,2}".prop_map(|hash| Command::AdvanceContent { hash }),
        4 => (key.clone(), 0u32..4, request.clone(), node, epoch, any::<bool>()).prop_map(
            |(key, limit, request, node, session, wait)| Command::AcquirePermit {
                key, limit, request, node, session, wait
            }
        ),
        2 => (key.clone(), 0u64..20).prop_map(|(key, token)| Command::ReleasePermit { key, token }),
        1 => (key, request).prop_map(|(key, request)| Command::CancelPermit { key, request }),
    ]
}

fn check_sensors(state: &State) {
    let runs = |session: &SessionState| session.is_eligible() && session.roles.contains(SENSORS_ROLE);
    let nodes: Vec<(NodeId, Option<&str>)> = state
        .sessions
        .iter()
        .filter(|(_, session)| runs(session))
        .map(|(&node, session)| (node, session.dedicated_to()))
        .collect();
    let is_dedicated = |sensor: &String| nodes.iter().any(|(_, only)| *only == Some(sensor));
    for (name, sensor) in &state.sensors {
        let suits = |node: NodeId| match state.sessions[&node].dedicated_to() {
            Some(only) => only == name,
            None => sensor.may_run_on(&state.sessions[&node].name) && !is_dedicated(name),
        };
        let nowhere = !nodes.iter().any(|(node, _)| suits(*node));
        assert!(sensor.holder.is_some() || (!sensor.unwanted && nowhere), "a wanted sensor is free");
        let stays = sensor.holder.filter(|_| !sensor.moves && !sensor.unwanted && !nodes.is_empty());
        assert!(stays.is_none_or(|holder| suits(holder.node)), "a sensor is where it may not be");
        assert!(sensor.epoch <= state.last_sensor_epoch);
    }
    let wanted = state.wanted_sensors().filter(|sensor| !is_dedicated(sensor)).count();
    let for_all: Vec<NodeId> = nodes.iter().filter(|(_, only)| only.is_none()).map(|(node, _)| *node).collect();
    for &node in &for_all {
        let keeps = |sensor: &&SensorState| {
            let is_there = sensor.holder.is_some_and(|holder| holder.node == node);
            is_there && !sensor.moves && !sensor.unwanted && sensor.nodes.is_empty()
        };
        let keeps = state.sensors.values().filter(keeps).count();
        assert!(keeps <= wanted.div_ceil(for_all.len()), "more sensors than the bound");
    }
}

fn check_invariants(state: &State) {
    for duty in state.duties.values() {
        if let Some(holder) = duty.holder {
            assert!(state.is_live(holder.node, holder.session), "an ended session holds a duty");
        }
        if let Some(next) = duty.wanted_by {
            assert!(state.sessions.contains_key(&next), "an ended session is to get a duty");
        }
    }
    let right = |holder: Holder| {
        assert!(state.is_live(holder.node, holder.session), "an ended session holds something");
        assert!(!state.sessions[&holder.node].suspended, "a suspended session holds something");
    };
    state.duties.values().filter_map(|duty| duty.holder).for_each(right);
    state.sensors.values().filter_map(|sensor| sensor.holder).for_each(right);
    check_sensors(state);
    for duty in Duty::ALL {
        let wanted = state.sessions.values().any(|session| session.is_eligible() && session.duties.contains(&duty));
        let held = state.duties.get(&duty).is_some_and(|state| state.holder.is_some());
        assert!(held || !wanted, "{duty:?} is free though a session would take it");
    }
    for key in state.permits.values() {
        assert!(!key.slots.is_empty() || !key.waiters.is_empty(), "an unused key was kept");
        let owners = key.slots.values().map(|slot| slot.owner).chain(key.waiters.iter().map(|waiter| waiter.owner));
        for owner in owners {
            assert!(state.is_live(owner.node, owner.session), "an ended session holds or wants a permit");
        }
        if !key.waiters.is_empty() {
            assert!(key.slots.len() >= key.limit as usize, "someone waits though a permit is free");
        }
    }
    assert!(state.content.history.len() <= CONTENT_HISTORY);
}

proptest! {
    #[test]
    fn invariants_hold(commands in prop::collection::vec(command(), 1..120)) {
        let mut state = State::default();
        let mut holders: BTreeMap<(Duty, u64), Holder> = BTreeMap::new();
        let mut owners: BTreeMap<(String, u64), Holder> = BTreeMap::new();
        let mut tokens: BTreeSet<u64> = BTreeSet::new();
        for command in &commands {
            let before = state.clone();
            let (response, events) = state.apply(command);
            check_invariants(&state);
            for (&duty, now) in &state.duties {
                let old = before.duties.get(&duty).cloned().unwrap_or_default();
                prop_assert!(now.epoch >= old.epoch);
                if let Some(holder) = now.holder {
                    let known = *holders.entry((duty, now.epoch)).or_insert(holder);
                    prop_assert_eq!(known, holder, "two holders of one duty epoch");
                }
            }
            for (sensor, now) in &state.sensors {
                if let Some(holder) = now.holder {
                    let known = *owners.entry((sensor.clone(), now.epoch)).or_insert(holder);
                    prop_assert_eq!(known, holder, "two owners of one sensor epoch");
                }
            }
            if let Response::Session { epoch } = response {
                let repeated = before.sessions.values().any(|session| session.epoch == epoch);
                prop_assert!(repeated || epoch > before.last_session_epoch);
            }
            for (name, value) in &before.agreed {
                prop_assert_eq!(state.agreed.get(name), Some(value), "an agreed value changed");
            }
            for event in &events {
                if let Event::PermitGranted(granted) = event {
                    prop_assert!(tokens.insert(granted.token), "a token was given twice");
                }
            }
            for (name, key) in &state.permits {
                let old = before.permits.get(name).map_or(0, |key| key.slots.len());
                prop_assert!(key.slots.len() <= old.max(key.limit as usize), "more permits than the limit");
            }
            prop_assert!(state.content.revision >= before.content.revision);
        }
    }

    #[test]
    fn equal_commands_give_equal_states(commands in prop::collection::vec(command(), 1..80), cut in 0usize..80) {
        let mut one = State::default();
        let mut two = State::default();
        for (position, command) in commands.iter().enumerate() {
            if position == cut {
                two = State::from_snapshot(&two.to_snapshot().unwrap()).unwrap();
            }
            prop_assert_eq!(one.apply(command), two.apply(command));
            prop_assert_eq!(one.hash(), two.hash());
        }
        prop_assert_eq!(State::from_snapshot(&one.to_snapshot().unwrap()).unwrap().hash(), one.hash());
    }
}

proptest! {
    /// A node that joins takes its share and nothing else moves; of one that leaves only its own sensors move.
    #[test]
    fn sensors_move_as_little_as_possible(nodes in 1u64..7, sensors in 0usize..40, leaves in 1u64..7) {
        let mut state = State::default();
        let refs: BTreeSet<String> = (0..sensors).map(|number| format!("pack.sensor{number}")).collect();
        let join = |node| Command::RegisterSession {
            node,
            name: format!("n{node}"),
            roles: BTreeSet::from([SENSORS_ROLE.to_owned()]),
            duties: BTreeSet::new(),
            ttl_ms: 4_000,
            lease_ms: 1_200,
            claim: Some(Claim { after: 0, nonce: node }),
        };
        for node in 1..=nodes {
            state.apply(&join(node));
        }
        state.apply(&Command::WantSensors { revision: 0, refs, pins: BTreeMap::new() });
        let owners = |state: &State| -> BTreeMap<String, NodeId> {
            state.sensors.iter().map(|(sensor, held)| (sensor.clone(), held.holder.unwrap().node)).collect()
        };
        let before = owners(&state);
        state.apply(&join(nodes + 1));
        let moves: Vec<(String, Holder, u64)> = state
            .sensors
            .iter()
            .filter(|(_, held)| held.moves)
            .map(|(sensor, held)| (sensor.clone(), held.holder.unwrap(), held.epoch))
            .collect();
        let bound = sensors.div_ceil(nodes as usize + 1);
        let surplus: usize = (1..=nodes)
            .map(|node| before.values().filter(|&&owner| owner == node).count().saturating_sub(bound))
            .sum();
        prop_assert_eq!(moves.len(), surplus, "what is above the new bound moves, no more");
        for (sensor, holder, epoch) in moves {
            state.apply(&Command::ReleaseSensor { sensor: sensor.clone(), node: holder.node, epoch });
            prop_assert_ne!(owners(&state)[&sensor], holder.node);
        }
        let (before, gone) = (owners(&state), leaves.min(nodes));
        let epoch = state.sessions[&gone].epoch;
        state.apply(&Command::ExpireSession { node: gone, epoch, term: 0 });
        for (sensor, owner) in owners(&state) {
            prop_assert!(before[&sensor] == gone || before[&sensor] == owner, "{} moved for nothing", sensor);
        }
    }
}

fn register(state: &mut State, node: NodeId) -> u64 {
    let command = Command::RegisterSession {
        node,
        name: format!("n{node}"),
        roles: BTreeSet::new(),
        duties: Duty::ALL.into_iter().collect(),
        ttl_ms: 5_000,
        lease_ms: 1_200,
        claim: None,
    };
    match state.apply(&command).0 {
        Response::Session { epoch } => epoch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restarted_node_takes_its_duties_at_once_under_new_epochs() {
    let mut state = State::default();
    let first = register(&mut state, 7);
    let before = state.duties.clone();
    let second = register(&mut state, 7);
    assert!(second > first);
    for duty in Duty::ALL {
        assert_eq!(state.duties[&duty].holder, Some(Holder { node: 7, session: second }));
        assert!(state.duties[&duty].epoch > before[&duty].epoch);
    }
}

#[test]
fn a_joining_node_gets_a_duty_only_when_its_holder_released_it() {
    let mut state = State::default();
    register(&mut state, 1);
    register(&mut state, 2);
    let wanted: Vec<Duty> =
        state.duties.iter().filter(|(_, state)| state.wanted_by == Some(2)).map(|(&duty, _)| duty).collect();
    assert_eq!(wanted.len(), 1);
    let duty = wanted[0];
    assert_eq!(state.duties[&duty].holder.map(|holder| holder.node), Some(1));
    let epoch = state.duties[&duty].epoch;
    let (response, _) = state.apply(&Command::ReleaseDuty { duty, node: 1, epoch });
    assert_eq!(response, Response::Done);
    assert_eq!(state.duties[&duty].holder.map(|holder| holder.node), Some(2));
    assert_eq!(state.duties[&duty].epoch, epoch + 1);
    let late = state.apply(&Command::ReleaseDuty { duty, node: 1, epoch }).0;
    assert_eq!(late, Response::Refused(Refusal::DutyNotHeld));
}

#[test]
fn a_lock_passes_in_order_with_growing_tokens() {
    let mut state = State::default();
    let session = register(&mut state, 1);
    let acquire = |request: &str, wait| Command::AcquirePermit {
        key: "k".into(),
        limit: 1,
        request: request.into(),
        node: 1,
        session,
        wait,
    };
    assert_eq!(state.apply(&acquire("a", true)).0, Response::Granted { token: 1, slot: 0 });
    assert_eq!(state.apply(&acquire("a", true)).0, Response::Granted { token: 1, slot: 0 }, "repeat");
    assert_eq!(state.apply(&acquire("b", true)).0, Response::Queued { ahead: 0 });
    assert_eq!(state.apply(&acquire("c", true)).0, Response::Queued { ahead: 1 });
    assert_eq!(state.apply(&acquire("d", false)).0, Response::Refused(Refusal::Busy));
    let (_, events) = state.apply(&Command::ReleasePermit { key: "k".into(), token: 1 });
    let granted = Granted { key: "k".into(), request: "b".into(), slot: 0, token: 2 };
    assert_eq!(events, [Event::PermitGranted(granted)]);
    assert_eq!(state.permits["k"].granted("b"), Some((0, 2)));
    state.apply(&Command::EndSession { node: 1, epoch: session });
    assert!(state.permits.is_empty());
}
