//! Workflows: from the request to the terminal state, items, and many at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::Bench;
use crate::client::{Client, field};
use crate::server::PASSWORD;
use crate::stats::Samples;

const RUNS: usize = 200;
const ITEMS: [usize; 3] = [1_000, 3_000, 10_000];
const LIMIT: Duration = Duration::from_secs(600);
/// Between two looks at an execution that takes seconds.
const LOOK: Duration = Duration::from_millis(5);

/// A workflow of `count` tasks, one after the other.
fn sequence(count: usize) -> String {
    let mut text = "version: 1.0\ntasks:\n".to_owned();
    for n in 1..=count {
        let next =
            if n < count { format!(", next: [{{when: <% succeeded() %>, do: t{}}}]", n + 1) } else { String::new() };
        text += &format!("  t{n}: {{action: core.noop{next}}}\n");
    }
    text
}

const WITH_ITEMS: &str = "version: 1.0
input: [count]
tasks:
  t1:
    with: <% range(ctx(count)) %>
    action: core.noop
";

/// Writes the pack `flows`.
pub fn write_pack(packs: &Path) -> Result<()> {
    let actions = packs.join("flows/actions");
    std::fs::create_dir_all(actions.join("workflows"))?;
    std::fs::write(
        packs.join("flows/pack.yaml"),
        "name: flows\nref: flows\ndescription: Workflows to measure\nversion: 1.0.0\nauthor: Squall\n\
         email: squall@example.com\n",
    )?;
    let texts = [
        ("one", sequence(1), ""),
        ("ten", sequence(10), ""),
        ("items", WITH_ITEMS.to_owned(), "  count: {type: integer}\n"),
    ];
    for (name, text, parameters) in texts {
        std::fs::write(actions.join(format!("workflows/{name}.yaml")), text)?;
        let parameters =
            if parameters.is_empty() { "parameters: {}\n".to_owned() } else { format!("parameters:\n{parameters}") };
        let meta = format!("name: {name}\nrunner_type: orquesta\nentry_point: workflows/{name}.yaml\n{parameters}");
        std::fs::write(actions.join(format!("{name}.yaml")), meta)?;
    }
    Ok(())
}

async fn request(client: &mut Client, body: &Value) -> Result<String> {
    let made = client.post("/api/v1/executions", body).await?;
    Ok(made["id"].as_str().unwrap_or_default().to_owned())
}

/// Waits until it has succeeded.
async fn succeeds(client: &mut Client, id: &str, look: Duration) -> Result<()> {
    let path = format!("/api/v1/executions/{id}?include_attributes=status");
    let begin = Instant::now();
    loop {
        let answer = client.call(Method::GET, &path, Bytes::new()).await?;
        match field(&answer, "status").unwrap_or_default() {
            "succeeded" => return Ok(()),
            status @ ("failed" | "timeout" | "canceled" | "abandoned") => anyhow::bail!("{id} ended {status}"),
            _ => ensure!(begin.elapsed() < LIMIT, "{id} doesn't end"),
        }
        if !look.is_zero() {
            tokio::time::sleep(look).await;
        }
    }
}

pub async fn run(bench: &Bench) -> Result<()> {
    write_pack(&bench.data.path().join("packs"))?;
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    client.post("/api/v1/packs/register", &json!({"packs": ["flows"], "types": ["actions"]})).await?;
    for (name, what) in [("one", "1 task"), ("ten", "10 tasks in sequence")] {
        let body = json!({"action": format!("flows.{name}"), "parameters": {}});
        let mut samples = Samples::default();
        for run in 0..RUNS + 20 {
            let begin = Instant::now();
            let id = request(&mut client, &body).await?;
            succeeds(&mut client, &id, Duration::ZERO).await?;
            if run >= 20 {
                samples.add(begin.elapsed());
            }
        }
        println!("workflow of {what}, POST to terminal state: {}", samples.summary());
    }
    for count in ITEMS {
        let begin = Instant::now();
        let id = request(&mut client, &json!({"action": "flows.items", "parameters": {"count": count}})).await?;
        succeeds(&mut client, &id, LOOK).await?;
        println!(
            "workflow of {count} items: {:.2} s (resident {:.0} MB)",
            begin.elapsed().as_secs_f64(),
            server.resident_mb()
        );
    }
    at_once(&mut client, 1_000).await?;
    println!("after that: resident {:.0} MB", server.resident_mb());
    Ok(())
}

/// Many workflows of ten tasks under way together: how long they take, and the longest time in which none ended.
pub async fn at_once(client: &mut Client, count: u64) -> Result<()> {
    let path = "/api/v1/executions?action=flows.ten&status=succeeded&limit=1&include_attributes=id";
    let before = client.total(path).await?;
    let begin = Instant::now();
    for _ in 0..count {
        request(client, &json!({"action": "flows.ten", "parameters": {}})).await?;
    }
    let (requested, mut ended, mut last, mut stall) = (begin.elapsed(), 0, Instant::now(), Duration::ZERO);
    while ended < count {
        let now = client.total(path).await? - before;
        if now > ended {
            (ended, last) = (now, Instant::now());
        }
        stall = stall.max(last.elapsed());
        ensure!(begin.elapsed() < LIMIT, "{ended} of {count} workflows ended");
        tokio::time::sleep(LOOK).await;
    }
    println!(
        "{count} workflows of 10 tasks at once: requested in {:.1} s, all ended after {:.1} s, none ended for at most \
         {:.2} s",
        requested.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        stall.as_secs_f64(),
    );
    Ok(())
}
