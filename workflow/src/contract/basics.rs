//! Creation, claims, commits, queries.

use super::*;
use crate::error::StateError;
use crate::limits::{MAX_BODY_BYTES, MAX_COMMIT_ROWS};
use crate::port::{Committed, Created, Delivered};
use crate::rows::{Cell, HeadQuery, Item, ItemQuery, Task, TaskQuery};

fn task(seq: u32, name: &str, route: u32, status: &str) -> Task {
    Task {
        seq,
        id: id(1_000 + u64::from(seq)),
        task: name.to_owned(),
        route,
        status: status.to_owned(),
        created: at(1),
        updated: at(2),
        body: format!("{{\"é\":{seq}}}"),
    }
}

fn item(task: u32, item: u32, status: &str) -> Item {
    Item { task, item, status: status.to_owned(), body: format!("[{item}]") }
}

fn cell(space: &str, key: &str, body: &str) -> Cell {
    Cell { space: space.to_owned(), key: key.to_owned(), body: body.to_owned() }
}

pub async fn creating_twice_is_creating_once(factory: &impl Factory) {
    let state = factory.open(0).await;
    let mut first = changes("running");
    first.event("started", "1");
    first.launches.push(launch(1, at(0)));
    first.timers.push(timer("a", 9));
    first.document("context/0", b"{}".to_vec());
    let creation = |changes| Creation { id: id(1), engine: "toy".to_owned(), changes };
    assert_eq!(state.create(creation(first.clone()), HOLD).await, Ok(Created::New));
    assert_eq!(state.create(creation(first), HOLD).await, Ok(Created::Present));
    let mut other = changes("paused");
    other.launches.push(launch(2, at(0)));
    assert_eq!(state.create(creation(other), HOLD).await, Ok(Created::Present));
    let head = state.head(id(1)).await.unwrap().unwrap();
    assert_eq!((head.status.as_str(), head.rev, head.events), ("running", 1, 1));
    assert_eq!((head.engine.as_str(), head.execution, head.created), ("toy", id(7), at(0)));
    assert_eq!(state.outbox(id(1), 10).await.unwrap().len(), 1);
    assert_eq!(state.events(id(1), 0, 10).await.unwrap().len(), 1);
    // At once from several sides: one of them.
    let one = |n: u64| {
        let state = &state;
        async move {
            let creation = Creation { id: id(2), engine: "toy".to_owned(), changes: changes(&format!("{n}")) };
            state.create(creation, HOLD).await.unwrap()
        }
    };
    let outcomes = futures::future::join_all((0..8).map(one)).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Created::New).count(), 1);
}

pub async fn everything_written_is_read(factory: &impl Factory) {
    let state = factory.open(0).await;
    begin(&*state, id(1)).await;
    state.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let mut change = using_all(&*drain);
    change.at = at(5);
    change.head = HeadState {
        execution: id(8),
        status: "succeeded".to_owned(),
        finished: Some(at(5)),
        body: "{\"quote\":\"it's\"}".to_owned(),
    };
    change.event("one", "{\"a\":1}").event("two", "null");
    change.tasks = vec![task(1, "b", 0, "running"), task(0, "a", 0, "succeeded")];
    change.items = vec![item(1, 0, "succeeded"), item(1, 1, "running")];
    change.cells = vec![cell("staged", "b|0", "x"), cell("routes", "0", "y")];
    change.launches = vec![launch(5, at(0))];
    change.timers = vec![timer("t", 30)];
    change.document("graph", b"{\"nodes\":[]}".to_vec());
    let committed = drain.commit(change, HOLD).await.unwrap();
    assert_eq!(committed, Committed { rev: 2, more: false });
    let head = state.head(id(1)).await.unwrap().unwrap();
    assert_eq!((head.rev, head.events, head.updated, head.created), (2, 2, at(5), at(0)));
    assert_eq!((head.execution, head.finished, head.body.as_str()), (id(8), Some(at(5)), "{\"quote\":\"it's\"}"));
    let tasks = state.tasks(id(1), &TaskQuery { limit: 10, ..TaskQuery::default() }).await.unwrap();
    assert_eq!(tasks, [task(0, "a", 0, "succeeded"), task(1, "b", 0, "running")]);
    assert_eq!(state.task(id(1), 1).await.unwrap(), Some(task(1, "b", 0, "running")));
    assert_eq!(state.task_by_id(id(1_001)).await.unwrap(), Some((id(1), task(1, "b", 0, "running"))));
    let items = state.items(id(1), 1, &ItemQuery { limit: 10, ..ItemQuery::default() }).await.unwrap();
    assert_eq!(items, [item(1, 0, "succeeded"), item(1, 1, "running")]);
    assert_eq!(state.cell(id(1), "staged", "b|0").await.unwrap(), Some(cell("staged", "b|0", "x")));
    assert_eq!(state.cell(id(1), "staged", "c|0").await.unwrap(), None);
    let events = state.events(id(1), 0, 10).await.unwrap();
    let seen: Vec<_> = events.iter().map(|event| (event.seq, event.at, &*event.kind, &*event.body)).collect();
    assert_eq!(seen, [(0, at(5), "one", "{\"a\":1}"), (1, at(5), "two", "null")]);
    assert_eq!(state.timers(id(1), None, 10).await.unwrap(), [timer("t", 30)]);
    assert_eq!(state.outbox(id(1), 10).await.unwrap()[0].launch, launch(5, at(0)));
    assert_eq!(state.document(id(1), "graph").await.unwrap(), Some(b"{\"nodes\":[]}".to_vec()));
    assert_eq!(state.inbox(id(1), 10).await.unwrap(), []);
    // Workflows are apart.
    assert_eq!(state.head(id(2)).await.unwrap(), None);
    assert_eq!(state.tasks(id(2), &TaskQuery { limit: 10, ..TaskQuery::default() }).await.unwrap(), []);
}

pub async fn rows_are_replaced_and_removed(factory: &impl Factory) {
    let state = factory.open(0).await;
    let mut first = changes("running");
    first.tasks = vec![task(0, "a", 0, "running")];
    first.items = vec![item(0, 0, "running")];
    first.cells = vec![cell("s", "1", "x"), cell("s", "2", "x"), cell("t", "1", "x")];
    first.timers = vec![timer("a", 1), timer("b", 2)];
    state.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    state.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    // A drain reads what it claimed.
    assert_eq!(drain.latest_task(id(1), "a", 0).await.unwrap(), Some(task(0, "a", 0, "running")));
    assert_eq!(drain.item(id(1), 0, 0).await.unwrap(), Some(item(0, 0, "running")));
    assert_eq!(drain.cells(id(1), "s", Some("1"), 5).await.unwrap(), [cell("s", "2", "x")]);
    let mut change = using_all(&*drain);
    change.tasks = vec![task(0, "a", 0, "failed")];
    // The last of several of the same key counts.
    change.items = vec![item(0, 0, "requested"), item(0, 1, "requested"), item(0, 0, "failed")];
    change.cells = vec![cell("s", "1", "y")];
    change.removed_cells = vec![("s".to_owned(), "2".to_owned()), ("s".to_owned(), "1".to_owned())];
    change.timers = vec![timer("a", 3)];
    change.cleared_timers = vec!["a".to_owned(), "b".to_owned(), "never".to_owned()];
    drain.commit(change, HOLD).await.unwrap();
    assert_eq!(state.task(id(1), 0).await.unwrap(), Some(task(0, "a", 0, "failed")));
    let items = state.items(id(1), 0, &ItemQuery { limit: 10, ..ItemQuery::default() }).await.unwrap();
    assert_eq!(items, [item(0, 0, "failed"), item(0, 1, "requested")]);
    assert_eq!(state.cells(id(1), "s", None, 5).await.unwrap(), [cell("s", "1", "y")]);
    assert_eq!(state.cells(id(1), "t", None, 5).await.unwrap(), [cell("t", "1", "x")]);
    assert_eq!(state.timers(id(1), None, 10).await.unwrap(), [timer("a", 3)]);
    assert_eq!(state.next_due().await.unwrap(), Some(at(3)));
}

pub async fn claims_exclude_each_other(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    begin(&*here, id(1)).await;
    begin(&*here, id(2)).await;
    assert!(matches!(claim_one(&*here, id(1)).await, Claimed::Idle));
    assert!(matches!(claim_one(&*here, id(9)).await, Claimed::Idle));
    here.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&*here, &Claim::one(id(1), at(0))).await;
    for state in [&here, &there] {
        assert!(matches!(claim_one(&**state, id(1)).await, Claimed::Busy));
        assert!(matches!(state.claim(&Claim::next(at(0))).await.unwrap(), Claimed::Idle));
        // Deliveries and reads don't wait for the drain.
        let n = if std::ptr::eq(state, &here) { 2 } else { 3 };
        assert_eq!(state.deliver(id(1), &[message(n)]).await.unwrap(), Delivered::Known(vec![true]));
        assert_eq!(state.head(id(1)).await.unwrap().unwrap().rev, 1);
    }
    // Other workflows are free.
    there.deliver(id(2), &[message(1)]).await.unwrap();
    let other = drain_of(&*there, &Claim::next(at(0))).await;
    assert_eq!(other.state().id, id(2));
    other.release().await;
    let change = using_all(&*drain);
    let committed = drain.commit(change, HOLD).await.unwrap();
    assert!(committed.more);
    let drain = drain_of(&*there, &Claim::one(id(1), at(0))).await;
    assert_eq!(drain.state().rev, 2);
    let seen: Vec<_> = drain.messages().iter().map(|received| received.message.source).collect();
    assert_eq!(seen, [id(2), id(3)]);
}

pub async fn dropped_drains_let_go(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    begin(&*here, id(1)).await;
    here.deliver(id(1), &[message(1)]).await.unwrap();
    let mut wakes = here.wakes();
    drop(drain_of(&*here, &Claim::one(id(1), at(0))).await);
    // Rung when it is free, so that nobody needs to ask again and again.
    tokio::time::timeout(Duration::from_secs(5), wakes.wait()).await.unwrap();
    drain_of(&*there, &Claim::one(id(1), at(0))).await.release().await;
    // Dropped in the middle of a read.
    let drain = drain_of(&*here, &Claim::one(id(1), at(0))).await;
    {
        let query = TaskQuery { limit: 1, ..TaskQuery::default() };
        let read = drain.tasks(id(1), &query);
        let mut read = std::pin::pin!(read);
        let _ = futures::poll!(read.as_mut());
    }
    drop(drain);
    // In the middle of a commit: whole or not at all.
    let drain = drain_of(&*here, &Claim::one(id(1), at(0))).await;
    let mut change = using_all(&*drain);
    change.event("one", "1");
    {
        let commit = drain.commit(change, HOLD);
        let mut commit = std::pin::pin!(commit);
        let _ = futures::poll!(commit.as_mut());
    }
    there.deliver(id(1), &[message(2)]).await.unwrap();
    let drain = drain_of(&*there, &Claim::one(id(1), at(0))).await;
    let (rev, events, messages) = (drain.state().rev, drain.state().events, drain.messages().len());
    assert!(matches!((rev, events, messages), (1, 0, 2) | (2, 1, 1)), "{rev} {events} {messages}");
    drain.release().await;
}

pub async fn refused_commits_leave_nothing(factory: &impl Factory) {
    let state = factory.open(0).await;
    begin(&*state, id(1)).await;
    state.deliver(id(1), &[message(1)]).await.unwrap();
    let before = factory.rows_of(id(1)).await;
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let mut change = using_all(&*drain);
    change.used.push(987_654_321);
    change.event("never", "1");
    change.cells = vec![cell("s", "k", "x")];
    change.launches = vec![launch(1, at(0))];
    let refused = drain.commit(change, HOLD).await;
    assert!(matches!(refused, Err(StateError::Misuse(_))), "{refused:?}");
    assert_eq!(factory.rows_of(id(1)).await, before);
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    assert_eq!((drain.state().rev, drain.messages().len()), (1, 1));
    // Used once, a message can't be used again.
    let seq = drain.messages()[0].seq;
    let change = using_all(&*drain);
    drain.commit(change, HOLD).await.unwrap();
    state.deliver(id(1), &[message(2)]).await.unwrap();
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let mut change = using_all(&*drain);
    change.used.push(seq);
    assert!(matches!(drain.commit(change, HOLD).await, Err(StateError::Misuse(_))));
    assert_eq!(state.inbox(id(1), 10).await.unwrap().len(), 1);
}

pub async fn queries_page(factory: &impl Factory) {
    let state = factory.open(0).await;
    let mut first = changes("running");
    let status = |n: u32| if n.is_multiple_of(3) { "failed" } else { "succeeded" };
    first.tasks = (0..50).map(|n| task(n, ["a", "b"][n as usize % 2], n % 4, status(n))).collect();
    first.items = (0..50).map(|n| item(7, n, status(n))).collect();
    first.cells = (0..50).map(|n| cell("s", &format!("{n:02}"), "x")).collect();
    first.timers = (0..50).map(|n| timer(&format!("{n:02}"), n)).collect();
    for n in 0..50 {
        first.event(format!("{n}"), "0");
        first.document(format!("{n:02}"), vec![n]);
    }
    state.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    let failed = TaskQuery { status: Some("failed".to_owned()), limit: 10, ..TaskQuery::default() };
    let seqs = |tasks: Vec<Task>| tasks.into_iter().map(|task| task.seq).collect::<Vec<_>>();
    let page = seqs(state.tasks(id(1), &failed).await.unwrap());
    assert_eq!(page, (0..10).map(|n| 3 * n).collect::<Vec<_>>());
    let rest = seqs(state.tasks(id(1), &TaskQuery { after: Some(27), ..failed.clone() }).await.unwrap());
    assert_eq!(rest, (10..17).map(|n| 3 * n).collect::<Vec<_>>());
    let of = TaskQuery { task: Some("b".to_owned()), route: Some(3), limit: 5, ..failed };
    assert_eq!(seqs(state.tasks(id(1), &of).await.unwrap()), [3, 15, 27, 39]);
    let back = TaskQuery { descending: true, after: Some(27), limit: 5, ..TaskQuery::default() };
    assert_eq!(seqs(state.tasks(id(1), &back).await.unwrap()), [26, 25, 24, 23, 22]);
    assert_eq!(state.latest_task(id(1), "a", 2).await.unwrap().unwrap().seq, 46);
    assert_eq!(state.latest_task(id(1), "a", 3).await.unwrap(), None);
    let not_run = ItemQuery { status: Some("failed".to_owned()), after: Some(0), limit: 2 };
    let items = state.items(id(1), 7, &not_run).await.unwrap();
    assert_eq!(items, [item(7, 3, "failed"), item(7, 6, "failed")]);
    assert_eq!(state.item(id(1), 7, 0).await.unwrap(), Some(item(7, 0, "failed")));
    assert_eq!(state.item(id(1), 7, 50).await.unwrap(), None);
    let some = state.some_items(id(1), 7, &[49, 3, 3, 1_000, 4]).await.unwrap();
    assert_eq!(some, [item(7, 3, "failed"), item(7, 4, "succeeded"), item(7, 49, "succeeded")]);
    assert_eq!(state.some_items(id(1), 7, &[]).await.unwrap(), []);
    let cells = state.cells(id(1), "s", Some("47"), 10).await.unwrap();
    assert_eq!(cells, [cell("s", "48", "x"), cell("s", "49", "x")]);
    assert_eq!(state.timers(id(1), Some("10"), 2).await.unwrap(), [timer("11", 11), timer("12", 12)]);
    let events: Vec<_> = state.events(id(1), 48, 10).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(events, ["48", "49"]);
    let documents = state.documents(id(1), Some("46"), 2).await.unwrap();
    assert_eq!(documents.iter().map(|info| (&*info.key, info.size)).collect::<Vec<_>>(), [("47", 1), ("48", 1)]);
}

pub async fn heads_are_found(factory: &impl Factory) {
    let state = factory.open(0).await;
    for n in 0..12 {
        let mut first = Changes::new(head(["running", "succeeded"][n as usize % 2]), at(n));
        first.head.execution = id(100 + n / 2);
        first.head.finished = (n % 2 == 1).then(|| at(n));
        state.create(Creation { id: id(n), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    }
    let found = async |query: HeadQuery| {
        let heads = state.heads(&HeadQuery { limit: 4, ..query }).await.unwrap();
        heads.into_iter().map(|head| head.id).collect::<Vec<_>>()
    };
    let ids = |numbers: &[u64]| numbers.iter().map(|n| id(*n)).collect::<Vec<_>>();
    let all = HeadQuery::default();
    assert_eq!(found(all.clone()).await, ids(&[0, 1, 2, 3]));
    assert_eq!(found(HeadQuery { after: Some(id(9)), ..all.clone() }).await, ids(&[10, 11]));
    assert_eq!(found(HeadQuery { live: true, after: Some(id(4)), ..all.clone() }).await, ids(&[6, 8, 10]));
    let succeeded = HeadQuery { status: Some("succeeded".to_owned()), ..all.clone() };
    assert_eq!(found(succeeded.clone()).await, ids(&[1, 3, 5, 7]));
    assert_eq!(found(HeadQuery { finished_before: Some(at(5)), ..succeeded }).await, ids(&[1, 3]));
    assert_eq!(found(HeadQuery { idle_since: Some(at(4)), live: true, ..all }).await, ids(&[0, 2]));
    assert_eq!(state.head_of_execution(id(103)).await.unwrap().unwrap().id, id(7));
    assert_eq!(state.head_of_execution(id(7)).await.unwrap(), None);
}

pub async fn limits_are_named(factory: &impl Factory) {
    let state = factory.open(0).await;
    begin(&*state, id(1)).await;
    state.deliver(id(1), &[message(1)]).await.unwrap();
    let large = "x".repeat(MAX_BODY_BYTES + 1);
    type Spoil<'a> = (&'a str, &'a dyn Fn(&mut Changes));
    let spoil: &[Spoil<'_>] = &[
        ("a body", &|change| change.cells.push(cell("s", "k", &large))),
        ("a head", &|change| change.head.body.clone_from(&large)),
        ("a name", &|change| change.cells.push(cell("s", &large, ""))),
        ("a commit", &|change| change.used = vec![1; MAX_COMMIT_ROWS + 1]),
        ("NUL", &|change| change.cells.push(cell("s", "k", "\0"))),
    ];
    for (named, spoil) in spoil {
        let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
        let mut change = using_all(&*drain);
        spoil(&mut change);
        let refused = drain.commit(change, HOLD).await.unwrap_err();
        assert!(!refused.is_retryable() && refused.to_string().contains(named), "{named}: {refused}");
    }
    let refused = state.deliver(id(1), &[Message { body: large, ..message(2) }]).await;
    assert!(matches!(refused, Err(StateError::TooLarge { .. })));
    assert_eq!(state.head(id(1)).await.unwrap().unwrap().rev, 1);
}

pub async fn other_nodes_are_woken(factory: &impl Factory) {
    let (here, there) = (factory.open(0).await, factory.open(1).await);
    begin(&*here, id(1)).await;
    let mut wakes = there.wakes();
    // The listener of the other node may still be on its way: then its first ring says so.
    for n in 1..=20 {
        while tokio::time::timeout(Duration::from_millis(20), wakes.wait()).await.is_ok() {}
        here.deliver(id(1), &[message(n)]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(10), wakes.wait()).await.unwrap());
    }
    // A repetition wakes nobody here.
    let mut here_wakes = here.wakes();
    here.deliver(id(1), &[message(1)]).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), here_wakes.wait()).await.is_err());
}

pub async fn it_answers(factory: &impl Factory) {
    let state = factory.open(0).await;
    state.check().await.unwrap();
    assert!(state.time().await.unwrap() > at(0));
    assert_eq!(state.next_due().await, Ok(None));
    let before = state.stats();
    begin(&*state, id(1)).await;
    let done = state.stats().since(before);
    assert!(done.statements > 0 && done.bytes_written > 0, "{done:?}");
    state.close().await;
    assert!(state.check().await.is_err_and(|error| error.is_retryable()));
    assert!(state.deliver(id(1), &[message(1)]).await.is_err());
}
