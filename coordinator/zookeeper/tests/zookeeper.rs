//! ZooKeeper itself: the contract suite, and restarts, expired sessions and lost memory.

#![allow(clippy::unwrap_used)] // a failed step fails the test

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::contract::Setup;
use coordinator::{Answer, Ask, Coordinator, CoordinatorError, Grants, Heard, Holder};
use coordinator_zookeeper::{ZooKeeperCoordinator, ZooKeeperOptions};

const PATIENCE: Duration = Duration::from_secs(30);

fn options(address: &str, root: &str) -> ZooKeeperOptions {
    let mut options = ZooKeeperOptions::new(address, root);
    options.session_timeout = Duration::from_secs(2);
    options
}

async fn open(address: &str, root: &str) -> ZooKeeperCoordinator {
    let mut options = options(address, root);
    // A busy machine is no fault.
    (options.session_timeout, options.timeout) = (Duration::from_secs(10), Duration::from_secs(10));
    ZooKeeperCoordinator::open(options).await.unwrap()
}

mod contract {
    use super::*;

    coordinator::coordinator_contract!(async {
        let address = servers::shared::address(servers::shared::ZOOKEEPER)?;
        let root = format!("/test-{:x}", rand::random::<u64>());
        let mut nodes: Vec<Arc<dyn Coordinator>> = Vec::new();
        for _ in 0..3 {
            nodes.push(Arc::new(open(&address, &root).await));
        }
        Some(Setup::new(nodes, Leftovers { address, root }))
    });
}

/// Removes what a test left on the shared server.
#[derive(Debug)]
struct Leftovers {
    address: String,
    root: String,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let (address, root) = (self.address.clone(), self.root.clone());
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(wipe(&address, &root));
        });
        cleaned.join().unwrap();
    }
}

async fn wipe(address: &str, root: &str) {
    let client = zookeeper_client::Client::connect(address).await.unwrap();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let children = client.list_children(&path).await.unwrap_or_default();
        if children.is_empty() {
            let _ = client.delete(&path, None).await;
        } else {
            left.push(path.clone());
            left.extend(children.into_iter().map(|child| format!("{path}/{child}")));
        }
    }
}

fn server() -> Option<servers::ZooKeeper> {
    servers::shared::address(servers::shared::ZOOKEEPER)?;
    Some(servers::ZooKeeper::private().unwrap())
}

fn ask(request: &str) -> Ask {
    Ask { key: "k".to_owned(), limit: 1, request: request.to_owned(), wait: true }
}

async fn lost(grants: &mut Box<dyn Grants>) {
    let heard = tokio::time::timeout(PATIENCE, async { while !matches!(grants.next().await, Some(Heard::Lost)) {} });
    heard.await.unwrap();
}

async fn granted(grants: &mut Box<dyn Grants>) -> String {
    let heard = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Heard::Granted { request, .. }) = grants.next().await {
                return request;
            }
        }
    });
    heard.await.unwrap()
}

/// Asks until the coordinator answers again.
async fn answered(node: &ZooKeeperCoordinator, request: &str) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        match node.acquire(ask(request)).await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_retryable() && Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing hangs on a session: after a restart all is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_forgets_nothing() {
    let Some(mut server) = server() else { return };
    let node = open(&server.address(), "/squall").await;
    let generation = node.generation().await.unwrap();
    let Answer::Granted(first) = answered(&node, "1").await else { panic!() };
    assert_eq!(answered(&node, "2").await, Answer::Queued);
    let mut grants = node.grants();
    server.process.kill().unwrap();
    server.start().unwrap();
    lost(&mut grants).await;
    assert_eq!(answered(&node, "1").await, Answer::Granted(first));
    assert_eq!(answered(&node, "2").await, Answer::Queued);
    assert_eq!(node.generation().await.unwrap(), generation);
    node.release("k", "1").await.unwrap();
    assert_eq!(granted(&mut grants).await, "2");
    let Answer::Granted(second) = answered(&node, "2").await else { panic!() };
    assert!(second.token > first.token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_is_followed_by_another() {
    let Some(server) = server() else { return };
    let mut options = options(&server.address(), "/squall");
    options.timeout = Duration::from_secs(1);
    let node = ZooKeeperCoordinator::open(options).await.unwrap();
    assert!(matches!(answered(&node, "1").await, Answer::Granted(_)));
    assert_eq!(answered(&node, "2").await, Answer::Queued);
    let mut grants = node.grants();
    server.process.pause().unwrap();
    let since = Instant::now();
    let failed = node.acquire(ask("3")).await;
    assert!(matches!(failed, Err(CoordinatorError::Unavailable(_))), "{failed:?}");
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert!(node.check().await.is_err());
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.process.resume().unwrap();
    lost(&mut grants).await;
    assert_eq!(answered(&node, "2").await, Answer::Queued);
    node.release("k", "1").await.unwrap();
    assert_eq!(granted(&mut grants).await, "2");
    node.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiped_memory_is_noticed() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server.address(), "/squall/x").await, open(&server.address(), "/squall/x").await);
    let generation = a.generation().await.unwrap();
    assert!(matches!(answered(&a, "1").await, Answer::Granted(_)));
    let mut grants = b.grants();
    wipe(&server.address(), "/squall").await;
    lost(&mut grants).await;
    let end = Instant::now() + PATIENCE;
    while b.generation().await.is_ok_and(|now| now == generation) {
        assert!(Instant::now() < end);
    }
    assert_eq!(a.generation().await, b.generation().await);
    b.restore("k", 1, &[Holder { request: "1".to_owned(), slot: 0 }]).await.unwrap();
    assert_eq!(answered(&b, "2").await, Answer::Queued);
    a.release("k", "1").await.unwrap();
    assert_eq!(granted(&mut grants).await, "2");
}

/// A node may start before its server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_come_late() {
    let Some(mut server) = server() else { return };
    server.process.kill().unwrap();
    let mut options = options(&server.address(), "/squall");
    options.timeout = Duration::from_secs(1);
    let node = ZooKeeperCoordinator::open(options).await.unwrap();
    assert!(node.check().await.is_err());
    server.start().unwrap();
    assert!(matches!(answered(&node, "1").await, Answer::Granted(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_cant_read_what_credentials_guard() {
    let Some(server) = server() else { return };
    let mut options = options(&server.address(), "/squall");
    options.credentials = Some(("squall".to_owned(), "sesame".to_owned()));
    let node = ZooKeeperCoordinator::open(options.clone()).await.unwrap();
    assert!(matches!(answered(&node, "1").await, Answer::Granted(_)));
    assert!(!format!("{node:?}").contains("sesame"));
    let stranger = zookeeper_client::Client::connect(&server.address()).await.unwrap();
    assert_eq!(stranger.get_data("/squall/generation").await, Err(zookeeper_client::Error::NoAuth));
    let again = ZooKeeperCoordinator::open(options).await.unwrap();
    assert_eq!(answered(&again, "2").await, Answer::Queued);
}
