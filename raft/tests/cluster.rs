//! Several nodes as one group.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use common::{Cluster, SOON, eventually, leader, settled, status};
use model::Duty;
use raft::{Group, Options, RaftError, admin};

async fn stop(groups: &[Group]) {
    futures::future::join_all(groups.iter().map(Group::shutdown)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_replicate_and_forward() {
    let cluster = Cluster::new(3);
    let groups = cluster.start_all().await;
    let first = leader(&groups).await;
    // Through every node, leader or not; seen at once where it was asked for.
    for (number, group) in groups.iter().enumerate() {
        let revision = group.advance_content(None, &format!("content-{number}")).await.unwrap();
        assert_eq!(revision, number as u64 + 1);
        assert_eq!(group.content_revision().unwrap().revision, revision, "its own write is not seen");
    }
    let state = groups[first].status();
    assert!(Duty::ALL.iter().all(|duty| state.duties.iter().any(|held| held.duty == *duty && held.holder.is_some())));
    settled(&groups).await;
    for group in &groups {
        let status = group.status();
        let mut voters = status.voters.clone();
        voters.sort();
        assert_eq!(voters, ["n0", "n1", "n2"]);
        assert!(status.members.iter().all(|member| member.voter && member.address.is_some()));
        assert_eq!(group.min_version(), raft::Reads::ours());
    }
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_may_stop_and_come_back_and_the_lead_passes_on_at_once() {
    let cluster = Cluster::new(3);
    let mut groups = cluster.start_all().await;
    for round in 0..3 {
        // Twice the leader, once a follower.
        let gone = (leader(&groups).await + usize::from(round == 1)) % 3;
        let stopped = groups.remove(gone);
        let id = stopped.status().node_id;
        let began = Instant::now();
        stopped.shutdown().await;
        let down = began.elapsed();
        groups[0].advance_content(None, &format!("without-{round}")).await.unwrap();
        println!("stopped in {down:?}, served after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(2), "an election instead of a hand-over");
        let back = cluster.start(gone).await;
        back.wait_ready(SOON).await.unwrap();
        assert_eq!(back.status().node_id, id);
        groups.insert(gone, back);
        settled(&groups).await;
    }
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_goes_where_it_is_sent() {
    let cluster = Cluster::new(3);
    let groups = cluster.start_all().await;
    for round in 0..3 {
        let to = (leader(&groups).await + 1) % 3;
        // Asked of a node that doesn't lead, by the protocol of operators.
        let asked = cluster.address((to + 1) % 3).to_string();
        admin::transfer(&asked, &cluster.tls(0), Some(&Cluster::name(to))).await.unwrap();
        let arrived = eventually("the new leader", || groups[to].status().is_leader.then_some(to)).await;
        assert_eq!(arrived, to, "round {round}");
    }
    let seen = admin::status(&cluster.address(1).to_string(), &cluster.tls(2)).await.unwrap();
    assert_eq!((seen.node_name.as_str(), seen.members.len()), ("n1", 3));
    assert!(groups[0].transfer_leader(Some("nobody")).await.unwrap_err().to_string().contains("not a member"));
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_nodes_join_as_learners_and_become_voters_while_there_is_room() {
    let cluster = Cluster::new(5);
    let limited = |node| {
        let mut options = cluster.options(node);
        options.cluster.as_mut().unwrap().max_voters = 4;
        options
    };
    let mut groups = Vec::new();
    for node in 0..3 {
        groups.push(Group::open(limited(node)).await.unwrap());
    }
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
    }
    groups[1].advance_content(None, "early").await.unwrap();
    // The fourth votes, the fifth doesn't want to.
    groups.push(Group::open(limited(3)).await.unwrap());
    let mut follower = limited(4);
    follower.cluster.as_mut().unwrap().voter = false;
    groups.push(Group::open(follower).await.unwrap());
    for group in &groups[3..] {
        group.wait_ready(SOON).await.unwrap();
    }
    status(&groups[4], "four voters", |status| status.voters.len() == 4 && status.members.len() == 5).await;
    assert!(!groups[4].status().voters.contains(&"n4".to_owned()));
    // A learner does everything else: it forwards, holds a session, sees what it wrote.
    assert_eq!(groups[4].advance_content(None, "late").await.unwrap(), 2);
    assert_eq!(groups[4].content_at(1).as_deref(), Some("early"));
    settled(&groups).await;
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_comes_back_under_a_new_id() {
    let cluster = Cluster::new(3);
    let mut groups = cluster.start_all().await;
    groups[0].advance_content(None, "kept").await.unwrap();
    let lost = (leader(&groups).await + 1) % 3;
    let former = groups[lost].status().node_id;
    groups.remove(lost).shutdown().await;
    cluster.forget_disk(lost);
    let back = cluster.start(lost).await;
    back.wait_ready(SOON).await.unwrap();
    // It hears of former memberships first.
    let replaced = |status: &raft::Status| {
        status.voters.len() == 3 && status.members.len() == 3 && status.members.iter().all(|member| member.id != former)
    };
    let now = status(&back, "a voter again", replaced).await;
    assert_ne!(now.node_id, former);
    assert_eq!(back.content_revision().unwrap().hash, "kept");
    groups.insert(lost, back);
    settled(&groups).await;
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_loses_its_rights_says_so_and_stays_away() {
    let cluster = Cluster::new(3);
    let mut groups = cluster.start_all().await;
    let gone = leader(&groups).await;
    let name = Cluster::name(gone);
    // The leader itself, asked of another node.
    groups[(gone + 1) % 3].remove_node(&name).await.unwrap();
    let removed = groups.remove(gone);
    eventually("the node knows", || matches!(removed.check(), Err(RaftError::Removed)).then_some(())).await;
    assert!(removed.session().borrow().is_none());
    assert!(Duty::ALL.iter().all(|duty| removed.duty(*duty).borrow().is_none()));
    assert!(matches!(removed.advance_content(None, "x").await, Err(RaftError::Removed | RaftError::NotLeader { .. })));
    let left =
        status(&groups[0], "two members", |status| status.members.len() == 2 && status.sessions.len() == 2).await;
    assert!(!left.voters.contains(&name));
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
    }
    groups[0].advance_content(None, "goes on").await.unwrap();
    removed.shutdown().await;

    // Started again it finds out by itself, and disturbs nobody.
    let term = groups[0].status().term;
    let again = cluster.start(gone).await;
    eventually("the node knows again", || matches!(again.check(), Err(RaftError::Removed)).then_some(())).await;
    assert_eq!(groups[0].status().term, term, "a removed node brought an election about");
    again.shutdown().await;

    // With an empty directory it is a new node.
    cluster.forget_disk(gone);
    let fresh = cluster.start(gone).await;
    fresh.wait_ready(SOON).await.unwrap();
    groups.push(fresh);
    settled(&groups).await;
    let error = groups[0].remove_node("nobody").await.unwrap_err();
    assert!(error.to_string().contains("not a member"), "{error}");
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_all_moved_find_each_other() {
    let mut cluster = Cluster::new(3);
    let groups = cluster.start_all().await;
    groups[0].advance_content(None, "before").await.unwrap();
    stop(&groups).await;
    cluster.move_all();
    let groups = cluster.start_all().await;
    let known = |status: &raft::Status| {
        status.members.iter().all(|member| member.address.as_deref().is_some_and(|address| cluster.knows(address)))
    };
    for group in &groups {
        status(group, "new addresses", known).await;
    }
    assert_eq!(groups[2].content_revision().unwrap().hash, "before");
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_commits_nothing_and_catches_up_when_it_is_mended() {
    let cluster = Cluster::new(3);
    let groups = cluster.start_all().await;
    let alone = leader(&groups).await;
    let others: Vec<usize> = (0..3).filter(|node| *node != alone).collect();
    for other in &others {
        groups[alone].cut_off(&Cluster::name(*other), true);
        groups[*other].cut_off(&Cluster::name(alone), true);
    }
    let cut = Instant::now();
    let hopeless = tokio::time::timeout(Duration::from_secs(8), groups[alone].advance_content(None, "minority"));
    let (hopeless, ()) = tokio::join!(hopeless, async {
        groups[others[0]].advance_content(None, "majority").await.unwrap();
        println!("the majority serves after {:?}", cut.elapsed());
    });
    assert!(hopeless.expect("no deadline").is_err(), "a minority committed");
    eventually("the minority's rights end", || groups[alone].session().borrow().is_none().then_some(())).await;
    assert_eq!(groups[alone].content_revision().map(|content| content.hash), None);
    for other in &others {
        groups[alone].cut_off(&Cluster::name(*other), false);
        groups[*other].cut_off(&Cluster::name(alone), false);
    }
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
    }
    settled(&groups).await;
    assert_eq!(groups[alone].content_revision().unwrap().hash, "majority");
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lags_far_behind_gets_a_snapshot() {
    let cluster = Cluster::new(3);
    let small = |node| Options { snapshot_after: 100, keep_entries: 10, ..cluster.options(node) };
    let mut groups = Vec::new();
    for node in 0..3 {
        groups.push(Group::open(small(node)).await.unwrap());
    }
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
    }
    let behind = (leader(&groups).await + 1) % 3;
    groups.remove(behind).shutdown().await;
    let began = Instant::now();
    let writer = &groups[0];
    let writes =
        (0..600).map(|number| async move { writer.advance_content(None, &format!("c{number}")).await.unwrap() });
    let _: Vec<u64> = futures::stream::iter(writes).buffer_unordered(16).collect().await;
    println!("600 writes in {:?}", began.elapsed());
    let purged = eventually("a purge", || groups[0].status().purged.filter(|purged| *purged > 300)).await;
    let back = Group::open(small(behind)).await.unwrap();
    back.wait_ready(SOON).await.unwrap();
    let caught_up = status(&back, "the snapshot", |status| status.applied.is_some_and(|at| at > purged)).await;
    // Far beyond what it had, and less than the leader may have kept.
    assert!(caught_up.snapshot.is_some_and(|at| at > 300), "{caught_up:?}");
    groups.insert(behind, back);
    settled(&groups).await;
    let hashes: Vec<_> = groups.iter().map(|group| group.status().past_hashes).collect();
    // One that got a snapshot has only the later ones.
    assert!(hashes.iter().any(|hashes| hashes.len() > 3));
    for other in &hashes[1..] {
        let differs = other.iter().find(|(index, hash)| hashes[0].iter().any(|(at, one)| at == index && one != hash));
        assert_eq!(differs, None, "replicas differ");
    }
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_box_gets_company() {
    let cluster = Cluster::new(3);
    let alone = Options { cluster: None, ..cluster.options(0) };
    let group = Group::open(alone).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    group.advance_content(None, "from before").await.unwrap();
    let id = group.cluster_id().to_owned();
    group.shutdown().await;
    let mut groups = vec![cluster.start(0).await];
    groups[0].wait_ready(SOON).await.unwrap();
    for node in 1..3 {
        groups.push(cluster.start(node).await);
    }
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
        assert_eq!(group.cluster_id(), id);
        status(group, "three voters", |status| status.voters.len() == 3).await;
    }
    assert_eq!(groups[2].content_revision().unwrap().hash, "from before");
    settled(&groups).await;
    stop(&groups).await;
}

/// Whoever looks at the status again and again doesn't get in the way, and always gets an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_status_can_be_asked_for_at_any_moment() {
    let cluster = Cluster::new(3);
    let mut groups = Vec::new();
    for node in 0..3 {
        groups.push(Arc::new(cluster.start(node).await));
    }
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
    }
    let asked: Vec<_> = (0..6)
        .map(|number| {
            let group = groups[number % 3].clone();
            tokio::task::spawn_blocking(move || (0..3_000).map(|_| group.status().members.len()).sum::<usize>())
        })
        .collect();
    let writes = (0..400).map(|number| {
        let group = groups[number % 3].clone();
        async move { group.advance_content(None, &format!("c{number}")).await.unwrap() }
    });
    let _: Vec<u64> = futures::stream::iter(writes).buffer_unordered(16).collect().await;
    for asked in asked {
        assert_eq!(tokio::time::timeout(SOON, asked).await.unwrap().unwrap(), 9_000);
    }
    for group in groups {
        group.shutdown().await;
    }
}
