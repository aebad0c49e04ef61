//! Inbox, timers, outbox.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::port::{Created, Delivered};

pub async fn messages_come_in_order_once(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    assert_eq!(here.deliver(id(1), &[message(1)]).await, Ok(Delivered::Unknown));
    begin(&*here, id(1)).await;
    assert_eq!(here.deliver(id(1), &[]).await, Ok(Delivered::Known(vec![])));
    let several = [message(3), message(1), message(3), message(2)];
    assert_eq!(here.deliver(id(1), &several).await, Ok(Delivered::Known(vec![true, true, false, true])));
    assert_eq!(there.deliver(id(1), &[message(1), message(5)]).await, Ok(Delivered::Known(vec![false, true])));
    // Another attempt and another kind are other messages; another body isn't.
    let others = [
        Message { attempt: 2, ..message(1) },
        Message { kind: "paused".to_owned(), ..message(1) },
        Message { body: "{}".to_owned(), at: at(99), ..message(1) },
    ];
    assert_eq!(here.deliver(id(1), &others).await, Ok(Delivered::Known(vec![true, true, false])));
    let expected = [message(3), message(1), message(2), message(5), others[0].clone(), others[1].clone()];
    let drain = drain_of(&*there, &Claim::one(id(1), at(0))).await;
    let seen: Vec<_> = drain.messages().iter().map(|received| received.message.clone()).collect();
    assert_eq!(seen, expected);
    assert!(drain.messages().is_sorted_by_key(|received| received.seq));
    drain.release().await;
    // At once, in different orders: each is new to one of them.
    let deliveries = (0..8_u64).map(|caller| {
        let state = if caller % 2 == 0 { &here } else { &there };
        async move {
            let mut new = 0;
            for n in 0..20 {
                let n = if caller < 4 { n } else { 19 - n };
                let pair = [message(100 + n), message(100 + (n + 7) % 20)];
                let Delivered::Known(known) = state.deliver(id(1), &pair).await.unwrap() else { panic!() };
                new += known.into_iter().filter(|new| *new).count();
            }
            new
        }
    });
    assert_eq!(futures::future::join_all(deliveries).await.into_iter().sum::<usize>(), 20);
    assert_eq!(here.inbox(id(1), 100).await.unwrap().len(), 26);
}

pub async fn used_messages_are_known(factory: &impl Factory) {
    let state = factory.open(0).await;
    begin(&*state, id(1)).await;
    begin(&*state, id(2)).await;
    state.deliver(id(1), &[message(1), message(2)]).await.unwrap();
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let mut change = using_all(&*drain);
    change.used.pop();
    assert!(drain.commit(change, HOLD).await.unwrap().more);
    assert_eq!(state.deliver(id(1), &[message(1), message(2)]).await, Ok(Delivered::Known(vec![false, false])));
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let left: Vec<_> = drain.messages().iter().map(|received| received.message.clone()).collect();
    assert_eq!(left, [message(2)]);
    let change = using_all(&*drain);
    assert!(!drain.commit(change, HOLD).await.unwrap().more);
    assert_eq!(state.deliver(id(1), &[message(1), message(2)]).await, Ok(Delivered::Known(vec![false, false])));
    assert!(matches!(claim_one(&*state, id(1)).await, Claimed::Idle));
    assert!(matches!(state.claim(&Claim::next(at(0))).await.unwrap(), Claimed::Idle));
    // To another workflow they are new.
    assert_eq!(state.deliver(id(2), &[message(1)]).await, Ok(Delivered::Known(vec![true])));
}

pub async fn pages_are_bounded(factory: &impl Factory) {
    let state = factory.open(0).await;
    begin(&*state, id(1)).await;
    let messages: Vec<_> = (0..250).map(message).collect();
    state.deliver(id(1), &messages).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let claim = Claim { messages: 100, ..Claim::next(at(0)) };
        let Claimed::Drain(drain) = state.claim(&claim).await.unwrap() else { break };
        assert!(drain.messages().len() <= 100);
        seen.extend(drain.messages().iter().map(|received| received.message.clone()));
        let change = using_all(&*drain);
        let committed = drain.commit(change, HOLD).await.unwrap();
        assert_eq!(committed.more, seen.len() < 250);
    }
    assert_eq!(seen, messages);
}

pub async fn none_starves(factory: &impl Factory) {
    let state = factory.open(0).await;
    for n in 1..=5 {
        begin(&*state, id(n)).await;
        state.deliver(id(n), &[message(1), message(2), message(3)]).await.unwrap();
    }
    // One message at a time: everybody has its turn before anybody has the second.
    for round in 0..3 {
        let mut turns = BTreeSet::new();
        for _ in 0..5 {
            let claim = Claim { messages: 1, ..Claim::next(at(0)) };
            let drain = drain_of(&*state, &claim).await;
            assert!(turns.insert(drain.state().id), "round {round}: {turns:?}");
            let change = using_all(&*drain);
            drain.commit(change, HOLD).await.unwrap();
        }
    }
    // One that is held doesn't keep the others.
    for n in 1..=2 {
        state.deliver(id(n), &[message(4)]).await.unwrap();
    }
    let first = drain_of(&*state, &Claim::next(at(0))).await;
    let second = drain_of(&*state, &Claim::next(at(0))).await;
    assert_ne!(first.state().id, second.state().id);
}

/// Whoever delivers and finds the workflow busy may go: the one who drains sees the message after its commit.
pub async fn a_late_message_is_seen_by_one_of_two(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    begin(&*here, id(1)).await;
    let work = |state: Arc<dyn WorkflowState>, from: u64| async move {
        let mut used = 0;
        for n in from..from + 75 {
            state.deliver(id(1), &[message(n)]).await.unwrap();
            // As an engine does: drains until there is no more, and leaves it if another one is at it.
            while let Claimed::Drain(drain) = claim_one(&*state, id(1)).await {
                tokio::task::yield_now().await;
                used += drain.messages().len();
                let change = using_all(&*drain);
                if !drain.commit(change, HOLD).await.unwrap().more {
                    break;
                }
            }
        }
        used
    };
    let states = [here.clone(), there];
    let parts: Vec<_> = (0..6).map(|n| tokio::spawn(work(states[n % 2].clone(), n as u64 * 1_000))).collect();
    let mut used = 0;
    for part in parts {
        used += part.await.unwrap();
    }
    assert_eq!(used, 450);
    assert_eq!(here.inbox(id(1), 10).await.unwrap(), []);
}

pub async fn timers_fire_in_order(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    let mut first = changes("running");
    first.timers = vec![timer("late", 30), timer("b", 10), timer("a", 20)];
    here.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    let mut other = changes("running");
    other.timers = vec![timer("x", 5)];
    here.create(Creation { id: id(2), engine: "toy".to_owned(), changes: other }, HOLD).await.unwrap();
    assert_eq!(there.next_due().await.unwrap(), Some(at(5)));
    assert!(matches!(there.claim(&Claim::next(at(4))).await.unwrap(), Claimed::Idle));
    let drain = drain_of(&*there, &Claim::next(at(25))).await;
    assert_eq!((drain.state().id, drain.due()), (id(2), &[timer("x", 5)][..]));
    // Held by one, the other is next.
    let second = drain_of(&*here, &Claim::next(at(25))).await;
    assert_eq!((second.state().id, second.due()), (id(1), &[timer("b", 10), timer("a", 20)][..]));
    assert!(matches!(here.claim(&Claim::next(at(25))).await.unwrap(), Claimed::Idle));
    second.release().await;
    // What isn't cleared stays due; set anew it comes at the new time.
    let mut change = Changes::new(HeadState::from(drain.state()), at(25));
    change.timers = vec![timer("x", 28)];
    drain.commit(change, HOLD).await.unwrap();
    let drain = drain_of(&*there, &Claim { timers: 1, ..Claim::one(id(1), at(25)) }).await;
    assert_eq!(drain.due(), [timer("b", 10)]);
    let mut change = Changes::new(HeadState::from(drain.state()), at(25));
    change.cleared_timers = vec!["b".to_owned()];
    drain.commit(change, HOLD).await.unwrap();
    assert_eq!(here.next_due().await.unwrap(), Some(at(20)));
    let drain = drain_of(&*here, &Claim::next(at(29))).await;
    assert_eq!((drain.state().id, drain.due()), (id(1), &[timer("a", 20)][..]));
    let mut change = Changes::new(HeadState::from(drain.state()), at(29));
    change.cleared_timers = vec!["a".to_owned(), "late".to_owned()];
    drain.commit(change, HOLD).await.unwrap();
    let drain = drain_of(&*here, &Claim::next(at(29))).await;
    assert_eq!((drain.state().id, drain.due()), (id(2), &[timer("x", 28)][..]));
    let mut change = Changes::new(HeadState::from(drain.state()), at(29));
    change.cleared_timers = vec!["x".to_owned()];
    drain.commit(change, HOLD).await.unwrap();
    assert_eq!(here.next_due().await.unwrap(), None);
}

pub async fn launches_are_held_taken_and_marked(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    let mut first = changes("running");
    first.launches = vec![launch(1, at(0)), launch(2, at(0))];
    let created = here.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await;
    assert_eq!(created, Ok(Created::New));
    // Its creator has them.
    assert_eq!(there.take_launches(at(0), HOLD, 10).await.unwrap(), []);
    here.mark_launched(id(1), &[id(1), id(77)]).await.unwrap();
    here.mark_launched(id(1), &[id(1)]).await.unwrap();
    // The other one comes when the time of holding it is over.
    assert_eq!(here.next_due().await.unwrap(), Some(at(60)));
    let taken = there.take_launches(at(60), HOLD, 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].workflow, &taken[0].launch, taken[0].tries), (id(1), &launch(2, at(0)), 1));
    assert_eq!(here.take_launches(at(60), HOLD, 10).await.unwrap(), []);
    let again = here.take_launches(at(120), HOLD, 10).await.unwrap();
    assert_eq!((again.len(), again[0].tries), (1, 2));
    there.mark_launched(id(1), &[id(2)]).await.unwrap();
    assert_eq!(here.take_launches(at(1_000), HOLD, 10).await.unwrap(), []);
    assert_eq!(here.outbox(id(1), 10).await.unwrap(), []);
    // The same id again, while it is in the outbox, is the same launch.
    here.deliver(id(1), &[message(1), message(2)]).await.unwrap();
    for _ in 0..2 {
        let drain = drain_of(&*here, &Claim { messages: 1, ..Claim::one(id(1), at(0)) }).await;
        let mut change = using_all(&*drain);
        change.launches = vec![launch(3, at(0))];
        drain.commit(change, HOLD).await.unwrap();
    }
    assert_eq!(here.outbox(id(1), 10).await.unwrap().len(), 1);
}

pub async fn launches_wait_for_their_time(factory: &impl Factory) {
    let state = factory.open(0).await;
    let mut first = changes("running");
    first.launches = vec![launch(1, at(500)), launch(2, at(300))];
    state.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    assert_eq!(state.next_due().await.unwrap(), Some(at(300)));
    assert_eq!(state.take_launches(at(299), HOLD, 10).await.unwrap(), []);
    let taken = state.take_launches(at(300), HOLD, 10).await.unwrap();
    assert_eq!(taken.iter().map(|taken| taken.launch.id).collect::<Vec<_>>(), [id(2)]);
    let taken = state.take_launches(at(600), HOLD, 10).await.unwrap();
    assert_eq!(taken.iter().map(|taken| taken.launch.id).collect::<Vec<_>>(), [id(2), id(1)]);
}

pub async fn launches_survive_whoever_committed_them(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    begin(&*here, id(1)).await;
    here.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&*here, &Claim::one(id(1), at(0))).await;
    let mut change = using_all(&*drain);
    change.launches = (0..25).map(|n| launch(n, at(0))).collect();
    drain.commit(change, HOLD).await.unwrap();
    // Whoever committed launches some, marks fewer, and is gone.
    here.mark_launched(id(1), &(0..5).map(id).collect::<Vec<_>>()).await.unwrap();
    let mut left = BTreeMap::new();
    loop {
        let taken = there.take_launches(at(60), HOLD, 7).await.unwrap();
        assert!(taken.len() <= 7);
        if taken.is_empty() {
            break;
        }
        for taken in taken {
            *left.entry(taken.launch.id).or_insert(0) += 1;
        }
    }
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), (5..25).map(id).collect::<Vec<_>>());
    assert!(left.values().all(|count| *count == 1));
}

pub async fn relays_share(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    let mut first = changes("running");
    first.launches = (0..400).map(|n| launch(n, at(1))).collect();
    here.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    let relay = |state: Arc<dyn WorkflowState>| async move {
        let mut ids = Vec::new();
        loop {
            let taken = state.take_launches(at(1), HOLD, 9).await.unwrap();
            if taken.is_empty() {
                // The others may still hold row locks of what they are about to take.
                break ids;
            }
            let some: Vec<_> = taken.iter().map(|taken| taken.launch.id).collect();
            state.mark_launched(id(1), &some).await.unwrap();
            ids.extend(some);
        }
    };
    let relays: Vec<_> =
        (0..6).map(|n| tokio::spawn(relay(if n % 2 == 0 { here.clone() } else { there.clone() }))).collect();
    let mut all = Vec::new();
    for relay in relays {
        all.extend(relay.await.unwrap());
    }
    all.extend(relay(here.clone()).await);
    all.sort();
    assert_eq!(all, (0..400).map(id).collect::<Vec<_>>());
    assert_eq!(here.outbox(id(1), 10).await.unwrap(), []);
}
