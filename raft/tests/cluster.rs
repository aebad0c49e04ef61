//! Several nodes as one group.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use common::{Cluster, leader, status};
use model::Duty;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_replicate_and_forward() {
    let cluster = Cluster::new(3);
    let groups = cluster.start_all().await;
    let first = leader(&groups).await;
    println!("leader: {first}");
    // Through every node, leader or not; seen at once where it was asked for.
    for (number, group) in groups.iter().enumerate() {
        let revision = group.advance_content(None, &format!("content-{number}")).await.unwrap();
        assert_eq!(revision, number as u64 + 1);
        assert_eq!(group.content_revision().unwrap().revision, revision, "its own write is not seen");
    }
    // Each duty has one holder, and they are spread.
    let holders: Vec<usize> = Duty::ALL
        .iter()
        .map(|duty| {
            let status = groups[first].status();
            let held = status.duties.iter().find(|held| held.duty == *duty).unwrap();
            held.holder.as_ref().unwrap().strip_prefix('n').unwrap().parse().unwrap()
        })
        .collect();
    println!("holders: {holders:?}");
    let index = groups[first].status().applied;
    let mut hashes = Vec::new();
    for group in &groups {
        let status = status(group, "all applied", |status| status.applied >= index).await;
        let mut voters = status.voters.clone();
        voters.sort();
        assert_eq!(voters, ["n0", "n1", "n2"]);
        hashes.push((status.applied, status.state_hash));
    }
    for group in &groups {
        group.shutdown().await;
    }
}
