//! Jitter of timers: how much later than its time a tick is dispatched, by the node's own measure.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::Bench;
use crate::client::Client;
use crate::server::PASSWORD;

const TIMERS: usize = 10_000;
/// Shortest period, seconds.
const PERIOD: usize = 10;
const OBSERVED: Duration = Duration::from_secs(30);

/// 10,000 interval timers, all of them different triggers, on rules that are disabled: the timers tick all the same.
pub async fn run(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    let zones = chrono_tz::TZ_VARIANTS;
    for index in 0..TIMERS {
        let (delta, zone) = (PERIOD + index / zones.len(), zones[index % zones.len()].name());
        let rule = json!({
            "name": format!("t{index}"), "pack": "default", "enabled": false,
            "trigger": {
                "type": "core.st2.IntervalTimer",
                "parameters": {"unit": "seconds", "delta": delta, "timezone": zone},
            },
            "criteria": {},
            "action": {"ref": "core.noop", "parameters": {}},
        });
        client.post("/api/v1/rules", &rule).await?;
    }
    tokio::time::sleep(OBSERVED).await;
    // The first connection was idle for too long to be kept.
    let mut client = Client::connect(&server.authority, &client.token).await?;
    let ready = client.call(Method::GET, "/healthz/ready", Bytes::new()).await?;
    let ready = String::from_utf8_lossy(&ready).into_owned();
    let line = ready.lines().find(|line| line.contains("timers")).unwrap_or("no line about timers").trim();
    println!("timer jitter, {TIMERS} timers with periods from {PERIOD} s: {line}");
    Ok(())
}
