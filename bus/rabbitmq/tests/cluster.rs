//! Three brokers that form a cluster; the one that leads a queue is killed.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bus::Queue;
use bus_rabbitmq::RabbitBus;
use common::work::Work;
use common::{PATIENCE, options};
use servers::{Rabbit, RabbitCluster};
use tokio::time::Instant;

/// The broker that leads the queue.
fn leader(asked: &Rabbit, queue: &str) -> String {
    let listed = asked.ctl(&["list_queues", "--no-table-headers", "name", "leader"]).unwrap();
    let line = listed.lines().find(|line| line.split_whitespace().next() == Some(queue)).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_is_delivered_though_the_queues_leader_is_killed() {
    common::log();
    if servers::shared::address(servers::shared::RABBITMQ).is_none() {
        return;
    }
    let mut cluster = RabbitCluster::private(3).unwrap();
    let open = async |node: &str| {
        let mut options = options(cluster.urls(), "cluster");
        options.node = node.to_owned();
        options.local_first = false;
        let bus = RabbitBus::open(options).unwrap();
        bus.ready(PATIENCE).await.unwrap();
        bus
    };
    let (one, two) = (open("n1").await, open("n2").await);
    let work = Work::start(one.clone(), &[one.clone(), two.clone()], Queue::Run);
    work.goes_on(PATIENCE).await;
    let mut killed = BTreeSet::new();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let name = leader(&cluster.brokers[0], "squall.cluster.jobs.run");
        let broker = cluster.brokers.iter_mut().find(|broker| broker.name() == name).unwrap();
        broker.process.kill().unwrap();
        let began = Instant::now();
        work.goes_on(Duration::from_secs(20)).await;
        println!("{name} killed; went on after {:?}", began.elapsed());
        for bus in [&one, &two] {
            bus.ready(PATIENCE).await.unwrap();
        }
        println!("ready again after {:?}", began.elapsed());
        work.goes_on(PATIENCE).await;
        cluster.brokers.iter_mut().find(|broker| broker.name() == name).unwrap().start().unwrap();
        killed.insert(name);
    }
    let sent = work.finish(PATIENCE).await;
    println!(
        "killed {killed:?}; {} accepted, {} refused, longest {:?}",
        sent.accepted.len(),
        sent.refused,
        sent.longest
    );
    assert_eq!(sent.refused, 0);
    one.close().await;
    two.close().await;
}
