//! The leader is killed again and again: until another leads and serves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::Api;
use e2e::lab::Lab;

use super::{admins, number};
use crate::stats::Samples;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// The node that leads by its own word: it has applied an entry of its own term.
async fn leader(lab: &Lab, clients: &[Api], except: Option<usize>) -> Option<usize> {
    for (index, api) in clients.iter().enumerate() {
        if Some(index) == except || !lab.nodes[index].is_up() {
            continue;
        }
        if lab.status(api).await.is_some_and(|status| status["is_leader"] == true) {
            return Some(index);
        }
    }
    None
}

pub async fn run(lab: &mut Lab) -> Result<()> {
    let clients = admins(lab).await;
    let kills = number("SQUALL_BENCH_KILLS", 100);
    let mut samples = Samples::default();
    for _ in 0..kills {
        let victim = wait(lab, &clients, None, Duration::from_secs(30)).await?;
        // Not always at the same moment of a heartbeat.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..500))).await;
        let begin = Instant::now();
        lab.kill(victim);
        wait(lab, &clients, Some(victim), Duration::from_secs(30)).await?;
        samples.add(begin.elapsed());
        lab.restart(victim).await?;
    }
    println!("leader killed until another leads and has committed: {}", samples.summary());
    Ok(())
}

async fn wait(lab: &Lab, clients: &[Api], except: Option<usize>, within: Duration) -> Result<usize> {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = leader(lab, clients, except).await {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("no leader within {within:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The holder of a duty, as any node that runs names it.
pub async fn holder(lab: &Lab, clients: &[Api], duty: &str, except: Option<usize>) -> Result<usize> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        for (index, api) in clients.iter().enumerate() {
            if Some(index) == except || !lab.nodes[index].is_up() {
                continue;
            }
            if let Some(found) = lab.holder(api, duty).await.filter(|found| Some(*found) != except) {
                return Ok(found);
            }
        }
        if Instant::now() > end {
            bail!("nobody holds {duty}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Any node that runs.
pub fn anyone<'a>(lab: &Lab, clients: &'a [Api]) -> Result<&'a Api> {
    let index = lab.nodes.iter().position(e2e::lab::Member::is_up).context("no node runs")?;
    Ok(&clients[index])
}
