//! What MongoDB's adapter withstands: primaries that step down, die and freeze. Nothing acknowledged is lost, nothing
//! is doubled, and every call answers within its deadline.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::Id;
use servers::{ReplicaSet, shared};
use store::batch::Write;
use store::contract::{COLLECTIONS, DOCS, batch, fenced, id, insert};
use store::{Cond, Query, Store, StoreError};
use store_mongodb::{MongoOptions, MongoStore};
use tokio::task::JoinSet;

const COUNTERS: u64 = 4;
const DEADLINE: Duration = Duration::from_secs(5);

async fn open(set: &ReplicaSet) -> Arc<MongoStore> {
    let mut options = MongoOptions::new(set.uri());
    options.collections = COLLECTIONS.to_vec();
    options.deadline = DEADLINE;
    Arc::new(MongoStore::open(options).await.unwrap())
}

/// What one writer knows: increments that were acknowledged, and those of which nobody knows.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    open: AtomicU64,
    slowest: AtomicU64,
}

/// Counts a document up by compare-and-set until `stop`.
async fn count_up(store: Arc<MongoStore>, counter: u64, tally: Arc<Tally>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let Ok(Some(found)) = store.get(DOCS, id(counter)).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let next = (found.body.parse::<u64>().unwrap() + 1).to_string();
        let update =
            Write::Update { collection: DOCS, id: id(counter), rev: found.rev, body: next.clone(), keys: vec![] };
        // Sometimes with a second write: a transaction.
        let log = insert(Id::fresh(model::Clock::now(&model::SystemClock)), &next, vec![("rank", model::Key::Int(1))]);
        let both = next.ends_with('3');
        let writes = if both { vec![update, log] } else { vec![update] };
        match store.commit(batch(writes)).await {
            Ok(_) => tally.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(StoreError::Stale { .. }) => 0,
            Err(StoreError::Unavailable(_)) => tally.open.fetch_add(1, Ordering::Relaxed),
            Err(error) => panic!("{error}"),
        };
        let took = u64::try_from(begin.elapsed().as_millis()).unwrap();
        tally.slowest.fetch_max(took, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_are_neither_lost_nor_doubled_over_changes_of_primary() {
    if shared::address(shared::MONGODB).is_none() {
        return;
    }
    let mut set = tokio::task::spawn_blocking(|| ReplicaSet::private(3)).await.unwrap().unwrap();
    let store = open(&set).await;
    for counter in 0..COUNTERS {
        store.commit(batch([insert(id(counter), "0", vec![])])).await.unwrap();
    }
    let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        writers.spawn(count_up(store.clone(), writer % COUNTERS, tally.clone(), stop.clone()));
    }
    let progress = |tally: &Tally| tally.acknowledged.load(Ordering::Relaxed);
    for round in 0..4 {
        let before = progress(&tally);
        if round % 2 == 0 {
            set.step_down().unwrap();
        } else {
            let primary = set.wait_for_primary().unwrap();
            set.members[primary].process.kill().unwrap();
            set.wait_for_primary().unwrap();
            set.members[primary].start().unwrap();
        }
        let end = Instant::now() + Duration::from_secs(30);
        while progress(&tally) < before + 50 {
            assert!(Instant::now() < end, "work doesn't go on after round {round}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    let mut total = 0;
    for counter in 0..COUNTERS {
        let found = store.get(DOCS, id(counter)).await.unwrap().unwrap();
        let value: u64 = found.body.parse().unwrap();
        assert_eq!(found.rev, value + 1, "a revision for each increment");
        total += value;
    }
    let (sure, open) = (progress(&tally), tally.open.load(Ordering::Relaxed));
    println!("{sure} acknowledged, {open} unknown, {total} counted; slowest {:?} ms", tally.slowest);
    assert!(total >= sure && total <= sure + open, "{total} is not within {sure} .. {}", sure + open);
    let logged = store.count(DOCS, &Query::filter(Cond::Present("rank"))).await.unwrap();
    assert!(logged > 0);
    assert!(tally.slowest.load(Ordering::Relaxed) < 3 * DEADLINE.as_millis() as u64);
}

/// Frozen servers: errors come within the deadline, `check` within a second, and work goes on after they thaw.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_servers_give_errors_in_time() {
    if shared::address(shared::MONGODB).is_none() {
        return;
    }
    let set = tokio::task::spawn_blocking(|| ReplicaSet::private(1)).await.unwrap().unwrap();
    let store = open(&set).await;
    store.commit(batch([insert(id(1), "1", vec![])])).await.unwrap();
    set.members[0].process.pause().unwrap();
    let begin = Instant::now();
    assert!(store.check().await.unwrap_err().is_retryable());
    assert!(begin.elapsed() < Duration::from_millis(1_500), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let everything = Query::all();
    let (read, write, both, query) = tokio::join!(
        store.get(DOCS, id(1)),
        store.commit(batch([insert(id(2), "2", vec![])])),
        store.commit(fenced("duty", 1, [insert(id(3), "3", vec![]), insert(id(4), "4", vec![])])),
        store.find(DOCS, &everything),
    );
    for error in [read.err(), write.err(), both.err(), query.err()] {
        assert!(matches!(error, Some(StoreError::Unavailable(_))), "{error:?}");
    }
    assert!(begin.elapsed() < DEADLINE + Duration::from_secs(2), "{:?}", begin.elapsed());
    set.members[0].process.resume().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while store.check().await.is_err() {
        assert!(Instant::now() < end, "it doesn't come back");
    }
    store.commit(batch([insert(id(5), "5", vec![])])).await.unwrap();
}

/// Two clusters in one database don't see each other.
#[tokio::test]
async fn prefixes_keep_clusters_apart() {
    let Some(uri) = shared::address(shared::MONGODB) else { return };
    let mut options = MongoOptions::new(uri);
    options.database = format!("squall_test_{:016x}", rand::random::<u64>());
    options.collections = COLLECTIONS.to_vec();
    options.prefix = "one".to_owned();
    let one = MongoStore::open(options.clone()).await.unwrap();
    options.prefix = "two".to_owned();
    let two = MongoStore::open(options.clone()).await.unwrap();
    one.commit(fenced("duty", 5, [insert(id(1), "1", vec![])])).await.unwrap();
    assert_eq!(two.get(DOCS, id(1)).await.unwrap(), None);
    two.commit(fenced("duty", 1, [insert(id(1), "2", vec![])])).await.unwrap();
    assert_eq!(one.get(DOCS, id(1)).await.unwrap().unwrap().body, "1");
    one.close().await;
    two.close().await;
    let client = mongodb::Client::with_uri_str(&options.uri).await.unwrap();
    client.database(&options.database).drop().await.unwrap();
}

/// A node that stands still in the middle of a transaction doesn't hold the others up.
#[tokio::test]
async fn transactions_of_nodes_that_stand_still_are_ended() {
    let Some(uri) = shared::address(shared::MONGODB) else { return };
    let mut options = MongoOptions::new(&uri);
    options.database = format!("squall_test_{:016x}", rand::random::<u64>());
    options.collections = COLLECTIONS.to_vec();
    let store = MongoStore::open(options.clone()).await.unwrap();
    store.commit(batch([insert(id(1), "1", vec![]), insert(id(2), "1", vec![])])).await.unwrap();

    let mut client = mongodb::options::ClientOptions::parse(&uri).await.unwrap();
    client.app_name = Some("squall".to_owned());
    let still = mongodb::Client::with_options(client).unwrap();
    let database = still.database(&options.database);
    let stored = database.collection::<mongodb::bson::Document>(&format!("squall.{}", DOCS.name));
    for single in [true, false] {
        let mut session = still.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let touch = mongodb::bson::doc! {"$set": {"touched": true}};
        stored.update_many(mongodb::bson::doc! {}, touch).session(&mut session).await.unwrap();
        let begin = Instant::now();
        let read = async |number| store.get(DOCS, id(number)).await.unwrap().unwrap();
        let change = async |number| {
            let rev = read(number).await.rev;
            Write::Update { collection: DOCS, id: id(number), rev, body: "2".into(), keys: vec![] }
        };
        let mut writes = vec![change(1).await];
        if !single {
            writes.push(change(2).await);
        }
        store.commit(batch(writes)).await.unwrap();
        println!("held up for {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        // When it wakes up, nothing of its transaction is left.
        assert!(session.commit_transaction().await.is_err());
        assert_eq!(read(1).await.body, "2");
    }
    store.close().await;
    database.drop().await.unwrap();
}
