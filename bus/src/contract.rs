//! What every adapter of [`Bus`] must do, as tests: an adapter calls [`bus_contract!`](crate::bus_contract) with an
//! expression that makes an empty bus.
//!
//! Messages may be lost or repeated where an adapter can't help it; here nothing fails, so none may be.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::Id;
use tokio::time::timeout;

use crate::message::{Change, Event, Job, Queue, Topic};
use crate::port::{Bus, Consumer, Received, Subscription};

/// Nothing here takes longer, even over a network.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must arrive for it to count as nothing.
const SILENCE: Duration = Duration::from_millis(80);

fn id(n: u64) -> Id {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    Id::from_bytes(bytes)
}

fn cancel(n: u64) -> Arc<Event> {
    Arc::new(Event::Cancel { execution: id(n) })
}

fn content(n: u64) -> Arc<Event> {
    let reference = format!("pack.{n}");
    Arc::new(Event::Content { change: Change::Update, collection: "rules".into(), id: id(n), reference })
}

fn announcement(n: u64) -> Arc<Event> {
    let payload = serde_json::json!({ "n": n });
    Arc::new(Event::Announcement { route: "general".into(), payload, trace_context: None })
}

fn job(n: u64) -> Job {
    Job::Execution { id: id(n), hint: None }
}

async fn event(subscription: &mut dyn Subscription) -> Arc<Event> {
    match timeout(PATIENCE, subscription.next()).await.unwrap().unwrap() {
        Received::Event(event) => event,
        Received::Lost(lost) => panic!("{lost} events were lost"),
    }
}

async fn silent(subscription: &mut dyn Subscription) -> bool {
    timeout(SILENCE, subscription.next()).await.is_err()
}

async fn delivery(consumer: &mut dyn Consumer) -> crate::port::Delivery {
    timeout(PATIENCE, consumer.next()).await.unwrap().unwrap()
}

async fn idle(consumer: &mut dyn Consumer) -> bool {
    timeout(SILENCE, consumer.next()).await.is_err()
}

/// Each subscriber gets each event of its topics, in order, from its subscription on.
pub async fn events_reach_every_subscriber(bus: impl Bus) {
    bus.announce(cancel(0));
    let mut both = bus.subscribe(&[Topic::Cancel, Topic::Content, Topic::Cancel]);
    let mut one = bus.subscribe(&[Topic::Cancel]);
    let mut other = bus.subscribe(&[Topic::Announcement]);
    for n in 1..=50 {
        bus.announce(cancel(n));
        bus.announce(content(n));
    }
    for n in 1..=50 {
        assert!(matches!(&*event(&mut *both).await, Event::Cancel { execution } if *execution == id(n)));
        assert!(matches!(&*event(&mut *both).await, Event::Content { id: which, .. } if *which == id(n)));
        assert!(matches!(&*event(&mut *one).await, Event::Cancel { execution } if *execution == id(n)));
    }
    assert!(silent(&mut *other).await);
    assert!(silent(&mut *both).await);
    bus.announce(announcement(7));
    let received = event(&mut *other).await;
    assert!(matches!(&*received, Event::Announcement { payload, .. } if payload["n"] == 7));
    let mut nothing = bus.subscribe(&[]);
    assert!(silent(&mut *nothing).await);
}

/// A waiting subscriber is woken, and one that went away is forgotten.
pub async fn subscribers_are_woken(bus: impl Bus + 'static) {
    let bus = Arc::new(bus);
    drop(bus.subscribe(&[Topic::Cancel]));
    let mut subscription = bus.subscribe(&[Topic::Cancel]);
    let waiting = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(event(&mut *subscription).await);
        }
        seen.len()
    });
    for n in 0..3 {
        tokio::task::yield_now().await;
        bus.announce(cancel(n));
    }
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), 3);
}

/// Abandoning `next` loses nothing.
pub async fn receiving_is_cancel_safe(bus: impl Bus) {
    let mut subscription = bus.subscribe(&[Topic::Cancel]);
    let mut consumer = bus.consume(Queue::Run, 1).await.unwrap();
    for n in 0..30 {
        assert!(timeout(Duration::from_micros(50), subscription.next()).await.is_err());
        assert!(timeout(Duration::from_micros(50), consumer.next()).await.is_err());
        bus.announce(cancel(n));
        bus.enqueue(Queue::Run, job(n)).await.unwrap();
        assert!(matches!(&*event(&mut *subscription).await, Event::Cancel { execution } if *execution == id(n)));
        let delivery = delivery(&mut *consumer).await;
        assert_eq!(delivery.job.id(), id(n));
        delivery.ack();
    }
}

/// Jobs come in order to a single consumer; queues are apart.
pub async fn jobs_come_in_order(bus: impl Bus) {
    for (queue, base) in Queue::ALL.into_iter().zip([0, 100, 200, 300]) {
        for n in 0..20 {
            bus.enqueue(queue, job(base + n)).await.unwrap();
        }
    }
    for (queue, base) in Queue::ALL.into_iter().zip([0, 100, 200, 300]) {
        let mut consumer = bus.consume(queue, 4).await.unwrap();
        for n in 0..20 {
            let delivery = delivery(&mut *consumer).await;
            assert_eq!(delivery.job.id(), id(base + n));
            delivery.ack();
        }
        assert!(idle(&mut *consumer).await);
    }
    let mut consumer = bus.consume(Queue::Rules, 1).await.unwrap();
    bus.enqueue(Queue::Rules, Job::TriggerInstance { id: id(9), hint: None }).await.unwrap();
    assert!(matches!(delivery(&mut *consumer).await.job, Job::TriggerInstance { id: which, .. } if which == id(9)));
}

/// At most `prefetch` deliveries are open; an acknowledgement makes room.
pub async fn prefetch_is_a_bound(bus: impl Bus) {
    for n in 0..6 {
        bus.enqueue(Queue::Run, job(n)).await.unwrap();
    }
    let mut consumer = bus.consume(Queue::Run, 2).await.unwrap();
    let (first, second) = (delivery(&mut *consumer).await, delivery(&mut *consumer).await);
    assert!(idle(&mut *consumer).await);
    second.ack();
    let third = delivery(&mut *consumer).await;
    assert_eq!(third.job.id(), id(2));
    assert!(idle(&mut *consumer).await);
    // Somebody else has room.
    let mut other = bus.consume(Queue::Run, 1).await.unwrap();
    assert_eq!(delivery(&mut *other).await.job.id(), id(3));
    first.ack();
    third.ack();
}

/// A delivery that is dropped goes to the next consumer, before what came later.
pub async fn dropped_deliveries_come_back(bus: impl Bus) {
    for n in 0..4 {
        bus.enqueue(Queue::Schedule, job(n)).await.unwrap();
    }
    let mut consumer = bus.consume(Queue::Schedule, 1).await.unwrap();
    drop(delivery(&mut *consumer).await);
    let again = delivery(&mut *consumer).await;
    assert_eq!(again.job.id(), id(0));
    drop(consumer);
    // It outlives the consumer that took it.
    drop(again);
    let mut consumer = bus.consume(Queue::Schedule, 1).await.unwrap();
    for n in 0..4 {
        let delivery = delivery(&mut *consumer).await;
        assert_eq!(delivery.job.id(), id(n));
        delivery.ack();
    }
    assert!(idle(&mut *consumer).await);
}

/// Each job goes to one of many consumers, while some of them are abandoned as they wait and some drop what they get.
pub async fn consumers_compete(bus: impl Bus + 'static) {
    const JOBS: u64 = 2_000;
    let bus = Arc::new(bus);
    let (done, mut results) = tokio::sync::mpsc::unbounded_channel();
    let mut consumers = tokio::task::JoinSet::new();
    for worker in 0..8_u64 {
        let (bus, done) = (Arc::clone(&bus), done.clone());
        consumers.spawn(async move {
            let mut consumer = bus.consume(Queue::Run, 3).await.unwrap();
            for turn in 0_u64.. {
                let patience = Duration::from_micros(if turn % 5 == 0 { 20 } else { 50_000 });
                let Ok(next) = timeout(patience, consumer.next()).await else { continue };
                let Some(delivery) = next else { return };
                if (turn + worker) % 7 == 0 {
                    drop(delivery);
                    continue;
                }
                tokio::task::yield_now().await;
                let _ = done.send(delivery.job.id());
                delivery.ack();
            }
        });
    }
    for n in 0..JOBS {
        bus.enqueue(Queue::Run, job(n)).await.unwrap();
        if n % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = BTreeSet::new();
    while seen.len() < JOBS as usize {
        let which = timeout(PATIENCE, results.recv()).await.unwrap().unwrap();
        assert!(seen.insert(which), "{which} twice");
    }
    consumers.shutdown().await;
    assert!(timeout(SILENCE, results.recv()).await.map_or(true, |more| more.is_none()));
}

/// Many waiting consumers, one job at a time: each job wakes somebody.
pub async fn every_job_wakes_somebody(bus: impl Bus + 'static) {
    let bus = Arc::new(bus);
    let (done, mut results) = tokio::sync::mpsc::unbounded_channel();
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (bus, done) = (Arc::clone(&bus), done.clone());
        consumers.spawn(async move {
            let mut consumer = bus.consume(Queue::PostRun, 1).await.unwrap();
            while let Some(delivery) = consumer.next().await {
                let _ = done.send(delivery.job.id());
                delivery.ack();
            }
        });
    }
    for n in 0..300 {
        bus.enqueue(Queue::PostRun, job(n)).await.unwrap();
        assert_eq!(timeout(PATIENCE, results.recv()).await.unwrap(), Some(id(n)));
    }
    consumers.shutdown().await;
}

/// Readiness.
pub async fn check_answers(bus: impl Bus) {
    bus.check().await.unwrap();
}

/// Makes the tests: `bus_contract!(async { MyBus::connect().await })`, evaluated for each. With `optional` before it the
/// expression yields an `Option`, and `None` skips the test (its server isn't there).
#[macro_export]
macro_rules! bus_contract {
    (optional $bus:expr) => {
        $crate::bus_contract!(@all $bus);
    };
    ($bus:expr) => {
        $crate::bus_contract!(@all async { ::core::option::Option::Some($bus.await) });
    };
    (@all $bus:expr) => {
        $crate::bus_contract!(@each $bus, [
            events_reach_every_subscriber, subscribers_are_woken, receiving_is_cancel_safe, jobs_come_in_order,
            prefetch_is_a_bound, dropped_deliveries_come_back, consumers_compete, every_job_wakes_somebody,
            check_answers,
        ]);
    };
    (@each $bus:expr, [$($name:ident),* $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let ::core::option::Option::Some(bus) = $bus.await else { return };
                $crate::contract::$name(bus).await;
            }
        )*
    };
}
