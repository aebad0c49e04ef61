//! The coordination port's contract, on a group of one seen through two handles.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use std::sync::Arc;
use std::time::Duration;

use coordinator::Coordinator;
use coordinator::contract::Setup;
use raft::{Group, Options, RaftCoordinator};

#[derive(Debug)]
struct Running {
    _dir: tempfile::TempDir,
}

async fn alone() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let group = Group::open(Options::new(dir.path(), "box")).await.unwrap();
    group.wait_ready(Duration::from_secs(10)).await.unwrap();
    let mut changes = group.changes();
    while group.status().version < 2 {
        changes.changed().await.unwrap();
    }
    let node = || Arc::new(RaftCoordinator::new(group.clone())) as Arc<dyn Coordinator>;
    Setup::new(vec![node(), node()], Running { _dir: dir })
}

coordinator::coordinator_contract!(alone());
