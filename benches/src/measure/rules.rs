//! webhook → rule → execution.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::Bench;
use crate::client::Client;
use crate::server::PASSWORD;

const OTHER_RULES: usize = 1000;
const RULES: usize = 100;
const EVENTS: u64 = 20_000;
const CLIENTS: u64 = 16;

/// 1,000 rules on other triggers and 100 on this one, of which one matches.
pub async fn run(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    for index in 0..OTHER_RULES {
        let rule = rule(&format!("other{index}"), &format!("other{index}"), "x");
        client.post("/api/v1/rules", &rule).await?;
    }
    for index in 0..RULES {
        client.post("/api/v1/rules", &rule(&format!("this{index}"), "this", &format!("v{index}"))).await?;
    }
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (authority, token) = (server.authority.clone(), client.token.clone());
        clients.spawn(async move {
            let mut client = Client::connect(&authority, &token).await?;
            for event in 0..EVENTS / CLIENTS {
                let body = json!({"name": format!("v{}", (event + number) % RULES as u64), "n": event}).to_string();
                client.call(Method::POST, "/api/v1/webhooks/this", Bytes::from(body)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    let accepted = begin.elapsed();
    let ended = "/api/v1/executions?action=core.noop&status=succeeded&limit=1&include_attributes=id";
    while client.total(ended).await? < EVENTS {
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(600), "executions are missing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "webhook to execution ended, {OTHER_RULES} + {RULES} rules: {:.0} events/s ({EVENTS} accepted in {:.1} s, \
         all ended after {:.1} s)",
        EVENTS as f64 / begin.elapsed().as_secs_f64(),
        accepted.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

fn rule(name: &str, hook: &str, pattern: &str) -> serde_json::Value {
    json!({
        "name": name, "pack": "default", "enabled": true,
        "trigger": {"type": "core.st2.webhook", "parameters": {"url": hook}},
        "criteria": {"trigger.body.name": {"type": "eq", "pattern": pattern}},
        "action": {"ref": "core.noop", "parameters": {}},
    })
}
