//! POST → terminal state, and executions per second.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::Bench;
use crate::client::{Client, field};
use crate::server::{PASSWORD, Server};
use crate::stats::Samples;

/// Name, action, parameters, runs in the latency measurement, clients and seconds in the throughput measurement.
const ACTIONS: [(&str, &str, &str, usize); 3] = [
    ("noop", "core.noop", "{}", 1000),
    ("core.local true", "core.local", r#"{"cmd": "true"}"#, 500),
    ("Python, warm", "trivial.py", "{}", 500),
];

const CLIENTS: usize = 16;
const SECONDS: u64 = 10;

fn body(action: &str, parameters: &str) -> Bytes {
    Bytes::from(format!(r#"{{"action": "{action}", "parameters": {parameters}}}"#))
}

fn is_terminal(status: &str) -> bool {
    matches!(status, "succeeded" | "failed" | "timeout" | "canceled" | "abandoned")
}

async fn registered(client: &mut Client) -> Result<()> {
    client.post("/api/v1/packs/register", &json!({"packs": ["trivial"], "types": ["actions"]})).await.map(drop)
}

/// Requests one and reads it until it has ended.
pub(super) async fn one(client: &mut Client, body: &Bytes) -> Result<Duration> {
    let begin = Instant::now();
    let answer = client.call(Method::POST, "/api/v1/executions", body.clone()).await?;
    let id = serde_json::from_slice::<serde_json::Value>(&answer)?["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/executions/{id}?include_attributes=status");
    loop {
        let answer = client.call(Method::GET, &path, Bytes::new()).await?;
        let status = field(&answer, "status").unwrap_or_default();
        if is_terminal(status) {
            anyhow::ensure!(status == "succeeded", "{} ended {status}", String::from_utf8_lossy(body));
            return Ok(begin.elapsed());
        }
    }
}

/// One client, one execution at a time.
pub async fn latency(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    registered(&mut client).await?;
    for (name, action, parameters, runs) in ACTIONS {
        let body = body(action, parameters);
        for _ in 0..20 {
            one(&mut client, &body).await?;
        }
        let mut samples = Samples::default();
        for _ in 0..runs {
            samples.add(one(&mut client, &body).await?);
        }
        println!("POST to terminal state, {name}: {}", samples.summary());
    }
    Ok(())
}

/// Many clients that request without waiting for the end; the rate counts until the last has ended.
pub async fn throughput(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    registered(&mut client).await?;
    for (name, action, parameters, _) in ACTIONS {
        let body = body(action, parameters);
        for _ in 0..20 {
            one(&mut client, &body).await?;
        }
        let (rate, told) = rate(&mut client, &server, action, parameters, SECONDS).await?;
        println!("executions/s, {name}: {rate:.0} ({told}; resident {:.0} MB)", server.resident_mb());
    }
    Ok(())
}

/// Executions per second, requested by many clients for some seconds, until the last has ended; and how it went.
pub(super) async fn rate(
    client: &mut Client,
    server: &Server,
    action: &str,
    parameters: &str,
    seconds: u64,
) -> Result<(f64, String)> {
    let body = body(action, parameters);
    let before = succeeded(client, action).await?;
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (authority, token, body) = (server.authority.clone(), client.token.clone(), body.clone());
        clients.spawn(async move {
            let mut client = Client::connect(&authority, &token).await?;
            let mut requested = 0u64;
            while begin.elapsed() < Duration::from_secs(seconds) {
                client.call(Method::POST, "/api/v1/executions", body.clone()).await?;
                requested += 1;
            }
            anyhow::Ok(requested)
        });
    }
    let mut requested = 0;
    while let Some(done) = clients.join_next().await {
        requested += done??;
    }
    let posted = begin.elapsed();
    while succeeded(client, action).await? < before + requested {
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(600), "{action}: executions don't end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = begin.elapsed().as_secs_f64();
    let told = format!("{requested} requested in {:.1} s, all ended after {all:.1} s", posted.as_secs_f64());
    Ok((requested as f64 / all, told))
}

async fn succeeded(client: &mut Client, action: &str) -> Result<u64> {
    let path = format!("/api/v1/executions?action={action}&status=succeeded&limit=1&include_attributes=id");
    client.total(&path).await
}
