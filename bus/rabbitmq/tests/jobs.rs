//! Jobs through a real broker: what is refused, what is given up, who gets what.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::time::Duration;

use bus::{Bus, BusError, Change, DeadLetter, DeadLetters, Job, Queue, Subject};
use common::{PATIENCE, TestBus, eventually, fresh_cluster, id, job, next, number, options};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use model::{Timestamp, TriggerInstance, Versioned};
use serde_json::json;
use tokio::time::{sleep, timeout};

fn shared() -> Option<String> {
    servers::shared::address(servers::shared::RABBITMQ)
}

async fn letter(letters: &mut dyn DeadLetters) -> DeadLetter {
    timeout(PATIENCE, letters.next()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_never_done_becomes_a_dead_letter() {
    let Some(url) = shared() else { return };
    for local_first in [true, false] {
        let mut options = options(vec![url.clone()], &fresh_cluster());
        options.delivery_limit = 3;
        options.local_first = local_first;
        let bus = TestBus::open(options).await;
        let mut letters = bus.dead_letters().unwrap();
        let mut consumer = bus.consume(Queue::Schedule, 2).await.unwrap();
        bus.enqueue(Queue::Schedule, job(1)).await.unwrap();
        bus.enqueue(Queue::Schedule, job(2)).await.unwrap();
        let (mut poison, mut good) = (0, 0);
        while let Ok(Some(delivery)) = timeout(Duration::from_secs(1), consumer.next()).await {
            if delivery.job.id() == id(1) {
                poison += 1;
                drop(delivery);
            } else {
                good += 1;
                delivery.ack();
            }
        }
        assert!((4..=5).contains(&poison) && good == 1, "{poison} {good}");
        let given_up = letter(&mut *letters).await;
        assert_eq!(given_up.queue, Some(Queue::Schedule));
        assert_eq!(given_up.subject, Some(Subject::Execution(id(1))));
        assert_eq!(given_up.reason, "it was delivered too often without being done");
        // Nobody dealt with it.
        drop(given_up);
        let again = letter(&mut *letters).await;
        assert_eq!(again.subject, Some(Subject::Execution(id(1))));
        again.ack();
        assert!(timeout(Duration::from_millis(1_500), letters.next()).await.is_err());
    }
}

/// The store was away for a while: no job is given up for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_released_is_never_given_up() {
    let Some(url) = shared() else { return };
    for local_first in [true, false] {
        let mut options = options(vec![url.clone()], &fresh_cluster());
        options.delivery_limit = 2;
        options.local_first = local_first;
        let bus = TestBus::open(options).await;
        let mut consumer = bus.consume(Queue::Run, 1).await.unwrap();
        bus.enqueue(Queue::Run, job(1)).await.unwrap();
        bus.enqueue(Queue::Run, job(2)).await.unwrap();
        for _ in 0..20 {
            next(&mut *consumer).await.release();
        }
        // The consumer goes with the job in hand; somebody else gets it.
        let delivery = next(&mut *consumer).await;
        drop(consumer);
        delivery.release();
        let mut consumer = bus.consume(Queue::Run, 2).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let delivery = next(&mut *consumer).await;
            seen.push(number(delivery.job.id()));
            delivery.ack();
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_becomes_a_dead_letter_and_blocks_nothing() {
    let Some(url) = shared() else { return };
    let cluster = fresh_cluster();
    let bus = TestBus::open(options(vec![url.clone()], &cluster)).await;
    let mut consumer = bus.consume(Queue::Rules, 1).await.unwrap();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let publish = async |body: &[u8], properties: BasicProperties| {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let exchange = format!("squall.{cluster}.jobs");
        let published = channel.basic_publish(exchange.into(), "rules".into(), options, body, properties).await;
        assert_eq!(published.unwrap().await.unwrap(), lapin::Confirmation::Ack(None));
    };
    publish(b"\xff not json", BasicProperties::default()).await;
    let properties = BasicProperties::default().with_type("trigger_instance".into());
    publish(br#"{"v":2,"what":"ever"}"#, properties.with_message_id(id(7).to_string().into())).await;
    publish(format!(r#"{{"v":1,"kind":"trigger_instance","id":"{}"}}"#, id(8)).as_bytes(), BasicProperties::default())
        .await;
    let delivery = next(&mut *consumer).await;
    assert!(matches!(delivery.job, Job::TriggerInstance { id: which, hint: None } if which == id(8)));
    delivery.ack();
    let mut letters = bus.dead_letters().unwrap();
    let mut subjects = Vec::new();
    for _ in 0..2 {
        let letter = letter(&mut *letters).await;
        assert_eq!((letter.queue, letter.reason.as_str()), (Some(Queue::Rules), "the message could not be read"));
        subjects.push(letter.subject);
        letter.ack();
    }
    assert_eq!(subjects, [None, Some(Subject::TriggerInstance(id(7)))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_takes_again() {
    let Some(url) = shared() else { return };
    let mut options = options(vec![url], &fresh_cluster());
    options.max_queue_length = 10;
    let bus = TestBus::open(options).await;
    let mut accepted = 0;
    let refused = loop {
        match bus.enqueue(Queue::PostRun, job(accepted)).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100);
    };
    assert_eq!(refused, BusError::Full("postrun"));
    assert!((10..20).contains(&accepted), "{accepted}");
    // Other queues are not concerned.
    bus.enqueue(Queue::Run, job(0)).await.unwrap();
    eventually("all are counted", async || bus.waiting(Queue::PostRun).await.unwrap() == accepted as usize).await;
    let mut consumer = bus.consume(Queue::PostRun, 5).await.unwrap();
    for n in 0..accepted {
        let delivery = next(&mut *consumer).await;
        assert_eq!(delivery.job.id(), id(n));
        delivery.ack();
    }
    eventually("none is left", async || bus.waiting(Queue::PostRun).await.unwrap() == 0).await;
    bus.enqueue(Queue::PostRun, job(0)).await.unwrap();
}

/// Documents travel with the job, over the broker too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_travel() {
    let Some(bus) = TestBus::shared(false).await else { return };
    let doc = json!({
        "id": id(3), "trigger": "core.st2.webhook", "payload": {"a": Change::Create}, "status": "pending",
        "occurrence_time": Timestamp::default(),
    });
    let doc: TriggerInstance = serde_json::from_value(doc).unwrap();
    let mut large = doc.clone();
    large.payload = json!("x".repeat(70_000));
    for (doc, travels) in [(doc, true), (large, false)] {
        let sent = std::sync::Arc::new(Versioned { rev: 9, doc });
        bus.enqueue(Queue::Rules, Job::TriggerInstance { id: id(3), hint: Some(sent.clone()) }).await.unwrap();
        let mut consumer = bus.consume(Queue::Rules, 1).await.unwrap();
        let delivery = next(&mut *consumer).await;
        let Job::TriggerInstance { hint, .. } = &delivery.job else { panic!() };
        assert_eq!(hint.as_ref(), travels.then_some(&sent));
        delivery.ack();
    }
}

/// Two nodes: local first, then whoever has room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_the_work() {
    let Some(url) = shared() else { return };
    let cluster = fresh_cluster();
    let one = TestBus::open(options(vec![url.clone()], &cluster)).await;
    let two = TestBus::open(options(vec![url], &cluster)).await;
    let mut here = one.consume(Queue::Run, 2).await.unwrap();
    one.enqueue(Queue::Run, job(1)).await.unwrap();
    one.enqueue(Queue::Run, job(2)).await.unwrap();
    let held = [next(&mut *here).await, next(&mut *here).await];
    assert_eq!(held.each_ref().map(|delivery| number(delivery.job.id())), [1, 2]);
    // From now on the second job could have gone to either.
    let mut there = two.consume(Queue::Run, 2).await.unwrap();
    for n in 3..20 {
        one.enqueue(Queue::Run, job(n)).await.unwrap();
    }
    // `here` is full: what the broker sent there before it knew moves on.
    let mut seen = Vec::new();
    for _ in 3..20 {
        let delivery = next(&mut *there).await;
        seen.push(number(delivery.job.id()));
        sleep(Duration::from_millis(5)).await;
        delivery.ack();
    }
    seen.sort_unstable();
    assert_eq!(seen, (3..20).collect::<Vec<_>>());
    // And with room again, it takes part as before.
    for delivery in held {
        delivery.ack();
    }
    let mut here_again = false;
    let mut seen = std::collections::BTreeSet::new();
    for n in 30.. {
        assert!(n < 130, "a node with room gets nothing");
        two.enqueue(Queue::Run, job(n)).await.unwrap();
        two.enqueue(Queue::Run, job(1000 + n)).await.unwrap();
        for _ in 0..2 {
            let delivery = tokio::select! {
                delivery = next(&mut *here) => {
                    here_again = true;
                    delivery
                }
                delivery = next(&mut *there) => delivery,
            };
            assert!(seen.insert(number(delivery.job.id())), "once each");
            delivery.ack();
        }
        if here_again {
            break;
        }
    }
}

/// What was deleted under the node's feet is made anew, and consumers go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_declared_anew() {
    let Some(bus) = TestBus::shared(false).await else { return };
    let mut consumer = bus.consume(Queue::Run, 4).await.unwrap();
    bus.enqueue(Queue::Run, job(0)).await.unwrap();
    next(&mut *consumer).await.ack();
    bus.remove().await.unwrap();
    for n in 1..20 {
        bus.enqueue(Queue::Run, job(n)).await.unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 19 {
        let delivery = next(&mut *consumer).await;
        seen.insert(number(delivery.job.id()));
        delivery.ack();
    }
    bus.ready(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_everybody_and_leaves_the_jobs_there() {
    let Some(url) = shared() else { return };
    let cluster = fresh_cluster();
    let mut through_the_broker = options(vec![url.clone()], &cluster);
    through_the_broker.local_first = false;
    let first = TestBus::open(through_the_broker).await;
    let mut consumer = first.consume(Queue::Run, 1).await.unwrap();
    let mut idle = first.consume(Queue::Rules, 1).await.unwrap();
    let mut subscription = first.subscribe(&[bus::Topic::Cancel]);
    for n in 0..5 {
        first.enqueue(Queue::Run, job(n)).await.unwrap();
    }
    let held = next(&mut *consumer).await;
    let waiting = tokio::spawn(async move { idle.next().await.is_none() });
    first.handle().close().await;
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap());
    assert!(timeout(PATIENCE, consumer.next()).await.unwrap().is_none());
    assert!(timeout(PATIENCE, subscription.next()).await.unwrap().is_none());
    drop(held);
    assert_eq!(first.enqueue(Queue::Run, job(9)).await, Err(BusError::Closed));
    assert_eq!(first.check().await, Err(BusError::Closed));
    assert!(matches!(first.consume(Queue::Run, 1).await, Err(BusError::Closed)));

    let second = TestBus::open(options(vec![url], &cluster)).await;
    let mut consumer = second.consume(Queue::Run, 1).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let delivery = next(&mut *consumer).await;
        seen.push(number(delivery.job.id()));
        delivery.ack();
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

/// What a node works on counts against what the broker sends it, for as long as it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_node_gets_nothing_that_another_could_do() {
    let Some(url) = shared() else { return };
    for owed in [Duration::from_secs(60), Duration::from_millis(300)] {
        let mut options = options(vec![url.clone()], &fresh_cluster());
        options.owed = owed;
        let busy = TestBus::open(options.clone()).await;
        let mut consumer = busy.consume(Queue::Run, 4).await.unwrap();
        let mut slots = Vec::new();
        for number in 0..4 {
            busy.enqueue(Queue::Run, job(number)).await.unwrap();
            slots.push(next(&mut *consumer).await.accept());
        }
        // It isn't owed any more: acknowledged, and still nothing may come here.
        sleep(3 * owed.min(Duration::from_millis(300))).await;
        let idle = TestBus::open(options).await;
        let mut other = idle.consume(Queue::Run, 4).await.unwrap();
        let mut kept = Vec::new();
        for number in 4..8 {
            busy.enqueue(Queue::Run, job(number)).await.unwrap();
            kept.push(next(&mut *other).await.accept());
        }
        // Both are full; the next one goes to whoever has room first.
        busy.enqueue(Queue::Run, job(8)).await.unwrap();
        assert!(timeout(Duration::from_millis(300), consumer.next()).await.is_err());
        slots.pop();
        let delivery = next(&mut *consumer).await;
        assert_eq!(delivery.job.id(), id(8));
        delivery.ack();
    }
}

/// A node runs only a part of what it is asked for itself while others have room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_shared_with_other_nodes() {
    let Some(url) = shared() else { return };
    let options = options(vec![url.clone()], &fresh_cluster());
    let (one, two) = (TestBus::open(options.clone()).await, TestBus::open(options).await);
    let mut here = one.consume(Queue::Run, 8).await.unwrap();
    let mut there = two.consume(Queue::Run, 8).await.unwrap();
    let mut kept = Vec::new();
    let (mut at_one, mut at_two) = (0, 0);
    for number in 0..12 {
        one.enqueue(Queue::Run, job(number)).await.unwrap();
        tokio::select! {
            delivery = here.next() => { at_one += 1; kept.push(delivery.unwrap().accept()); }
            delivery = there.next() => { at_two += 1; kept.push(delivery.unwrap().accept()); }
            () = sleep(PATIENCE) => panic!("job {number} doesn't come"),
        }
    }
    println!("{at_one} here, {at_two} there");
    assert!(at_one <= 8 && at_two >= 4, "{at_one} {at_two}");
}
