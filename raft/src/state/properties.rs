//! Property tests of the state machine: any sequence of commands keeps the invariants of the module's head.

use std::collections::{BTreeMap, BTreeSet};

use model::Duty;
use proptest::prelude::*;

use super::*;

fn command() -> impl Strategy<Value = Command> {
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
        2 => (node.clone(), epoch.clone()).prop_map(|(node, epoch)| Command::ExpireSession { node, epoch }),
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

fn check_invariants(state: &State) {
    for duty in state.duties.values() {
        if let Some(holder) = duty.holder {
            assert!(state.is_live(holder.node, holder.session), "an ended session holds a duty");
        }
        if let Some(next) = duty.wanted_by {
            assert!(state.sessions.contains_key(&next), "an ended session is to get a duty");
        }
    }
    for duty in Duty::ALL {
        let wanted = state.sessions.values().any(|session| session.duties.contains(&duty));
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
            if let Response::Session { epoch } = response {
                prop_assert!(epoch > before.last_session_epoch);
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
        prop_assert_eq!(&State::from_snapshot(&one.to_snapshot().unwrap()).unwrap(), &one);
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
