//! A full disk: a clear error, no lost or invented entry, work goes on when there is space again.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use model::Duty;
use raft::{Group, Options, RaftError};

const SOON: Duration = Duration::from_secs(20);

/// A small file system of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: mounting a tmpfs is not permitted here");
        None
    }

    fn fill(&self) -> File {
        let mut file = File::create(self.0.path().join("ballast")).unwrap();
        let mut chunk = vec![1u8; 64 << 10];
        while !chunk.is_empty() {
            if file.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

fn options(dir: &Path) -> Options {
    Options { request_timeout: Duration::from_secs(2), ..Options::new(dir.join("raft"), "full") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_survived() {
    let Some(disk) = SmallDisk::mount("12m") else { return };
    let dir = disk.0.path();
    let group = Group::open(options(dir)).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    let session = group.session().borrow().as_ref().unwrap().epoch;
    assert_eq!(group.advance_content(None, "before").await.unwrap(), 1);
    let ballast = disk.fill();

    // Free pages in the file may carry some writes still.
    let mut acknowledged = (1, "before".to_owned());
    let began = Instant::now();
    let error = loop {
        let hash = format!("{:0>500}", acknowledged.0);
        match group.advance_content(None, &hash).await {
            Ok(revision) => acknowledged = (revision, hash),
            Err(error) => break error,
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the disk never got full");
    };
    println!("{} commands were accepted on the full disk, then: {error}", acknowledged.0 - 1);
    assert!(matches!(error, RaftError::Storage(_)) && error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("No space left"), "{error}");
    let mut duty = group.duty(Duty::Timers);
    tokio::time::timeout(SOON, duty.wait_for(Option::is_none)).await.expect("rights must be withdrawn").unwrap();
    let told = group.check().unwrap_err();
    println!("readiness: {told}");
    assert!(matches!(told, RaftError::Storage(_)), "{told}");

    // A process that starts now can't work either, and says why.
    group.shutdown().await;
    match Group::open(options(dir)).await {
        Ok(group) => {
            let refused = group.wait_ready(Duration::from_secs(2)).await;
            if refused.is_err() {
                let told = group.check().unwrap_err().to_string();
                assert!(told.contains("No space left"), "{told}");
            }
            after(&disk, ballast, &group, &acknowledged, session).await;
        }
        Err(error) => {
            assert!(error.to_string().contains("No space left"), "{error}");
            drop(ballast);
            std::fs::remove_file(dir.join("ballast")).unwrap();
            let group = Group::open(options(dir)).await.unwrap();
            check(&group, &acknowledged, session).await;
        }
    }
}

/// The space returns while the node runs: it must recover by itself.
async fn after(disk: &SmallDisk, ballast: File, group: &Group, acknowledged: &(u64, String), session: u64) {
    drop(ballast);
    std::fs::remove_file(disk.0.path().join("ballast")).unwrap();
    check(group, acknowledged, session).await;
}

async fn check(group: &Group, acknowledged: &(u64, String), session: u64) {
    group.wait_ready(SOON).await.unwrap();
    group.check().unwrap();
    assert!(group.session().borrow().as_ref().unwrap().epoch > session);
    assert_eq!(group.content_at(acknowledged.0).as_ref(), Some(&acknowledged.1));
    let revision = group.content_revision().unwrap().revision;
    // The refused one may have been written or not, nothing else.
    assert!(revision == acknowledged.0 || revision == acknowledged.0 + 1, "{revision} after {}", acknowledged.0);
    assert_eq!(group.advance_content(None, "after").await.unwrap(), revision + 1);
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_recovers_by_itself_when_space_returns() {
    let Some(disk) = SmallDisk::mount("12m") else { return };
    let group = Group::open(options(disk.0.path())).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    let session = group.session().borrow().as_ref().unwrap().epoch;
    let mut acknowledged = (group.advance_content(None, "before").await.unwrap(), "before".to_owned());
    let ballast = disk.fill();
    loop {
        let hash = format!("{:0>500}", acknowledged.0);
        match group.advance_content(None, &hash).await {
            Ok(revision) => acknowledged = (revision, hash),
            Err(_) => break,
        }
    }
    let mut duty = group.duty(Duty::Timers);
    tokio::time::timeout(SOON, duty.wait_for(Option::is_none)).await.expect("rights must be withdrawn").unwrap();
    after(&disk, ballast, &group, &acknowledged, session).await;
}
