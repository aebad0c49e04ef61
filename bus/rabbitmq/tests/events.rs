//! Events between nodes over a real broker.

mod common;

use std::time::Duration;

use bus::{Bus, Event, Received, Subscription, Topic};
use common::{PATIENCE, TestBus, cancel, eventually, fresh_cluster, number, options, received};
use tokio::time::timeout;

fn which(event: &Event) -> u64 {
    match event {
        Event::Cancel { execution } => number(*execution),
        other => panic!("{other:?}"),
    }
}

async fn silent(subscription: &mut dyn Subscription) -> bool {
    timeout(Duration::from_millis(200), subscription.next()).await.is_err()
}

async fn pair() -> Option<(TestBus, TestBus)> {
    let url = servers::shared::address(servers::shared::RABBITMQ)?;
    let cluster = fresh_cluster();
    let one = TestBus::open(options(vec![url.clone()], &cluster)).await;
    Some((one, TestBus::open(options(vec![url], &cluster)).await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_the_other_nodes_in_order_and_nobody_twice() {
    let Some((one, two)) = pair().await else { return };
    let mut here = one.subscribe(&[Topic::Cancel]);
    let mut there = two.subscribe(&[Topic::Cancel, Topic::Content]);
    let mut other = two.subscribe(&[Topic::Execution]);
    const EVENTS: u64 = 1_000;
    for n in 0..EVENTS {
        one.announce(cancel(n));
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for subscription in [&mut here, &mut there] {
        for n in 0..EVENTS {
            let Received::Event(event) = received(&mut **subscription).await else { panic!("lost some") };
            assert_eq!(which(&event), n);
        }
        assert!(silent(&mut **subscription).await);
    }
    two.announce(cancel(7));
    let Received::Event(event) = received(&mut *here).await else { panic!() };
    assert_eq!(which(&event), 7);
    assert!(silent(&mut *other).await);
}

/// A third node comes when the others have talked for long: nobody hears of a loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_node_has_lost_nothing() {
    let Some(url) = servers::shared::address(servers::shared::RABBITMQ) else { return };
    let cluster = fresh_cluster();
    let one = TestBus::open(options(vec![url.clone()], &cluster)).await;
    for n in 0..100 {
        one.announce(cancel(n));
    }
    let two = TestBus::open(options(vec![url], &cluster)).await;
    let mut there = two.subscribe(&[Topic::Cancel]);
    // What was under way may still come, and no loss is told.
    one.announce(cancel(1_000));
    loop {
        let Received::Event(event) = received(&mut *there).await else { panic!("lost some") };
        if which(&event) == 1_000 {
            break;
        }
    }
}

/// A subscriber that doesn't look loses the oldest and is told; nobody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_hears_that_it_lost_some() {
    let Some(url) = servers::shared::address(servers::shared::RABBITMQ) else { return };
    let cluster = fresh_cluster();
    let one = TestBus::open(options(vec![url.clone()], &cluster)).await;
    let mut small = options(vec![url], &cluster);
    small.event_buffer = 100;
    let two = TestBus::open(small).await;
    let mut slow = two.subscribe(&[Topic::Cancel]);
    let mut quick = two.subscribe(&[Topic::Cancel]);
    let reading = tokio::spawn(async move {
        let (mut heard, mut lost) = (0, 0);
        loop {
            match timeout(PATIENCE, quick.next()).await.unwrap() {
                Some(Received::Event(event)) if which(&event) == 2_999 => return (heard + 1, lost),
                Some(Received::Event(_)) => heard += 1,
                Some(Received::Lost(some)) => lost += some,
                None => panic!(),
            }
        }
    });
    for n in 0..3_000 {
        one.announce(cancel(n));
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (heard, lost) = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(heard + lost, 3_000, "{lost} lost");
    let Received::Lost(lost) = received(&mut *slow).await else { panic!() };
    assert!(lost >= 2_900, "{lost}");
    for n in 2_900..3_000 {
        let Received::Event(event) = received(&mut *slow).await else { panic!() };
        assert_eq!(which(&event), n);
    }
}

/// A sender that had to drop some: the others hear of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sender_dropped_is_told() {
    let Some(url) = servers::shared::address(servers::shared::RABBITMQ) else { return };
    let cluster = fresh_cluster();
    let mut small = options(vec![url.clone()], &cluster);
    small.event_buffer = 10;
    let one = TestBus::open(small).await;
    let two = TestBus::open(options(vec![url], &cluster)).await;
    let mut there = two.subscribe(&[Topic::Cancel]);
    // Once heard, it is known how far it got.
    one.announce(cancel(0));
    assert!(matches!(received(&mut *there).await, Received::Event(_)));
    let mut total = 1;
    let mut heard = 1;
    let mut lost = 0;
    eventually("a loss is told", async || {
        for n in 0..500 {
            one.announce(cancel(n));
        }
        total += 500;
        while heard + lost < total {
            match timeout(Duration::from_secs(2), there.next()).await {
                Ok(Some(Received::Event(_))) => heard += 1,
                Ok(Some(Received::Lost(some))) => lost += some,
                Ok(None) => panic!(),
                Err(_) => panic!("{heard} heard, {lost} lost of {total}"),
            }
        }
        lost > 0
    })
    .await;
    assert_eq!(heard + lost, total);
}
