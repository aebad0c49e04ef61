//! The in-process bus: the contract suite, and what is its own.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Event, Job, LocalBus, LocalBusOptions, Queue, Received, Topic};
use model::Id;
use tokio::time::timeout;

mod contract {
    bus::bus_contract!(async { bus::LocalBus::default() });
}

const PATIENCE: Duration = Duration::from_secs(20);

fn id(n: u8) -> Id {
    Id::from_bytes([n; 12])
}

fn event(n: u8) -> Arc<Event> {
    Arc::new(Event::Cancel { execution: id(n) })
}

fn job(n: u8) -> Job {
    Job::Execution { id: id(n), hint: None }
}

fn small() -> LocalBus {
    LocalBus::new(LocalBusOptions { subscriber_buffer: 3, queue_capacity: 2 })
}

#[tokio::test]
async fn a_slow_subscriber_is_told_what_it_lost() {
    let bus = small();
    let mut slow = bus.subscribe(&[Topic::Cancel]);
    let mut quick = bus.subscribe(&[Topic::Cancel]);
    for n in 0..10 {
        bus.announce(event(n));
        assert!(matches!(quick.next().await, Some(Received::Event(_))));
    }
    assert!(matches!(slow.next().await, Some(Received::Lost(7))));
    for n in 7..10 {
        let Some(Received::Event(event)) = slow.next().await else { panic!() };
        assert!(matches!(&*event, Event::Cancel { execution } if *execution == id(n)));
    }
    bus.announce(event(11));
    assert!(matches!(slow.next().await, Some(Received::Event(_))));
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again() {
    let bus = small();
    bus.enqueue(Queue::Run, job(1)).await.unwrap();
    bus.enqueue(Queue::Run, job(2)).await.unwrap();
    assert_eq!(bus.enqueue(Queue::Run, job(3)).await, Err(BusError::Full("run")));
    bus.enqueue(Queue::Rules, job(4)).await.unwrap();
    let mut consumer = bus.consume(Queue::Run, 2).await.unwrap();
    let first = consumer.next().await.unwrap();
    bus.enqueue(Queue::Run, job(3)).await.unwrap();
    // What comes back finds its place even now.
    drop(first);
    assert_eq!(bus.waiting(Queue::Run), 3);
    for n in 1..=3 {
        let delivery = consumer.next().await.unwrap();
        assert_eq!(delivery.job.id(), id(n));
        delivery.ack();
    }
    assert_eq!(bus.waiting(Queue::Run), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_everybody() {
    let bus = small();
    let mut subscription = bus.subscribe(&[Topic::Cancel, Topic::Output]);
    bus.announce(event(1));
    let mut waiting = bus.consume(Queue::Rules, 1).await.unwrap();
    let waiting = tokio::spawn(async move { waiting.next().await.is_none() });
    let mut busy = bus.consume(Queue::Run, 1).await.unwrap();
    bus.enqueue(Queue::Run, job(1)).await.unwrap();
    let held = busy.next().await.unwrap();
    let busy = tokio::spawn(async move { busy.next().await.is_none() });
    tokio::task::yield_now().await;
    bus.close();
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap());
    assert!(timeout(PATIENCE, busy).await.unwrap().unwrap());
    drop(held);
    // What was announced before is still heard.
    assert!(matches!(subscription.next().await, Some(Received::Event(_))));
    assert!(subscription.next().await.is_none());
    assert!(bus.subscribe(&[Topic::Cancel]).next().await.is_none());
    bus.announce(event(2));
    assert_eq!(bus.enqueue(Queue::Run, job(2)).await, Err(BusError::Closed));
    assert!(matches!(bus.consume(Queue::Run, 1).await, Err(BusError::Closed)));
    assert_eq!(bus.check().await, Err(BusError::Closed));
    assert_eq!(bus.waiting(Queue::Run), 0);
}

/// Not a measurement, but a hundred times slower would show: no polling, and an event that nobody hears is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_quick() {
    let bus = LocalBus::default();
    let began = std::time::Instant::now();
    for _ in 0..100_000 {
        bus.announce(event(1));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut consumer = bus.consume(Queue::Run, 64).await.unwrap();
    let sender = tokio::spawn({
        let bus = bus.clone();
        async move {
            for _ in 0..20_000 {
                while bus.enqueue(Queue::Run, job(1)).await.is_err() {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    for _ in 0..20_000 {
        timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().ack();
    }
    sender.await.unwrap();
    println!("100,000 unheard events and 20,000 jobs: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
