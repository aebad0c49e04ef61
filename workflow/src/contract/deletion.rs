//! Deletion: bounded, final, without remains.

use super::*;
use crate::port::{Deletion, Delivered};
use crate::rows::{Cell, Item, Task};

/// A workflow with rows in every table.
async fn full(state: &dyn WorkflowState, workflow: Id, rows: u32) {
    let mut first = changes("running");
    for n in 0..rows {
        first.event("e", "1");
        first.tasks.push(Task {
            seq: n,
            id: id(u64::from(n)),
            task: "t".to_owned(),
            route: 0,
            status: "running".to_owned(),
            created: at(0),
            updated: at(0),
            body: String::new(),
        });
        first.items.push(Item { task: 0, item: n, status: "running".to_owned(), body: String::new() });
        first.cells.push(Cell { space: "s".to_owned(), key: format!("{n}"), body: String::new() });
        first.launches.push(launch(u64::from(n), at(0)));
        first.timers.push(timer(&format!("{n}"), 1));
        first.document(format!("{n}"), vec![1; 10]);
    }
    state.create(Creation { id: workflow, engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    let messages: Vec<_> = (0..u64::from(rows)).map(message).collect();
    state.deliver(workflow, &messages).await.unwrap();
}

pub async fn deletion_leaves_nothing(factory: &impl Factory) {
    let state = factory.open(0).await;
    full(&*state, id(1), 20).await;
    full(&*state, id(2), 20).await;
    let whole = factory.rows_of(id(1)).await;
    assert_eq!(whole, 1 + 9 * 20);
    assert_eq!(state.delete(id(1), 1_000).await, Ok(Deletion::Done));
    assert_eq!(factory.rows_of(id(1)).await, 0);
    assert_eq!(factory.rows_of(id(2)).await, whole);
    assert_eq!(state.delete(id(1), 1_000).await, Ok(Deletion::Done));
    assert_eq!(state.head(id(1)).await.unwrap(), None);
    assert_eq!(state.deliver(id(1), &[message(1)]).await, Ok(Delivered::Unknown));
    // It may begin anew.
    begin(&*state, id(1)).await;
    assert_eq!(state.deliver(id(1), &[message(1)]).await, Ok(Delivered::Known(vec![true])));
}

pub async fn deletion_is_bounded_and_final(factory: &impl Factory) {
    let state = factory.open(0).await;
    full(&*state, id(1), 40).await;
    let mut left = factory.rows_of(id(1)).await;
    let mut calls = 0;
    while state.delete(id(1), 50).await.unwrap() != Deletion::Done {
        let now = factory.rows_of(id(1)).await;
        assert!(now < left && left - now <= 50, "{left} to {now}");
        left = now;
        calls += 1;
        // From the first call on it is as good as gone.
        assert_eq!(state.head(id(1)).await.unwrap(), None);
        assert_eq!(state.deliver(id(1), &[message(1_000 + calls)]).await, Ok(Delivered::Unknown));
        assert!(matches!(state.claim(&Claim::next(at(9))).await.unwrap(), Claimed::Idle));
        assert!(!matches!(claim_one(&*state, id(1)).await, Claimed::Drain(_)));
        assert_eq!(state.take_launches(at(1_000), HOLD, 100).await.unwrap(), []);
    }
    assert!(calls >= 6, "{calls}");
    assert_eq!(factory.rows_of(id(1)).await, 0);
}

pub async fn a_drained_workflow_is_not_deleted(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    full(&*here, id(1), 3).await;
    let drain = drain_of(&*here, &Claim::one(id(1), at(0))).await;
    for state in [&here, &there] {
        assert_eq!(state.delete(id(1), 100).await, Ok(Deletion::Busy));
    }
    let change = using_all(&*drain);
    drain.commit(change, HOLD).await.unwrap();
    assert_eq!(there.delete(id(1), 100).await, Ok(Deletion::Done));
    assert_eq!(factory.rows_of(id(1)).await, 0);
}
