//! The duty of the timers passes from engine to engine a thousand times: every slot of every timer fires exactly once
//! (invariants C1, K2).
//!
//! Three engines stand for three nodes; each has its own lease, caches and bus, all share one store. A hand-over is
//! planned (the holder's lease is withdrawn, then the next one's begins), a crash (the holder is aborted at any
//! point), or a pause (the holder goes on under its old epoch beside the next one, for its lease has not ended by its
//! own clock: the store's fence refuses it).
//!
//! `SQUALL_TEST_SEED` replays the choices, `SQUALL_TEST_HANDOVERS` says how many (1,000).

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use common::{Bench, Role};
use model::{Id, Lease, Timestamp, Trigger, TriggerInstance};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use scheduler::{TimerSettings, TimersEngine};
use serde_json::json;
use store::{Batch, StoreExt};
use tokio::sync::watch;

const TIMERS: u64 = 200;
/// Each timer's period; their phases are spread over it.
const PERIOD: Duration = Duration::from_secs(1);
const NODES: usize = 3;

struct Node {
    bench: Bench,
    lease: watch::Sender<Option<Lease>>,
    role: Option<Role>,
}

impl Node {
    fn new(bench: Bench) -> Self {
        let mut node = Self { bench, lease: watch::channel(None).0, role: None };
        node.boot();
        node
    }

    fn boot(&mut self) {
        self.lease = watch::channel(None).0;
        let settings = TimerSettings { cursor_interval: Duration::from_millis(200), ..TimerSettings::default() };
        let engine = TimersEngine::new(self.bench.services.clone(), settings, self.lease.subscribe());
        self.role = Some(Role::start(|cancel| engine.run(cancel)));
    }

    fn give(&self, epoch: u64) {
        let valid_until = Instant::now() + Duration::from_secs(600);
        self.lease.send_replace(Some(Lease { epoch, valid_until }));
    }
}

/// Spreads the timers' phases over the period, the first slots a second from now. By reference, the phase in µs.
async fn add_timers(bench: &Bench) -> BTreeMap<String, i64> {
    let begin = bench.services.now().plus(Duration::from_secs(1));
    let mut anchors = BTreeMap::new();
    let mut batch = Batch::new();
    for n in 0..TIMERS {
        let created_at = begin.plus(Duration::from_millis(n * 1_000 / TIMERS)).minus(PERIOD).to_millis_precision();
        let parameters = common::object(json!({"unit": "seconds", "delta": 1, "timezone": "UTC", "n": n}));
        let name = format!("timer{n}");
        let trigger = Trigger {
            id: Id::derive("handovers", created_at, &[&name]),
            uid: format!("trigger:core:{name}"),
            reference: format!("core.{name}"),
            pack: "core".to_owned(),
            name,
            description: None,
            type_ref: model::timer::INTERVAL.to_owned(),
            parameters,
            ref_count: 1,
            created_at,
        };
        anchors.insert(trigger.reference.clone(), created_at.micros());
        batch.insert(&trigger);
    }
    bench.services.store.commit(batch).await.unwrap();
    anchors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hand_overs_lose_and_double_no_tick() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SQUALL_TEST_SEED").unwrap_or_else(rand::random);
    let hand_overs = number("SQUALL_TEST_HANDOVERS").unwrap_or(1_000);
    println!("SQUALL_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let first = Bench::new().await;
    let anchors = add_timers(&first).await;
    let mut nodes: Vec<Node> = (1..NODES).map(|_| Node::new(first.restarted())).collect();
    nodes.push(Node::new(first));
    let mut holder = 0;
    nodes[holder].give(1);
    for epoch in 2..2 + hand_overs {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        let next = (holder + random.random_range(1..NODES)) % NODES;
        match random.random_range(0..3) {
            0 => {
                nodes[holder].lease.send_replace(None);
                nodes[next].give(epoch);
            }
            1 => {
                nodes[holder].role.take().unwrap().kill().await;
                nodes[next].give(epoch);
                nodes[holder].boot();
            }
            _ => {
                nodes[next].give(epoch);
                tokio::time::sleep(Duration::from_millis(random.random_range(0..10))).await;
                nodes[holder].lease.send_replace(None);
            }
        }
        holder = next;
    }
    let store = nodes[holder].bench.services.store.clone();
    let end = nodes[holder].bench.services.now();
    // The last holder may have fallen behind on a busy machine: what counts is that it catches up.
    let limit = Instant::now() + Duration::from_secs(60);
    let instances = loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let found = common::docs(store.search::<TriggerInstance>(&store::Query::all()).await.unwrap());
        if missing(&anchors, &seen_once(&found), end).is_none() || Instant::now() > limit {
            break found;
        }
    };
    for node in &mut nodes {
        node.role.take().unwrap().stop().await;
    }
    let ticks = every_slot_once(&anchors, &instances, end);
    println!("{hand_overs} hand-overs, {ticks} ticks, each once");
}

/// Timers by reference, and the slots they fired at.
type Fired<'a> = HashSet<(&'a str, i64)>;

fn seen_once(instances: &[TriggerInstance]) -> Fired<'_> {
    let mut seen = Fired::new();
    for instance in instances {
        let fresh = seen.insert((&instance.trigger, instance.occurrence_time.micros()));
        assert!(fresh, "{} fired twice at {}", instance.trigger, instance.occurrence_time);
    }
    seen
}

/// Slots of all timers up to `end`.
fn slots(anchors: &BTreeMap<String, i64>, end: Timestamp) -> impl Iterator<Item = (&str, i64)> {
    let period = PERIOD.as_micros() as i64;
    anchors.iter().flat_map(move |(reference, anchor)| {
        let after = (1..).map(move |n| anchor + n * period).take_while(move |slot| *slot <= end.micros());
        after.map(move |slot| (reference.as_str(), slot))
    })
}

fn missing<'a>(anchors: &'a BTreeMap<String, i64>, seen: &Fired<'_>, end: Timestamp) -> Option<(&'a str, i64)> {
    slots(anchors, end).find(|slot| !seen.contains(slot))
}

/// Every slot of every timer up to `end` has one instance; returns how many there were.
fn every_slot_once(anchors: &BTreeMap<String, i64>, instances: &[TriggerInstance], end: Timestamp) -> usize {
    if let Some((reference, slot)) = missing(anchors, &seen_once(instances), end) {
        panic!("{reference} didn't fire at {slot}");
    }
    slots(anchors, end).count()
}
