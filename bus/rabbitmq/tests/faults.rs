//! A broker that stops, hangs, closes connections or takes no messages: work goes on or waits, and what was accepted is
//! delivered. Each test starts a broker of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::time::Duration;

use bus::{Bus, BusError, Queue, Received, Subscription, Topic};
use bus_rabbitmq::{RabbitBus, RabbitOptions};
use common::work::Work;
use common::{PATIENCE, cancel, eventually, job, next, options, received};
use servers::Rabbit;
use tokio::time::{Instant, sleep, timeout};

/// The broker, or `None` where none is installed.
fn broker() -> Option<Rabbit> {
    common::log();
    servers::shared::address(servers::shared::RABBITMQ)?;
    Some(Rabbit::private().unwrap())
}

fn through_the_broker(broker: &Rabbit, node: &str) -> RabbitOptions {
    let mut options = options(vec![broker.url()], "faults");
    options.node = node.to_owned();
    options.local_first = false;
    options
}

async fn open(options: RabbitOptions) -> RabbitBus {
    let bus = RabbitBus::open(options).unwrap();
    bus.ready(PATIENCE).await.unwrap();
    bus
}

async fn is_missed(bus: &RabbitBus) {
    let began = Instant::now();
    eventually("the loss is seen", async || bus.check().await.is_err()).await;
    let asked = Instant::now();
    let error = bus.check().await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_millis(1_300), "{:?}", asked.elapsed());
    assert!(matches!(&error, BusError::Unavailable(text) if !text.contains("guest")), "{error}");
    println!("not ready after {:?}: {error}", began.elapsed());
}

/// Reads until a loss is told.
async fn hears_of_a_loss(subscription: &mut dyn Subscription) {
    while !matches!(received(subscription).await, Received::Lost(_)) {}
}

/// Two nodes; one sends, both take.
async fn nodes(broker: &Rabbit) -> (RabbitBus, RabbitBus, Work) {
    let (one, two) = (open(through_the_broker(broker, "n1")).await, open(through_the_broker(broker, "n2")).await);
    let work = Work::start(one.clone(), &[one.clone(), two.clone()], Queue::Run);
    work.goes_on(PATIENCE).await;
    (one, two, work)
}

async fn all_well(nodes: [&RabbitBus; 2], work: Work) {
    for node in nodes {
        let began = Instant::now();
        node.ready(PATIENCE).await.unwrap();
        println!("ready again after {:?}", began.elapsed());
    }
    work.goes_on(PATIENCE).await;
    let sent = work.finish(PATIENCE).await;
    println!("{} accepted, {} refused, longest {:?}", sent.accepted.len(), sent.refused, sent.longest);
    assert_eq!(sent.refused, 0);
    // Events reach the other node again.
    let mut there = nodes[1].subscribe(&[Topic::Cancel]);
    eventually("events are heard", async || {
        nodes[0].announce(cancel(1));
        matches!(timeout(Duration::from_millis(100), there.next()).await, Ok(Some(Received::Event(_))))
    })
    .await;
    for node in nodes {
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_stopped_for_a_moment() {
    let Some(mut broker) = broker() else { return };
    let (one, two, work) = nodes(&broker).await;
    let mut there = two.subscribe(&[Topic::Cancel]);
    broker.process.stop().unwrap();
    is_missed(&one).await;
    // Nodes work with what they have.
    println!("went on after {:?}", work.goes_on(Duration::from_secs(2)).await);
    one.announce(cancel(5));
    sleep(Duration::from_secs(1)).await;
    broker.start().unwrap();
    hears_of_a_loss(&mut *there).await;
    all_well([&one, &two], work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_comes_back() {
    let Some(mut broker) = broker() else { return };
    let (one, two, work) = nodes(&broker).await;
    for _ in 0..2 {
        // RabbitMQ loses quorum queues that were made less than a moment before it is killed: their one member comes
        // back as a new one and waits for the others.
        sleep(Duration::from_secs(3)).await;
        broker.process.kill().unwrap();
        println!("went on after {:?}", work.goes_on(Duration::from_secs(3)).await);
        broker.start().unwrap();
        one.ready(PATIENCE).await.unwrap();
    }
    all_well([&one, &two], work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_closes_all_connections() {
    let Some(broker) = broker() else { return };
    let (one, two, work) = nodes(&broker).await;
    let mut here = one.subscribe(&[Topic::Cancel]);
    for _ in 0..3 {
        broker.ctl(&["close_all_connections", "maintenance"]).unwrap();
        hears_of_a_loss(&mut *here).await;
        work.goes_on(Duration::from_secs(5)).await;
    }
    all_well([&one, &two], work).await;
}

/// SIGSTOP: connections stay open and nothing comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs() {
    let Some(broker) = broker() else { return };
    let (one, two, work) = nodes(&broker).await;
    broker.process.pause().unwrap();
    is_missed(&one).await;
    println!("went on after {:?}", work.goes_on(Duration::from_secs(8)).await);
    sleep(Duration::from_secs(12)).await;
    work.goes_on(Duration::from_secs(2)).await;
    broker.process.resume().unwrap();
    all_well([&one, &two], work).await;
}

/// A memory alarm: publishers are blocked, consumers are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_takes_no_messages() {
    let Some(broker) = broker() else { return };
    let (one, two) = (open(through_the_broker(&broker, "n1")).await, open(through_the_broker(&broker, "n2")).await);
    for n in 0..10 {
        one.enqueue(Queue::Run, job(1_000_000 + n)).await.unwrap();
    }
    broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]).unwrap();
    eventually("the alarm is raised", async || !broker.ctl(&["list_queues", "name"]).unwrap().is_empty()).await;
    is_missed(&one).await;
    // What waits there is delivered.
    let mut consumer = two.consume(Queue::Run, 2).await.unwrap();
    for _ in 0..10 {
        next(&mut *consumer).await.ack();
    }
    drop(consumer);
    let work = Work::start(one.clone(), std::slice::from_ref(&one), Queue::Run);
    println!("went on after {:?}", work.goes_on(Duration::from_secs(5)).await);
    broker.ctl(&["set_vm_memory_high_watermark", "0.8"]).unwrap();
    all_well([&one, &two], work).await;
}

/// The node starts first, and doesn't wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_later() {
    let Some(mut broker) = broker() else { return };
    broker.process.stop().unwrap();
    let bus = RabbitBus::open(options(vec![broker.url()], "faults")).unwrap();
    is_missed(&bus).await;
    let mut consumer = bus.consume(Queue::Run, 1).await.unwrap();
    bus.enqueue(Queue::Run, job(1)).await.unwrap();
    bus.enqueue(Queue::Run, job(2)).await.unwrap();
    bus.enqueue(Queue::Rules, job(3)).await.unwrap();
    next(&mut *consumer).await.ack();
    let held = next(&mut *consumer).await;
    assert_eq!(bus.waiting(Queue::Rules).await.unwrap(), 1);
    broker.start().unwrap();
    bus.ready(PATIENCE).await.unwrap();
    // What nobody here takes is everybody's now.
    let other = open(through_the_broker(&broker, "n2")).await;
    let mut rules = other.consume(Queue::Rules, 1).await.unwrap();
    next(&mut *rules).await.ack();
    // So is what was taken and dropped.
    drop(consumer);
    drop(held);
    let mut run = other.consume(Queue::Run, 1).await.unwrap();
    next(&mut *run).await.ack();
    bus.close().await;
    other.close().await;
}

/// A full backlog says so; it never blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_bounded() {
    let Some(_) = servers::shared::address(servers::shared::RABBITMQ) else { return };
    let port = servers::free_port();
    let mut options = options(vec![format!("amqp://guest:guest@127.0.0.1:{port}/%2f")], "faults");
    options.backlog = 5;
    let bus = RabbitBus::open(options).unwrap();
    for n in 0..5 {
        bus.enqueue(Queue::Run, job(n)).await.unwrap();
    }
    let began = Instant::now();
    assert!(matches!(bus.enqueue(Queue::Run, job(9)).await, Err(BusError::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_millis(500));
    for n in 0..10_000 {
        bus.announce(cancel(n));
    }
    let mut consumer = bus.consume(Queue::Run, 1).await.unwrap();
    next(&mut *consumer).await.release();
    next(&mut *consumer).await.ack();
    bus.enqueue(Queue::Run, job(9)).await.unwrap();
    timeout(Duration::from_secs(5), bus.close()).await.unwrap();
}
