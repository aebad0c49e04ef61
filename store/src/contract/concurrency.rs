//! Many callers at once.

use super::*;
use crate::batch::Applied;
use crate::error::StoreError;
use crate::query::Cond;
use futures::future::join_all;
use tokio::task::JoinSet;

/// Adds one to the number in a document, however often others come first.
async fn increment(store: &dyn Store, place: Id) {
    loop {
        let read = store.get(DOCS, place).await.unwrap().unwrap();
        let next = read.body.parse::<u64>().unwrap() + 1;
        match store.commit(batch([update(place, read.rev, &next.to_string(), vec![])])).await {
            Ok(_) => return,
            Err(StoreError::Stale { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn compare_and_set_counts_exactly(factory: &impl Factory) {
    let store = factory.open("counter").await;
    store.commit(batch([insert(id(1), "0", vec![])])).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { increment(&*store, id(1)).await });
    }
    tasks.join_all().await;
    let read = store.get(DOCS, id(1)).await.unwrap().unwrap();
    assert_eq!((read.rev, read.body.as_str()), (101, "100"));
}

pub async fn one_of_many_inserts(factory: &impl Factory) {
    let store = factory.open("one").await;
    let tries = (0..50).map(|n| store.commit(batch([insert_or_ignore(id(1), &n.to_string(), vec![])])));
    let done = join_all(tries).await;
    assert_eq!(done.iter().filter(|outcome| **outcome == Ok(vec![Applied::Inserted])).count(), 1);
    assert_eq!(done.iter().filter(|outcome| **outcome == Ok(vec![Applied::Present])).count(), 49);
    let tries = (0..50).map(|n| store.commit(batch([insert(id(n + 10), "x", vec![("name", text("same"))])])));
    let done = join_all(tries).await;
    assert_eq!(done.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let winner = found(&*store, &Query::eq("name", "same")).await[0];
    let told = |outcome: &&Result<_, StoreError>| matches!(outcome, Err(StoreError::Duplicate { existing, .. }) if *existing == Some(winner));
    assert_eq!(done.iter().filter(told).count(), 49);
}

pub async fn slots_are_given_once(factory: &impl Factory) {
    let store = factory.open("slots").await;
    let mut tasks = JoinSet::new();
    for n in 0..60 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for slot in 0..10 {
                let keys = vec![("group", text("permits")), ("slot", Key::Int(slot))];
                match store.commit(batch([insert(id(n), "holder", keys)])).await {
                    Ok(_) => return Some(slot),
                    Err(StoreError::Duplicate { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            None
        });
    }
    let mut slots: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..10).collect::<Vec<_>>());
}

pub async fn transfers_are_never_half_seen(factory: &impl Factory) {
    let store = factory.open("transfers").await;
    store.commit(batch((0..4).map(|n| insert(id(n), "100", vec![])))).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..20_u64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut done = 0;
            while done < 5 {
                let (from, to) = (id(n % 4), id((n + 1 + done) % 4));
                let both = store.find(DOCS, &Query::filter(Cond::IdIn(vec![from, to]))).await.unwrap();
                if from == to {
                    done += 1;
                    continue;
                }
                let change = |document: &Document| if document.id == from { -1 } else { 1 };
                let writes = both.iter().map(|document| {
                    let next = document.body.parse::<i64>().unwrap() + change(document);
                    update(document.id, document.rev, &next.to_string(), vec![])
                });
                match store.commit(batch(writes)).await {
                    Ok(_) => done += 1,
                    Err(error) => assert!(error.is_stale(), "{error}"),
                }
            }
        });
    }
    for _ in 0..200 {
        let sum: i64 = all(&*store).await.iter().map(|document| document.body.parse::<i64>().unwrap()).sum();
        assert_eq!(sum, 400);
    }
    tasks.join_all().await;
    let sum: i64 = all(&*store).await.iter().map(|document| document.body.parse::<i64>().unwrap()).sum();
    assert_eq!(sum, 400);
}

/// Dropping a commit leaves its outcome open, but not in between; and the store goes on.
pub async fn abandoned_commits_are_whole(factory: &impl Factory) {
    let store = factory.open("abandoned").await;
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let both = batch([insert(id(2 * n), "a", vec![]), insert(id(2 * n + 1), "b", vec![])]);
            let patience = std::time::Duration::from_micros(n * 17);
            tokio::time::timeout(patience, store.commit(both)).await.is_ok()
        });
    }
    let finished = tasks.join_all().await.into_iter().filter(|finished| *finished).count();
    // Whatever was abandoned before this either happened or never will.
    store.commit(batch([insert(fresh(), "last", vec![])])).await.unwrap();
    let there = all(&*store).await.into_iter().filter(|document| document.body != "last").collect::<Vec<_>>();
    assert!(there.len() >= 2 * finished);
    assert!(there.len().is_multiple_of(2));
    for pair in there.chunks(2) {
        assert_eq!((pair[0].body.as_str(), pair[1].body.as_str()), ("a", "b"));
    }
}

pub async fn refusals_do_not_touch_others(factory: &impl Factory) {
    let store = factory.open("neighbours").await;
    store.commit(batch([insert(id(0), "0", vec![("name", text("taken"))])])).await.unwrap();
    // All in one go, so that they share transactions where the adapter has such.
    let commits = (1..200_u64).map(|n| {
        let good = insert(id(n), "good", vec![("rank", Key::Int(n as i64))]);
        let writes = match n % 6 {
            0 => vec![good, update(id(0), 9, "x", vec![])],
            1 => vec![insert(id(n), "bad", vec![("name", text("taken"))])],
            2 => vec![update(id(0), 5, "bad", vec![])],
            3 => vec![good, insert(id(0), "bad", vec![])],
            4 => vec![good],
            _ => vec![good, insert(id(n + 1_000), "good", vec![])],
        };
        store.commit(batch(writes))
    });
    for (n, outcome) in (1..).zip(join_all(commits).await) {
        assert_eq!(outcome.is_ok(), n % 6 >= 4, "{n}: {outcome:?}");
        let there = store.get(DOCS, id(n)).await.unwrap();
        assert_eq!(there.is_some(), n % 6 >= 4, "{n}");
        assert_eq!(store.get(DOCS, id(n + 1_000)).await.unwrap().is_some(), n % 6 == 5, "{n}");
    }
    assert_eq!(store.get(DOCS, id(0)).await.unwrap().unwrap().rev, 1);
}

pub async fn many_readers(factory: &impl Factory) {
    let store = factory.open("readers").await;
    super::queries::fill(&*store).await;
    let query = Query::eq("tag", "ab");
    let reads = (0..300).map(|n| {
        let (store, query) = (&store, &query);
        async move {
            assert!(store.get(DOCS, id(n % 200)).await.unwrap().is_some());
            assert!(!store.find(DOCS, query).await.unwrap().is_empty());
        }
    });
    join_all(reads).await;
    // What was acknowledged is seen at once.
    for n in 0..50 {
        store.commit(batch([insert(id(5_000 + n), "new", vec![])])).await.unwrap();
        assert!(store.get(DOCS, id(5_000 + n)).await.unwrap().is_some());
    }
}

pub async fn check_answers(factory: &impl Factory) {
    let store = factory.open("check").await;
    for _ in 0..3 {
        store.check().await.unwrap();
    }
}
