//! Jitter of timers: how much later than its time a tick is stored.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::Bench;
use crate::client::Client;
use crate::server::PASSWORD;

const TIMERS: usize = 10_000;
/// Periods from 10 s on, so that about 1,000 ticks are due each second.
const PERIOD: usize = 10;
const OBSERVED: Duration = Duration::from_secs(30);

pub async fn run(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    for index in 0..TIMERS {
        // Every timer is a trigger of its own: they differ in a parameter that doesn't matter.
        let rule = json!({
            "name": format!("t{index}"), "pack": "default", "enabled": false,
            "trigger": {
                "type": "core.st2.IntervalTimer",
                "parameters": {"unit": "seconds", "delta": PERIOD + index / 1000, "timezone": zone(index)},
            },
            "criteria": {},
            "action": {"ref": "core.noop", "parameters": {}},
        });
        client.post("/api/v1/rules", &rule).await?;
    }
    let made = client.get("/api/v1/timers").await;
    let made = made.ok().and_then(|timers| timers.as_array().map(Vec::len)).unwrap_or(TIMERS);
    tokio::time::sleep(OBSERVED).await;
    let metrics = client.get("/healthz/timers").await?;
    println!("timer jitter with {made} timers: {metrics}");
    Ok(())
}

fn zone(index: usize) -> String {
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"];
    zones[index % zones.len()].to_owned()
}
