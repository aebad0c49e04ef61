//! Executions through a cluster: latency, rate, and the rate with a long queue.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use e2e::Api;
use e2e::lab::Lab;
use http::Method;
use tokio::task::JoinSet;

use super::{admins, lab, number};
use crate::client::{Client, field};
use crate::stats::Samples;

const NOOP: &[u8] = br#"{"action": "core.noop", "parameters": {}}"#;
const CLIENTS: usize = 12;

fn authority(api: &Api) -> &str {
    api.base.trim_start_matches("http://")
}

async fn connect(api: &Api) -> Result<Client> {
    Client::connect(authority(api), &api.token).await
}

/// One client at a time, going round the nodes; then many.
pub async fn latency(lab: &mut Lab) -> Result<()> {
    let clients = admins(lab).await;
    let mut connections = Vec::new();
    for api in &clients {
        connections.push(connect(api).await?);
    }
    let mut samples = Samples::default();
    let runs = number("SQUALL_BENCH_RUNS", 600);
    for run in 0..runs + 60 {
        let took = one(&mut connections[run % clients.len()]).await?;
        if run >= 60 {
            samples.add(took);
        }
    }
    println!("cluster, POST to terminal state, noop: {}", samples.summary());
    let seconds = number("SQUALL_BENCH_SECONDS", 20) as u64;
    let before = succeeded(&mut connections[0]).await?;
    let begin = Instant::now();
    let requested = post_for(&clients, Duration::from_secs(seconds)).await?;
    let posted = begin.elapsed();
    wait_for(&mut connections[0], before + requested).await?;
    let all = begin.elapsed();
    println!(
        "cluster, executions/s, noop: {:.0} ({requested} requested in {:.1} s, all ended after {:.1} s)",
        requested as f64 / all.as_secs_f64(),
        posted.as_secs_f64(),
        all.as_secs_f64(),
    );
    Ok(())
}

/// Many workflows of ten tasks at once.
pub async fn workflows(bin_dir: &Path) -> Result<()> {
    let packs = tempfile::tempdir()?;
    crate::measure::workflows::write_pack(packs.path())?;
    let config = format!("packs_dirs = [\"{}\"]", packs.path().display());
    let lab = lab(bin_dir, 1, &[("content", &config)]).await?;
    let clients = admins(&lab).await;
    clients[0].post("/v1/packs/register", &serde_json::json!({"packs": ["flows"], "types": ["actions"]})).await?;
    let mut client = connect(&clients[0]).await?;
    print!("cluster: ");
    crate::measure::workflows::at_once(&mut client, number("SQUALL_BENCH_WORKFLOWS", 200) as u64).await
}

async fn one(client: &mut Client) -> Result<Duration> {
    let begin = Instant::now();
    let answer = client.call(Method::POST, "/api/v1/executions", Bytes::from_static(NOOP)).await?;
    let id = serde_json::from_slice::<serde_json::Value>(&answer)?["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/executions/{id}?include_attributes=status");
    loop {
        let answer = client.call(Method::GET, &path, Bytes::new()).await?;
        match field(&answer, "status").unwrap_or_default() {
            "succeeded" => return Ok(begin.elapsed()),
            "failed" | "abandoned" | "timeout" | "canceled" => anyhow::bail!("{}", String::from_utf8_lossy(&answer)),
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Many clients that request without waiting for the end; how many they requested.
async fn post_for(apis: &[Api], time: Duration) -> Result<u64> {
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let api = apis[number % apis.len()].clone();
        clients.spawn(async move {
            let mut client = connect(&api).await?;
            let mut requested = 0u64;
            while begin.elapsed() < time {
                client.call(Method::POST, "/api/v1/executions", Bytes::from_static(NOOP)).await?;
                requested += 1;
            }
            anyhow::Ok(requested)
        });
    }
    let mut requested = 0;
    while let Some(done) = clients.join_next().await {
        requested += done??;
    }
    Ok(requested)
}

async fn succeeded(client: &mut Client) -> Result<u64> {
    client.total("/api/v1/executions?action=core.noop&status=succeeded&limit=1&include_attributes=id").await
}

async fn wait_for(client: &mut Client, total: u64) -> Result<()> {
    let begin = Instant::now();
    while succeeded(client).await? < total {
        ensure!(begin.elapsed() < Duration::from_secs(900), "executions don't end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Executions pile up while no node runs any; then runners join. The rate at which they end, with few and with many
/// in the queue, nobody requesting more.
pub async fn backlog(bin_dir: &Path) -> Result<()> {
    let queued = number("SQUALL_BENCH_QUEUED", 100_000) as u64;
    let roles = r#"roles = ["api", "scheduler", "timers", "raft"]"#;
    let mut lab = lab(bin_dir, 1, &[("node", roles)]).await?;
    let clients = admins(&lab).await;
    let short = drain(&mut lab, &clients, 4_000, None).await?;
    println!("rate with an emptying queue of 4,000: {short:.0} executions/s");
    let long = drain(&mut lab, &clients, queued, Some(Duration::from_secs(30))).await?;
    println!("rate with {queued} queued: {long:.0} executions/s, {:.0} % of the above", 100.0 * long / short);
    Ok(())
}

/// Requests so many, lets a runner join, and measures the rate for `time` or until all have ended.
async fn drain(lab: &mut Lab, clients: &[Api], count: u64, time: Option<Duration>) -> Result<f64> {
    let before = succeeded(&mut connect(&clients[0]).await?).await?;
    let mut requested = 0;
    while requested < count {
        requested += post_for(clients, Duration::from_secs(2)).await?;
    }
    let runner = lab.add_node(&["runner"]).await?;
    // Not earlier, and another one below: idle connections are closed.
    let mut client = connect(&clients[0]).await?;
    // The rate is steady once the first have ended.
    wait_for(&mut client, before + 500).await?;
    let (begin, from) = (Instant::now(), succeeded(&mut client).await?);
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => wait_for(&mut client, before + requested).await?,
    }
    let ended = succeeded(&mut connect(&clients[0]).await?).await? - from;
    let rate = ended as f64 / begin.elapsed().as_secs_f64();
    lab.stop(runner, Duration::from_secs(60)).await.context("the runner doesn't stop")?;
    Ok(rate)
}
