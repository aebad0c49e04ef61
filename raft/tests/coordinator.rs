//! The coordination port's contract: on a group of one seen through two handles, and on three nodes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

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

struct Three {
    _cluster: common::Cluster,
}

impl std::fmt::Debug for Three {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Three").finish_non_exhaustive()
    }
}

async fn three() -> Setup {
    let cluster = common::Cluster::new(3);
    let groups = cluster.start_all().await;
    let mut nodes = Vec::new();
    for group in groups {
        common::status(&group, "version 2", |status| status.version >= 2).await;
        nodes.push(Arc::new(RaftCoordinator::new(group)) as Arc<dyn Coordinator>);
    }
    Setup::new(nodes, Three { _cluster: cluster })
}

mod one_node {
    coordinator::coordinator_contract!(super::alone());
}

mod three_nodes {
    coordinator::coordinator_contract!(super::three());
}
