//! Redis itself: the contract suite, and lost memory, restarts and pauses of the server.

#![allow(clippy::unwrap_used)] // a failed step fails the test

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::contract::Setup;
use coordinator::{Answer, Ask, Coordinator, CoordinatorError, Grants, Heard};
use coordinator_redis::{RedisCoordinator, RedisOptions};

const PATIENCE: Duration = Duration::from_secs(20);

async fn open(address: &str, prefix: &str) -> RedisCoordinator {
    RedisCoordinator::open(RedisOptions::new(format!("redis://{address}/0"), prefix)).await.unwrap()
}

mod contract {
    use super::*;

    coordinator::coordinator_contract!(async {
        let address = servers::shared::address(servers::shared::REDIS)?;
        let prefix = format!("test-{:x}", rand::random::<u64>());
        let mut nodes: Vec<Arc<dyn Coordinator>> = Vec::new();
        for _ in 0..3 {
            nodes.push(Arc::new(open(&address, &prefix).await));
        }
        Some(Setup::new(nodes, Leftovers { address, prefix }))
    });
}

/// Removes what a test left on the shared server.
#[derive(Debug)]
struct Leftovers {
    address: String,
    prefix: String,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let client = redis::Client::open(format!("redis://{}/0", self.address)).unwrap();
        let Ok(mut connection) = client.get_connection() else { return };
        let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{}:*", self.prefix)).query(&mut connection).unwrap();
        if !keys.is_empty() {
            redis::cmd("DEL").arg(keys).query::<()>(&mut connection).unwrap();
        }
    }
}

fn server() -> Option<servers::Redis> {
    servers::shared::address(servers::shared::REDIS)?;
    Some(servers::Redis::private().unwrap())
}

fn ask(request: &str) -> Ask {
    Ask { key: "k".to_owned(), limit: 1, request: request.to_owned(), wait: true }
}

async fn lost(grants: &mut Box<dyn Grants>) {
    let heard = tokio::time::timeout(PATIENCE, async { while !matches!(grants.next().await, Some(Heard::Lost)) {} });
    heard.await.unwrap();
}

/// Asks until the coordinator answers again.
async fn answered(node: &RedisCoordinator, request: &str) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        match node.acquire(ask(request)).await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_retryable() && Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_is_noticed() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server.address(), "p").await, open(&server.address(), "p").await);
    let (mut at_a, mut at_b) = (a.grants(), b.grants());
    let generation = a.generation().await.unwrap();
    assert!(matches!(a.acquire(ask("1")).await, Ok(Answer::Granted(_))));
    // The nodes have seen the generation before it changes.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let since = Instant::now();
    server.command("FLUSHALL").unwrap();
    lost(&mut at_a).await;
    lost(&mut at_b).await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    let after = b.generation().await.unwrap();
    assert!(after != generation && a.generation().await.unwrap() == after);
    // Its memory is empty; the store's part is to say who holds.
    b.restore("k", 1, &[coordinator::Holder { request: "1".to_owned(), slot: 0 }]).await.unwrap();
    assert_eq!(b.acquire(ask("2")).await, Ok(Answer::Queued));
    a.release("k", "1").await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, at_a.next()).await.unwrap().unwrap();
    assert!(matches!(heard, Heard::Granted { request, .. } if request == "2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_an_outage_and_passes() {
    let Some(mut server) = server() else { return };
    let node = open(&server.address(), "p").await;
    let mut grants = node.grants();
    let generation = node.generation().await.unwrap();
    answered(&node, "1").await;
    server.process.kill().unwrap();
    let since = Instant::now();
    let failed = node.acquire(ask("2")).await;
    assert!(matches!(failed, Err(CoordinatorError::Unavailable(_))), "{failed:?}");
    assert!(node.check().await.is_err() && since.elapsed() < Duration::from_secs(8));
    server.start().unwrap();
    lost(&mut grants).await;
    assert!(matches!(answered(&node, "2").await, Answer::Granted(_)));
    assert_ne!(node.generation().await.unwrap(), generation);
    node.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_given_up_in_time() {
    let Some(server) = server() else { return };
    let mut options = RedisOptions::new(format!("redis://{}", server.address()), "p");
    options.timeout = Duration::from_millis(700);
    let node = RedisCoordinator::open(options).await.unwrap();
    let mut grants = node.grants();
    assert!(matches!(answered(&node, "1").await, Answer::Granted(_)));
    assert_eq!(node.acquire(ask("2")).await, Ok(Answer::Queued));
    server.process.pause().unwrap();
    let since = Instant::now();
    let failed = node.acquire(ask("3")).await;
    assert!(matches!(failed, Err(CoordinatorError::Unavailable(_))), "{failed:?}");
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.process.resume().unwrap();
    lost(&mut grants).await;
    // Nothing was forgotten.
    assert_eq!(answered(&node, "2").await, Answer::Queued);
    node.release("k", "1").await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, grants.next()).await.unwrap().unwrap();
    assert!(matches!(&heard, Heard::Granted { request, .. } if request == "2"), "{heard:?}");
}

/// A node may start before its server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_come_late() {
    let Some(mut server) = server() else { return };
    server.process.kill().unwrap();
    let mut options = RedisOptions::new(format!("redis://{}", server.address()), "p");
    options.timeout = Duration::from_millis(300);
    let node = RedisCoordinator::open(options).await.unwrap();
    assert!(node.check().await.is_err());
    server.start().unwrap();
    assert!(matches!(answered(&node, "1").await, Answer::Granted(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_needed_and_never_shown() {
    let Some(server) = server() else { return };
    server.command("CONFIG SET requirepass sesame").unwrap();
    let mut options = RedisOptions::new(format!("redis://{}", server.address()), "p");
    let refused = RedisCoordinator::open(options.clone()).await.unwrap();
    let error = refused.check().await.unwrap_err();
    options.password = Some("sesame".to_owned());
    let node = RedisCoordinator::open(options).await.unwrap();
    node.check().await.unwrap();
    let shown = format!("{node:?} {error:?}");
    assert!(!shown.contains("sesame"), "{shown}");
}
