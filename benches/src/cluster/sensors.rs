//! The node of a sensor is killed again and again: until its sensor dispatches from another node.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::Api;
use e2e::lab::Lab;
use model::{Clock, SystemClock};
use serde_json::{Value, json};

use super::failover::anyone;
use super::{admins, number};
use crate::stats::Samples;

const SENSOR: &str = "beat.Beat";
const TRIGGER: &str = "beat.beat";

/// A pack with a sensor that dispatches ten times a second.
fn write_pack(dir: &std::path::Path) -> Result<()> {
    let pack = dir.join("beat");
    std::fs::create_dir_all(pack.join("sensors"))?;
    std::fs::write(
        pack.join("pack.yaml"),
        "name: beat\nref: beat\ndescription: A sensor to measure\nversion: 1.0.0\nauthor: Squall\n\
         email: squall@example.com\n",
    )?;
    std::fs::write(
        pack.join("sensors/beat.yaml"),
        "class_name: Beat\nentry_point: beat.py\ndescription: Dispatches\npoll_interval: 5\ntrigger_types:\n  \
         - name: beat\n    description: A beat\n    payload_schema:\n      type: object\n",
    )?;
    std::fs::write(
        pack.join("sensors/beat.py"),
        "import os\nimport socket\nimport time\n\nfrom st2reactor.sensor.base import Sensor\n\n\n\
         class Beat(Sensor):\n    def setup(self):\n        pass\n\n    def run(self):\n        while True:\n            \
         self.sensor_service.dispatch('beat.beat', {'at': time.time(), 'pid': os.getpid()})\n            \
         time.sleep(0.1)\n\n    def cleanup(self):\n        pass\n\n    def add_trigger(self, trigger):\n        pass\n\n    \
         def update_trigger(self, trigger):\n        pass\n\n    def remove_trigger(self, trigger):\n        pass\n",
    )?;
    Ok(())
}

/// Index of the node that owns the sensor.
async fn owner(lab: &Lab, api: &Api) -> Option<usize> {
    let status = lab.status(api).await?;
    let partitions = status["partitions"].as_array()?;
    let name = partitions.iter().find(|partition| partition["sensor"] == SENSOR)?["node"].as_str()?.to_owned();
    lab.nodes.iter().position(|node| node.name == name)
}

async fn newest(api: &Api) -> Option<f64> {
    let found = api.get(&format!("/v1/triggerinstances?trigger={TRIGGER}&limit=1")).await.ok()?;
    found.as_array()?.first()?["payload"]["at"].as_f64()
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("never: {what}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn run(lab: &mut Lab) -> Result<()> {
    let clients = admins(lab).await;
    for node in &lab.nodes {
        write_pack(&node.dir.join("data/packs"))?;
    }
    let body: Value = json!({"packs": ["beat"], "types": ["all"]});
    for api in &clients {
        api.post("/v1/packs/register", &body).await.context("the pack can't be registered")?;
    }
    until("the sensor dispatches", async || newest(&clients[0]).await).await?;
    let mut samples = Samples::default();
    for _ in 0..number("SQUALL_BENCH_KILLS", 20) {
        let victim = until("the sensor has an owner", async || owner(lab, anyone(lab, &clients).ok()?).await).await?;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..1_000))).await;
        let (begin, killed) = (Instant::now(), SystemClock.now().micros() as f64 / 1e6);
        lab.kill(victim);
        let api = anyone(lab, &clients)?;
        until("it dispatches elsewhere", async || newest(api).await.filter(|at| *at > killed + 0.05)).await?;
        samples.add(begin.elapsed());
        lab.restart(victim).await?;
    }
    println!("sensor's node killed until it dispatches elsewhere: {}", samples.summary());
    Ok(())
}
