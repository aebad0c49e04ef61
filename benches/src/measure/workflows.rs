//! Workflows: how long one takes, how with-items grow, and many at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::Bench;
use super::executions::one;
use crate::client::Client;
use crate::server::PASSWORD;
use crate::stats::Samples;

const RUNS: usize = 300;
const AT_ONCE: usize = 1_000;
const LIMIT: Duration = Duration::from_secs(600);

fn sequential(tasks: usize) -> String {
    let mut text = "version: 1.0\ntasks:\n".to_owned();
    for task in 1..=tasks {
        text += &format!("  t{task:02}:\n    action: core.noop\n");
        if task < tasks {
            text += &format!("    next:\n      - when: <% succeeded() %>\n        do: t{:02}\n", task + 1);
        }
    }
    text
}

const ITEMS: &str = "version: 1.0
input: [count]
tasks:
  items:
    with: <% range(ctx(count)) %>
    action: core.noop
output:
  - done: <% task(items).result.items.len() %>
";

impl Bench {
    fn write_workflows(&self) -> Result<()> {
        let actions = self.data.path().join("packs/trivial/actions");
        std::fs::create_dir_all(actions.join("workflows"))?;
        let all = [("one", sequential(1)), ("ten", sequential(10)), ("items", ITEMS.to_owned())];
        for (name, definition) in all {
            let parameters = if name == "items" { "{count: {type: integer, required: true}}" } else { "{}" };
            let meta = format!(
                "name: {name}\nrunner_type: orquesta\nentry_point: workflows/{name}.yaml\nenabled: true\n\
                 parameters: {parameters}\n"
            );
            std::fs::write(actions.join(format!("{name}.yaml")), meta)?;
            std::fs::write(actions.join(format!("workflows/{name}.yaml")), definition)?;
        }
        Ok(())
    }
}

pub async fn run(bench: &Bench) -> Result<()> {
    bench.write_workflows()?;
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    client.post("/api/v1/packs/register", &json!({"packs": ["trivial"], "types": ["actions"]})).await?;
    for (name, action) in [("1 task", "trivial.one"), ("10 tasks in a row", "trivial.ten")] {
        let body = Bytes::from(json!({ "action": action }).to_string());
        for _ in 0..20 {
            one(&mut client, &body).await?;
        }
        let mut samples = Samples::default();
        for _ in 0..RUNS {
            samples.add(one(&mut client, &body).await?);
        }
        println!("workflow of {name} (noop), POST to terminal state: {}", samples.summary());
    }
    for count in [100, 1_000, 10_000] {
        let taken = ended(&mut client, &json!({"action": "trivial.items", "parameters": {"count": count}})).await?;
        println!("with-items of {count} noop: {:.2} s (resident {:.0} MB)", taken.as_secs_f64(), server.resident_mb());
    }
    let begin = Instant::now();
    for _ in 0..AT_ONCE {
        client.post("/api/v1/executions", &json!({"action": "trivial.ten"})).await?;
    }
    let posted = begin.elapsed();
    let path = "/api/v1/executions?action=trivial.ten&status=succeeded&limit=1&include_attributes=id";
    let expected = (20 + RUNS + AT_ONCE) as u64;
    while client.total(path).await? < expected {
        anyhow::ensure!(begin.elapsed() < LIMIT, "workflows don't end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{AT_ONCE} workflows of 10 tasks at once: all ended after {:.1} s, posted within {:.1} s (resident {:.0} MB)",
        begin.elapsed().as_secs_f64(),
        posted.as_secs_f64(),
        server.resident_mb()
    );
    Ok(())
}

/// Requests one and looks now and then whether it has succeeded.
async fn ended(client: &mut Client, body: &Value) -> Result<Duration> {
    let begin = Instant::now();
    let made = client.post("/api/v1/executions", body).await?;
    let path = format!("/api/v1/executions/{}/attribute/status", made["id"].as_str().context("no id")?);
    loop {
        let status: Value = serde_json::from_slice(&client.call(Method::GET, &path, Bytes::new()).await?)?;
        match status.as_str() {
            Some("succeeded") => return Ok(begin.elapsed()),
            Some("failed" | "timeout" | "abandoned" | "canceled") => anyhow::bail!("it ended {status}: {body}"),
            _ => anyhow::ensure!(begin.elapsed() < LIMIT, "it doesn't end: {body}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
