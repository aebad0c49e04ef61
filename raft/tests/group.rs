//! The group through its handle, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::Duty;
use raft::state::Refusal;
use raft::{Group, Options, RaftError};

const SOON: Duration = Duration::from_secs(10);

async fn open(dir: &std::path::Path) -> Group {
    let group = Group::open(Options::new(dir, "box")).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    group
}

/// Waits until the group of one has agreed with itself on this release's commands.
async fn version_2(group: &Group) {
    agreed(group, 2).await;
}

async fn agreed(group: &Group, version: u16) {
    let mut changes = group.changes();
    while group.status().version < version {
        tokio::time::timeout(SOON, changes.changed()).await.expect("no agreement").unwrap();
    }
}

fn epochs(group: &Group) -> Vec<u64> {
    let session = group.session().borrow().as_ref().unwrap().epoch;
    let duties = Duty::ALL.map(|duty| group.duty(duty).borrow().unwrap().epoch);
    [&[session], duties.as_slice()].concat()
}

#[tokio::test]
async fn a_group_of_one_holds_all_duties_and_remembers_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let group = open(dir.path()).await;
    println!("first start to all duties: {:?}", began.elapsed());
    let first = epochs(&group);
    for duty in Duty::ALL {
        let lease = group.duty(duty).borrow().unwrap();
        assert!(lease.is_valid() && lease.valid_until <= began + Duration::from_secs(6));
    }
    assert_eq!(group.advance_content(None, "one").await.unwrap(), 1);
    assert_eq!(group.advance_content(None, "one").await.unwrap(), 1, "a repeat changes nothing");
    assert_eq!(group.advance_content(None, "two").await.unwrap(), 2);
    let status = group.status();
    assert!(status.is_leader);
    assert_eq!(status.leader.as_deref(), Some("box"));
    assert_eq!((status.sessions.len(), status.duties.len()), (1, 3));
    assert_eq!(status.trouble, None);
    serde_json::to_string(&status).unwrap();
    group.check().unwrap();
    let mut session = group.session();
    group.shutdown().await;
    assert!(session.borrow_and_update().is_none());
    assert!(Duty::ALL.iter().all(|duty| group.duty(*duty).borrow().is_none()));
    assert!(matches!(group.check(), Err(RaftError::Stopped)));
    assert!(matches!(group.advance_content(None, "x").await, Err(RaftError::Stopped)));

    let began = Instant::now();
    let group = open(dir.path()).await;
    println!("second start to all duties: {:?}", began.elapsed());
    assert_eq!(group.content_revision().map(|content| (content.revision, content.hash)), Some((2, "two".into())));
    assert_eq!(group.content_at(1).as_deref(), Some("one"));
    assert!(epochs(&group).iter().zip(&first).all(|(now, before)| now > before), "epochs must grow");
    assert_eq!(group.status().node_id, status.node_id);
    group.shutdown().await;
}

#[tokio::test]
async fn leases_are_renewed_without_writing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        lease: Duration::from_millis(900),
        margin: Duration::from_millis(300),
        ..Options::new(dir.path(), "box")
    };
    let group = Group::open(options).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    version_2(&group).await;
    // The last writes of the first start: who leads, and this session's lease.
    let mut changes = group.changes();
    while tokio::time::timeout(Duration::from_millis(300), changes.changed()).await.is_ok() {}
    let index = group.status().last_index;
    let before = epochs(&group);
    let mut lease = group.duty(Duty::Timers);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let valid_until = lease.borrow_and_update().expect("the lease was lost").valid_until;
        tokio::time::timeout(Duration::from_secs(2), lease.changed()).await.expect("no renewal").unwrap();
        assert!(lease.borrow().expect("the lease was lost").valid_until > valid_until);
    }
    assert_eq!(epochs(&group), before, "renewals keep the epochs");
    assert_eq!(group.status().last_index, index, "renewals write nothing");
    group.shutdown().await;
}

#[tokio::test]
async fn content_moves_by_compare_and_set() {
    let dir = tempfile::tempdir().unwrap();
    let group = open(dir.path()).await;
    version_2(&group).await;
    assert_eq!(group.advance_content(0, "one").await.unwrap(), 1);
    assert_eq!(group.advance_content(0, "one").await.unwrap(), 1, "a repeat changes nothing");
    let late = group.advance_content(0, "two").await.unwrap_err();
    assert!(matches!(late, RaftError::Refused(Refusal::ContentMoved)), "{late}");
    assert_eq!(group.advance_content(1, "two").await.unwrap(), 2);
    group.shutdown().await;
}

#[tokio::test]
async fn the_first_proposal_is_what_all_agree_on_and_nobody_sees_it_in_passing() {
    let dir = tempfile::tempdir().unwrap();
    let group = open(dir.path()).await;
    version_2(&group).await;
    assert_eq!(group.agree("key", b"hunter2".to_vec()).await.unwrap(), b"hunter2");
    assert_eq!(group.agree("key", b"other".to_vec()).await.unwrap(), b"hunter2");
    let large = group.agree("large", vec![0; (16 << 10) + 1]).await.unwrap_err();
    assert!(matches!(large, RaftError::Refused(Refusal::TooMuch)));
    let status = group.status();
    assert_eq!(status.agreed.get("key"), Some(&7));
    for text in [format!("{status:?}"), serde_json::to_string(&status).unwrap()] {
        assert!(!text.contains("hunter2") && !text.contains("68756e74"), "{text}");
    }
    group.shutdown().await;
    let group = open(dir.path()).await;
    assert_eq!(group.agree("key", b"third".to_vec()).await.unwrap(), b"hunter2");
    group.shutdown().await;
}

#[tokio::test]
async fn sensors_are_owned_until_they_are_released_or_unwanted() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { roles: BTreeSet::from(["sensors".to_owned()]), ..Options::new(dir.path(), "box") };
    let group = Group::open(options).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    version_2(&group).await;
    let mut sensors = group.sensors();
    let refs = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    group.want_sensors(refs(&["p.a", "p.b"]), BTreeMap::new()).await.unwrap();
    let owned = sensors.wait_for(|owned| owned.len() == 2).await.unwrap().clone();
    assert!(owned.values().all(model::Lease::is_valid));
    let epoch = owned["p.a"].epoch;
    group.want_sensors(refs(&["p.b"]), BTreeMap::new()).await.unwrap();
    sensors.wait_for(|owned| owned.len() == 1).await.unwrap();
    // Wanted again before the release: it goes on under the same epoch until the container has released it.
    group.want_sensors(refs(&["p.a", "p.b"]), BTreeMap::new()).await.unwrap();
    sensors.wait_for(|owned| owned.get("p.a").is_some_and(|lease| lease.epoch == epoch)).await.unwrap();
    group.release_sensor("p.a", epoch).await.unwrap();
    sensors.wait_for(|owned| owned.get("p.a").is_some_and(|lease| lease.epoch > epoch)).await.unwrap();
    let late = group.release_sensor("p.a", epoch).await.unwrap_err();
    assert!(matches!(late, RaftError::Refused(Refusal::SensorNotHeld)));
    assert_eq!(group.status().sensors.len(), 2);
    group.shutdown().await;
    assert!(sensors.borrow_and_update().is_empty());
}

#[tokio::test]
async fn a_pinned_sensor_runs_on_its_node_or_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { roles: BTreeSet::from(["sensors".to_owned()]), ..Options::new(dir.path(), "box") };
    let group = Group::open(options).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    agreed(&group, 3).await;
    let mut sensors = group.sensors();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let refs = set(&["p.a", "p.b", "p.c"]);
    let pinned = |node: &str| BTreeMap::from([("p.a".to_owned(), set(&["box"])), ("p.b".to_owned(), set(&[node]))]);
    group.want_sensors(refs.clone(), pinned("other")).await.unwrap();
    let owned = sensors.wait_for(|owned| owned.len() == 2).await.unwrap().clone();
    assert!(owned.contains_key("p.a") && owned.contains_key("p.c"));
    group.want_sensors(refs.clone(), pinned("box")).await.unwrap();
    let owned = sensors.wait_for(|owned| owned.len() == 3).await.unwrap().clone();
    // Pinned elsewhere: it is asked back, and given to nobody here.
    group.want_sensors(refs, pinned("other")).await.unwrap();
    sensors.wait_for(|owned| !owned.contains_key("p.b")).await.unwrap();
    group.release_sensor("p.b", owned["p.b"].epoch).await.unwrap();
    let left = group.status().sensors.into_iter().find(|sensor| sensor.sensor == "p.b").unwrap();
    assert_eq!((left.node, left.pinned_to), (None, vec!["other".to_owned()]));
    group.shutdown().await;
}

#[tokio::test]
async fn a_directory_is_used_by_one_process_and_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let group = open(dir.path()).await;
    let second = Group::open(Options::new(dir.path(), "twin")).await.err().unwrap();
    assert!(second.to_string().contains("in use"), "{second}");
    group.shutdown().await;

    let foreign = Options { cluster_id: Some("elsewhere".into()), ..Options::new(dir.path(), "box") };
    let error = Group::open(foreign).await.err().unwrap();
    assert!(matches!(error, RaftError::Identity { .. }), "{error}");

    // A log that isn't this node's: swapped in from another directory.
    let other = tempfile::tempdir().unwrap();
    open(other.path()).await.shutdown().await;
    std::fs::copy(other.path().join("raft.redb"), dir.path().join("raft.redb")).unwrap();
    let error = Group::open(Options::new(dir.path(), "box")).await.err().unwrap();
    assert!(error.to_string().contains("another node"), "{error}");

    // A lost log is not replaced by an empty one, which would forget votes and acknowledged entries.
    std::fs::remove_file(dir.path().join("raft.redb")).unwrap();
    let error = Group::open(Options::new(dir.path(), "box")).await.err().unwrap();
    assert!(error.to_string().contains("missing"), "{error}");

    // A damaged one is an error, not a panic.
    std::fs::write(other.path().join("raft.redb"), vec![7; 8192]).unwrap();
    let error = Group::open(Options::new(other.path(), "box")).await.err().unwrap();
    assert!(matches!(error, RaftError::Storage(_)), "{error}");
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_group() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let deadline = Instant::now() + SOON;
    loop {
        match Group::open(Options::new(dir.path(), "box")).await {
            Ok(group) => return group.shutdown().await,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_entries_are_snapshotted_and_purged_and_the_file_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { snapshot_after: 1_000, keep_entries: 100, ..Options::new(dir.path(), "box") };
    let group = Group::open(options.clone()).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    let file = dir.path().join("raft.redb");
    let mut sizes = Vec::new();
    for round in 0..4u64 {
        let began = Instant::now();
        let tasks: Vec<_> = (0..32u64)
            .map(|task| {
                let group = group.clone();
                tokio::spawn(async move {
                    for entry in 0..79u64 {
                        group.advance_content(None, &format!("{round}-{task}-{entry}")).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        sizes.push(std::fs::metadata(&file).unwrap().len());
        println!("2,528 entries in {:?}, file {} KiB", began.elapsed(), sizes[sizes.len() - 1] / 1024);
    }
    let last = group.status().last_index.unwrap();
    assert!(last >= 10_000);
    let deadline = Instant::now() + SOON;
    let status = loop {
        let status = group.status();
        if status.snapshot.is_some_and(|at| at + 2_000 > last) && status.purged.is_some_and(|at| at + 2_200 > last) {
            break status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(sizes[3] <= sizes[0] * 2 && sizes[3] < 16 << 20, "the file grows without bound: {sizes:?}");
    group.shutdown().await;

    let group = Group::open(options).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    assert_eq!(group.content_revision().map(|content| content.revision), Some(status.content.unwrap().revision));
    group.shutdown().await;
}
