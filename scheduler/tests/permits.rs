//! Permits over several nodes: three schedulers on one store, with runners that only sleep, while schedulers die,
//! messages get lost, and the coordinator forgets everything or is gone.
//!
//! `SQUALL_TEST_SEED` replays the choices of a run.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bus::{Bus, BusError, Consumer, Event, Job, LocalBus, Queue, Subscription, Topic};
use common::{Bench, Role, eventually, lease, object, run_actions};
use coordinator::{Answer, Ask, Coordinator, Holder, LocalCoordinator};
use domain::executions::cancel;
use domain::{Services, Settings};
use model::{Execution, HeldPermit, Id, Permit, Policy, Session, Status, SystemClock, Timestamp};
use scheduler::{BackupScheduler, RecoverySettings, ScheduleSettings, Scheduler};
use serde_json::json;
use store::{Query, StoreExt};
use tokio::sync::watch;

/// xorshift*
#[derive(Debug)]
struct Random(AtomicU64);

impl Random {
    fn seeded(name: &str) -> Arc<Self> {
        let seed: u64 =
            std::env::var("SQUALL_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
        println!("{name}: SQUALL_TEST_SEED={seed}");
        Arc::new(Self(AtomicU64::new(seed | 1)))
    }

    fn below(&self, bound: u64) -> u64 {
        let next = |mut x: u64| {
            x ^= x >> 12;
            x ^= x << 25;
            x ^ (x >> 27)
        };
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |x| Some(next(x))).unwrap();
        (next(before).wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Loses some of what it is given.
#[derive(Debug)]
struct LossyBus {
    inner: Arc<LocalBus>,
    random: Arc<Random>,
    /// One of so many is lost; 0: none.
    one_of: AtomicU64,
}

impl LossyBus {
    fn loses(&self) -> bool {
        let one_of = self.one_of.load(Ordering::Relaxed);
        one_of > 0 && self.random.below(one_of) == 0
    }
}

#[async_trait]
impl Bus for LossyBus {
    fn announce(&self, event: Arc<Event>) {
        if !self.loses() {
            self.inner.announce(event);
        }
    }
    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        self.inner.subscribe(topics)
    }
    async fn enqueue(&self, queue: Queue, job: Job) -> Result<(), BusError> {
        if self.loses() { Ok(()) } else { self.inner.enqueue(queue, job).await }
    }
    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Box<dyn Consumer>, BusError> {
        self.inner.consume(queue, prefetch).await
    }
    async fn waiting(&self, queue: Queue) -> Result<usize, BusError> {
        Bus::waiting(self.inner.as_ref(), queue).await
    }
    async fn check(&self) -> Result<(), BusError> {
        self.inner.check().await
    }
}

/// Three nodes that share store, bus and coordinator, each with its own caches and releases.
struct Cluster {
    bench: Bench,
    bus: Arc<LossyBus>,
    coordinator: LocalCoordinator,
    nodes: Vec<Bench>,
    schedulers: Vec<Option<Role>>,
    random: Arc<Random>,
}

impl Cluster {
    async fn new(name: &str) -> Self {
        let random = Random::seeded(name);
        let settings = Settings { redrive_after: Duration::from_millis(500), ..Settings::default() };
        let bench = Bench::with(settings.clone(), bus::LocalBusOptions::default()).await;
        let inner = Arc::new(LocalBus::default());
        let bus = Arc::new(LossyBus { inner, random: random.clone(), one_of: AtomicU64::new(0) });
        let coordinator = LocalCoordinator::new();
        let node = |_| {
            let (store, clock) = (bench.store.clone(), Arc::new(SystemClock));
            let coordinator = Arc::new(coordinator.clone());
            let services = Services::new(store.clone(), bus.clone(), coordinator, clock, settings.clone(), None);
            Bench { services, store, dir: bench.dir.clone() }
        };
        let nodes: Vec<Bench> = (0..3).map(node).collect();
        let mut cluster = Self { bench, bus, coordinator, nodes, schedulers: Vec::new(), random };
        cluster.schedulers = (0..3).map(|n| Some(cluster.scheduler(n))).collect();
        cluster
    }

    fn scheduler(&self, node: usize) -> Role {
        let scheduler = Scheduler::new(self.nodes[node].services.clone(), ScheduleSettings::default());
        Role::start(|cancel| scheduler.run(cancel))
    }

    fn backup(&self) -> Role {
        let settings = RecoverySettings {
            interval: Duration::from_millis(100),
            backoff: Duration::from_millis(300),
            max_backoff: Duration::from_millis(1_000),
            ..RecoverySettings::default()
        };
        let own = Session { node: "n1".to_owned(), epoch: 1 };
        let (session, all) = (watch::channel(Some(own.clone())).1, vec![own]);
        let role = BackupScheduler::new(
            self.nodes[0].services.clone(),
            settings,
            lease(1),
            session,
            Arc::new(move || Some(all.clone())),
        );
        Role::start(|cancel| role.run(cancel))
    }

    async fn kill(&mut self, node: usize) {
        if let Some(role) = self.schedulers[node].take() {
            role.kill().await;
        }
    }

    fn revive(&mut self) {
        for node in 0..self.schedulers.len() {
            if self.schedulers[node].is_none() {
                self.schedulers[node] = Some(self.scheduler(node));
            }
        }
    }

    async fn all_over(&self, count: u64) {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let mut over = 0;
            for status in Status::ALL.into_iter().filter(|status| status.is_completed()) {
                over += self.bench.count(status).await;
            }
            if over == count {
                return;
            }
            if Instant::now() > patience {
                let open = self.bench.store.search::<Execution>(&Query::all()).await.unwrap();
                let open: Vec<_> = open.iter().filter(|e| !e.status.is_completed()).take(5).collect();
                panic!("{over} of {count} are over; open: {open:#?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// No permit is left, neither here nor there.
    async fn nothing_is_held(&self, keys: &[String]) {
        // The store's count follows a commit by a moment.
        eventually("the store has no permits", || async { (self.bench.total::<Permit>().await == 0).then_some(()) })
            .await;
        for key in keys {
            eventually("the coordinator knows no holders", || async {
                self.coordinator.holders(key).await.unwrap().is_empty().then_some(())
            })
            .await;
        }
    }
}

/// When an execution began and ended to count, and to wait.
fn intervals(execution: &Execution) -> (Option<Timestamp>, Timestamp, Vec<(Timestamp, Timestamp)>) {
    let end = execution.end_timestamp.unwrap();
    let running = execution.log.iter().find(|entry| entry.status == Status::Running).map(|entry| entry.timestamp);
    let mut waits = Vec::new();
    for (at, entry) in execution.log.iter().enumerate() {
        if entry.status == Status::Delayed {
            waits.push((entry.timestamp, execution.log.get(at + 1).map_or(end, |next| next.timestamp)));
        }
    }
    (running, end, waits)
}

/// P1 from the history: the most that ran at a time, and the longest time during which one waited while fewer ran
/// than may.
fn most_and_longest_idle(executions: &[Execution], threshold: i64) -> (i64, Duration) {
    let mut changes: Vec<(Timestamp, i64, i64)> = Vec::new();
    for execution in executions {
        let (running, end, waits) = intervals(execution);
        if let Some(running) = running {
            changes.push((running, 1, 0));
            changes.push((end, -1, 0));
        }
        for (from, to) in waits {
            changes.push((from, 0, 1));
            changes.push((to, 0, -1));
        }
    }
    // Ends first: they are stamped before they are stored, starts as well.
    changes.sort_unstable();
    let (mut running, mut waiting, mut most) = (0, 0, 0);
    let (mut idle_since, mut longest): (Option<Timestamp>, Duration) = (None, Duration::ZERO);
    for (at, run, wait) in changes {
        (running, waiting) = (running + run, waiting + wait);
        most = most.max(running);
        if running < threshold && waiting > 0 {
            idle_since.get_or_insert(at);
        } else if let Some(since) = idle_since.take() {
            longest = longest.max(at.since(since));
        }
    }
    (most, longest)
}

async fn history(bench: &Bench, action: &str) -> Vec<Execution> {
    common::docs(bench.store.search::<Execution>(&Query::eq("action", action)).await.unwrap())
}

async fn policy_key(bench: &Bench, name: &str) -> String {
    bench.store.first::<Policy>(&Query::eq("name", name)).await.unwrap().unwrap().id.to_string()
}

async fn limited(cluster: &Cluster, count: u64) -> (Vec<(String, i64)>, Vec<String>) {
    let mut actions = Vec::new();
    let mut keys = Vec::new();
    for n in 0..count {
        let (action, threshold) = (format!("p.limited{n}"), 1 + cluster.random.below(4) as i64);
        cluster.bench.add_action(&action, json!({"name": {"type": "string"}})).await;
        let parameters = json!({"threshold": threshold, "action": "delay"});
        cluster.bench.add_policy(&format!("plain{n}"), &action, "action.concurrency", parameters).await;
        keys.push(policy_key(&cluster.bench, &format!("plain{n}")).await);
        if n % 2 == 1 {
            let parameters = json!({"threshold": 1, "action": "delay", "attributes": ["name"]});
            cluster.bench.add_policy(&format!("attr{n}"), &action, "action.concurrency.attr", parameters).await;
        }
        actions.push((action, threshold));
    }
    (actions, keys)
}

async fn check_history(cluster: &Cluster, actions: &[(String, i64)], most_idle: Duration) {
    for (at, (action, threshold)) in actions.iter().enumerate() {
        let all = history(&cluster.bench, action).await;
        let (most, idle) = most_and_longest_idle(&all, *threshold);
        let waited = all.iter().filter(|e| e.log.iter().any(|entry| entry.status == Status::Delayed)).count();
        println!("{action}: {} executions, {waited} waited, threshold {threshold}, most {most}", all.len());
        assert!(most <= *threshold, "P1: {most} ran of {action}, threshold {threshold}");
        if at % 2 == 0 {
            println!("{action}: longest wait beside a free permit: {idle:?}");
            assert!(idle < most_idle, "{action}: one waited for {idle:?} while a permit was free");
            continue;
        }
        let mut by_name: HashMap<String, Vec<Execution>> = HashMap::new();
        for execution in all {
            by_name.entry(execution.parameters["name"].to_string()).or_default().push(execution);
        }
        for (name, executions) in by_name {
            let (most, _) = most_and_longest_idle(&executions, 1);
            assert!(most <= 1, "P1: {most} ran of {action} with name {name}");
        }
    }
}

/// Without faults: nobody waits a second beside a free permit, and each is admitted by one commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_schedulers_share_thresholds() {
    let cluster = Cluster::new("three_schedulers_share_thresholds").await;
    let (actions, keys) = limited(&cluster, 4).await;
    let runners: Vec<_> =
        cluster.nodes.iter().map(|node| run_actions(&node.services, 16, Duration::from_millis(3))).collect();
    // In bursts: most have to wait.
    for burst in 0..4u64 {
        let requests = (0..100u64).map(|n| {
            let node = &cluster.nodes[cluster.random.below(3) as usize];
            let (action, _) = &actions[(n % 4) as usize];
            node.request(action, json!({"name": ((n + burst) % 3).to_string()}))
        });
        futures::future::join_all(requests).await;
    }
    cluster.all_over(400).await;
    check_history(&cluster, &actions, Duration::from_secs(1)).await;
    for (_, seen) in &runners {
        assert!(seen.lock().starts.values().all(|starts| *starts == 1));
    }
    cluster.nothing_is_held(&keys).await;
    for execution in history(&cluster.bench, &actions[0].0).await {
        let delays = execution.log.iter().filter(|entry| entry.status == Status::Delayed).count();
        assert!(delays <= 1 && execution.log.len() <= 6, "{:?}", common::statuses(&execution));
    }
}

/// P1 under faults: schedulers die, messages are lost, memory is lost, the coordinator is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thresholds_hold_whatever_fails() {
    let mut cluster = Cluster::new("thresholds_hold_whatever_fails").await;
    let (actions, keys) = limited(&cluster, 4).await;
    let _runners: Vec<_> =
        cluster.nodes.iter().map(|node| run_actions(&node.services, 16, Duration::from_millis(3))).collect();
    let _backup = cluster.backup();
    let count = std::env::var("SQUALL_TEST_EXECUTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_500u64);
    cluster.bus.one_of.store(20, Ordering::Relaxed);
    for n in 0..count {
        let random = cluster.random.clone();
        let node = &cluster.nodes[random.below(3) as usize];
        let (action, _) = &actions[random.below(4) as usize];
        let requested = node.request(action, json!({"name": random.below(3).to_string()})).await;
        match random.below(100) {
            0..2 => cluster.kill(random.below(3) as usize).await,
            2..5 => cluster.revive(),
            5 => cluster.coordinator.forget(),
            6 => cluster.coordinator.set_available(false),
            7..12 => cluster.coordinator.set_available(true),
            12..15 => drop(cancel(&node.services, requested.id, "ana").await.unwrap()),
            _ => {}
        }
        if n % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    cluster.bus.one_of.store(0, Ordering::Relaxed);
    cluster.coordinator.set_available(true);
    cluster.revive();
    cluster.all_over(count).await;
    // How long somebody waited beside a free permit: as long as faults lasted, and a bit.
    check_history(&cluster, &actions, Duration::from_secs(30)).await;
    cluster.nothing_is_held(&keys).await;
}

/// One that was granted its permit after its scheduler had died is helped by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_scheduler_uses_a_dead_ones_grant() {
    let mut cluster = Cluster::new("another_scheduler_uses_a_dead_ones_grant").await;
    for node in 1..3 {
        cluster.kill(node).await;
    }
    let bench = Bench {
        services: cluster.nodes[0].services.clone(),
        store: cluster.bench.store.clone(),
        dir: cluster.bench.dir.clone(),
    };
    bench.add_policy("one", "p.noop", "action.concurrency", json!({"threshold": 1, "action": "delay"})).await;
    let (_runner, _) = run_actions(&cluster.nodes[0].services, 4, Duration::from_millis(300));
    let first = bench.request("p.noop", json!({})).await;
    let second = bench.request("p.noop", json!({})).await;
    bench.becomes(second.id, Status::Delayed).await;
    cluster.kill(0).await;
    cluster.schedulers[1] = Some(cluster.scheduler(1));
    let ended = bench.becomes(first.id, Status::Succeeded).await;
    let helped = bench.becomes(second.id, Status::Succeeded).await;
    let waited = helped.log.last().unwrap().timestamp.since(ended.end_timestamp.unwrap());
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

/// I-P5: without the coordinator limited executions wait, others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limited_executions_wait_for_the_coordinator() {
    let cluster = Cluster::new("limited_executions_wait_for_the_coordinator").await;
    let bench = &cluster.nodes[0];
    bench.add_policy("one", "p.noop", "action.concurrency", json!({"threshold": 1, "action": "delay"})).await;
    let (_runner, _) = run_actions(&bench.services, 4, Duration::ZERO);
    cluster.coordinator.set_available(false);
    let limited = bench.request("p.noop", json!({})).await;
    let free = bench.request("p.greet", json!({"name": "x"})).await;
    bench.becomes(free.id, Status::Succeeded).await;
    let waits = bench.becomes(limited.id, Status::Delayed).await;
    assert_eq!(waits.waits_for.len(), 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = cluster.bench.store.read::<Execution>(limited.id).await.unwrap().unwrap();
    assert_eq!(before.status, Status::Delayed);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // Waiting writes nothing.
    assert_eq!(cluster.bench.store.read::<Execution>(limited.id).await.unwrap().unwrap().rev, before.rev);
    cluster.coordinator.set_available(true);
    let since = Instant::now();
    bench.becomes(limited.id, Status::Succeeded).await;
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

/// The store has the last word: an overgenerous coordinator is told, and nobody runs beside the holder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_contradicts_a_coordinator_that_forgot() {
    let cluster = Cluster::new("the_store_contradicts_a_coordinator_that_forgot").await;
    let bench = &cluster.nodes[0];
    bench.add_policy("one", "p.noop", "action.concurrency", json!({"threshold": 1, "action": "delay"})).await;
    let key = policy_key(bench, "one").await;
    let (_runner, seen) = run_actions(&bench.services, 8, Duration::from_millis(400));
    let first = bench.request("p.noop", json!({})).await;
    bench.becomes(first.id, Status::Running).await;
    assert_eq!(bench.total::<Permit>().await, 1);
    assert_eq!(bench.read(first.id).await.permits.len(), 1);
    // Memory is lost, and somebody else was given the only permit before anybody noticed.
    cluster.coordinator.forget();
    let requests: Vec<Id> = {
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(bench.request("p.noop", json!({})).await.id);
        }
        ids
    };
    for id in requests {
        bench.becomes(id, Status::Succeeded).await;
    }
    assert_eq!(seen.lock().most["p.noop"], 1);
    cluster.nothing_is_held(&[key]).await;
}

/// A changed threshold counts at once, a policy that is gone holds nobody, and 0 holds everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_policies_take_effect() {
    let cluster = Cluster::new("changed_policies_take_effect").await;
    let bench = &cluster.nodes[0];
    bench.add_policy("none", "p.noop", "action.concurrency", json!({"threshold": 0, "action": "delay"})).await;
    let (_runner, seen) = run_actions(&bench.services, 8, Duration::from_millis(300));
    for _ in 0..6 {
        bench.request("p.noop", json!({})).await;
    }
    eventually("all wait", || async { (bench.count(Status::Delayed).await == 6).then_some(()) }).await;
    let change = async |threshold: Option<u64>| {
        let mut policy = bench.store.first::<Policy>(&Query::eq("name", "none")).await.unwrap().unwrap();
        let (id, reference) = (policy.id, policy.reference.clone());
        match threshold {
            Some(threshold) => {
                policy.doc.parameters = object(json!({"threshold": threshold, "action": "delay"}));
                bench.store.update(policy).await.unwrap();
            }
            None => assert!(bench.store.remove::<Policy>(id).await.unwrap()),
        }
        bench.services.catalog.forget::<Policy>();
        let collection = <Policy as model::Resource>::COLLECTION.name.into();
        let change = if threshold.is_some() { bus::Change::Update } else { bus::Change::Delete };
        bench.services.bus.announce(Arc::new(Event::Content { change, collection, id, reference }));
    };
    change(Some(2)).await;
    // A claim is stored a moment before the action begins.
    let begun = || seen.lock().most.get("p.noop") == Some(&2);
    eventually("two run", || async { (bench.count(Status::Running).await == 2 && begun()).then_some(()) }).await;
    change(None).await;
    eventually("all succeed", || async { (bench.count(Status::Succeeded).await == 6).then_some(()) }).await;
    assert!(seen.lock().most["p.noop"] > 2);
}

/// What runs since before a policy was made counts under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_already_counts() {
    let cluster = Cluster::new("what_runs_already_counts").await;
    let bench = &cluster.nodes[0];
    let (_runner, seen) = run_actions(&bench.services, 16, Duration::from_millis(600));
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(bench.request("p.noop", json!({})).await.id);
    }
    eventually("four run", || async { (bench.count(Status::Running).await == 4).then_some(()) }).await;
    bench.add_policy("three", "p.noop", "action.concurrency", json!({"threshold": 3, "action": "delay"})).await;
    for node in &cluster.nodes {
        node.services.catalog.forget::<Policy>();
    }
    for _ in 0..6 {
        bench.request("p.noop", json!({})).await;
    }
    eventually("all succeed", || async { (bench.count(Status::Succeeded).await == 10).then_some(()) }).await;
    let all = history(&cluster.bench, "p.noop").await;
    assert_eq!(seen.lock().most["p.noop"], 4);
    let began = |id: &Id| all.iter().find(|e| e.id == *id).unwrap().end_timestamp.unwrap();
    let first_end = first.iter().map(began).min().unwrap();
    for execution in all.iter().filter(|execution| !first.contains(&execution.id)) {
        let (running, ..) = intervals(execution);
        assert!(running.unwrap() > first_end, "one began beside four, threshold 3");
    }
    let key = policy_key(bench, "three").await;
    cluster.nothing_is_held(&[key]).await;
}

/// What a broken writer left behind is taken back, and a ghost in the coordinator holds nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_takes_back_what_was_left_behind() {
    let cluster = Cluster::new("recovery_takes_back_what_was_left_behind").await;
    let bench = &cluster.nodes[0];
    bench.add_policy("two", "p.noop", "action.concurrency", json!({"threshold": 2, "action": "delay"})).await;
    let key = policy_key(bench, "two").await;
    let gone = Id::fresh(bench.services.now());
    let held = HeldPermit { key: key.clone(), slot: 0, token: 1 };
    bench.store.insert(&Permit::new(&held, gone, bench.services.now())).await.unwrap();
    let holders = [(gone, 0), (Id::fresh(bench.services.now()), 1)];
    let holders = holders.map(|(id, slot)| Holder { request: id.to_string(), slot });
    cluster.coordinator.restore(&key, 2, &holders).await.unwrap();
    let (_runner, _) = run_actions(&bench.services, 4, Duration::ZERO);
    let waits = bench.request("p.noop", json!({})).await;
    let since = Instant::now();
    let _backup = cluster.backup();
    bench.becomes(waits.id, Status::Succeeded).await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    cluster.nothing_is_held(std::slice::from_ref(&key)).await;
    let ask = Ask { key, limit: 2, request: "x".to_owned(), wait: false };
    assert!(matches!(cluster.coordinator.acquire(ask).await, Ok(Answer::Granted(_))));
}
