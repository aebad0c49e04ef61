//! What packs cost: Python actions with heavy imports, idle sensors, and processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::json;

use super::Bench;
use super::executions::{one, rate};
use crate::client::Client;
use crate::server::{PASSWORD, Server};
use crate::stats::Samples;

const RUNS: usize = 300;
const FRESH: usize = 30;
const SENSORS: usize = 50;
const LIMIT: Duration = Duration::from_secs(300);

const HEAVY: &str = "import requests
import yaml

from st2common.runners.base_action import Action


class Heavy(Action):
    def run(self):
        return yaml.safe_load('version: ' + requests.__version__)
";

const SENSOR: &str = "from st2reactor.sensor.base import PollingSensor


class Idle(PollingSensor):
    def setup(self):
        pass

    def poll(self):
        pass

    def cleanup(self):
        pass

    def add_trigger(self, trigger):
        pass

    def update_trigger(self, trigger):
        pass

    def remove_trigger(self, trigger):
        pass
";

fn write_pack(packs: &Path, name: &str, files: &[(String, String)]) -> Result<()> {
    let about = format!(
        "name: {name}\nref: {name}\ndescription: To measure\nversion: 1.0.0\nauthor: Squall\nemail: squall@example.com\n"
    );
    for (path, text) in std::iter::once(&("pack.yaml".to_owned(), about)).chain(files) {
        let path = packs.join(name).join(path);
        std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// A warm Python action that imports `requests` and `yaml`, and a fresh interpreter doing that, by turns.
pub async fn python(bench: &Bench) -> Result<()> {
    let meta = "name: heavy\nrunner_type: python-script\nentry_point: heavy.py\nparameters: {}\n";
    let files = [("requirements.txt", "requests\npyyaml\n"), ("actions/heavy.py", HEAVY), ("actions/heavy.yaml", meta)];
    write_pack(
        &bench.data.path().join("packs"),
        "heavy",
        &files.map(|(path, text)| (path.to_owned(), text.to_owned())),
    )?;
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    client.post("/api/v1/packs/register", &json!({"packs": ["heavy"], "types": ["actions"]})).await?;
    let begin = Instant::now();
    one(&mut client, &Bytes::from_static(br#"{"action":"packs.setup_virtualenv","parameters":{"packs":["heavy"]}}"#))
        .await?;
    println!("virtualenv with requests and yaml: {:.1} s", begin.elapsed().as_secs_f64());
    let body = Bytes::from_static(br#"{"action": "heavy.heavy", "parameters": {}}"#);
    for _ in 0..20 {
        one(&mut client, &body).await?;
    }
    let interpreter = bench.data.path().join("virtualenvs/heavy/bin/python");
    let (mut warm, mut fresh) = (Samples::default(), Samples::default());
    for run in 0..RUNS {
        warm.add(one(&mut client, &body).await?);
        if run % (RUNS / FRESH) == 0 {
            fresh.add(import(interpreter.clone()).await?);
        }
    }
    println!("Python action importing requests and yaml, warm: {}", warm.summary());
    println!("a fresh interpreter that imports them: {}", fresh.summary());
    Ok(())
}

async fn import(interpreter: PathBuf) -> Result<Duration> {
    tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let status = Command::new(&interpreter).args(["-c", "import requests, yaml"]).status();
        ensure!(status?.success(), "{} can't import them", interpreter.display());
        Ok(begin.elapsed())
    })
    .await?
}

/// Memory of the node with many idle polling sensors, and what they add to it.
pub async fn sensors(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = proportional_mb(server.pid());
    let files: Vec<(String, String)> = (0..SENSORS)
        .flat_map(|n| {
            let meta = format!(
                "class_name: Idle\nentry_point: idle{n}.py\ndescription: Does nothing\npoll_interval: 5\ntrigger_types: []\n"
            );
            [(format!("sensors/idle{n}.py"), SENSOR.replace("Idle", &format!("Idle{n}"))),
             (format!("sensors/idle{n}.yaml"), meta.replace("Idle", &format!("Idle{n}")))]
        })
        .collect();
    write_pack(&bench.data.path().join("packs"), "idle", &files)?;
    client.post("/api/v1/packs/register", &json!({"packs": ["idle"], "types": ["sensors"]})).await?;
    let begin = Instant::now();
    let processes = descendants(server.pid()).len();
    while descendants(server.pid()).len() < processes + SENSORS {
        ensure!(begin.elapsed() < LIMIT, "{} processes", descendants(server.pid()).len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = begin.elapsed();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let after = proportional_mb(server.pid());
    println!(
        "{SENSORS} idle polling sensors: all started after {:.1} s, {:.0} MB more than without ({:.0} MB, {} processes more)",
        all.as_secs_f64(),
        after - before,
        after,
        descendants(server.pid()).len().saturating_sub(processes),
    );
    Ok(())
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// Memory of a process and all below it, what they share counted once (PSS), in MB.
fn proportional_mb(pid: u32) -> f64 {
    let of = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("Pss:")).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    descendants(pid).iter().map(of).sum::<f64>() * 1024.0 / 1e6
}

/// Shell actions per second, beside what the machine can start of processes at all.
pub async fn shell(bench: &Bench) -> Result<()> {
    let server: Server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    let (mut actions, mut machine) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        machine.push(tokio::task::spawn_blocking(|| processes(Duration::from_secs(3))).await??);
        let (rate, _) = rate(&mut client, &server, "core.local", r#"{"cmd": "true"}"#, 4).await?;
        actions.push(rate);
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (actions, machine) = (median(&mut actions), median(&mut machine));
    println!(
        "core.local true: {actions:.0} executions/s; the machine forks and runs `sh -c true` {machine:.0} times/s: {:.0} %",
        actions / machine * 100.0
    );
    Ok(())
}

/// `sh -c true` per second, from as many threads as there are processors.
fn processes(time: Duration) -> Result<f64> {
    let begin = Instant::now();
    let spawn = move || {
        let mut count = 0u32;
        while begin.elapsed() < time {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "true"]).stdin(Stdio::null()).stdout(Stdio::null());
            ensure!(command.status()?.success(), "`sh -c true` failed");
            count += 1;
        }
        Ok(count)
    };
    let threads: Vec<_> = (0..std::thread::available_parallelism()?.get()).map(|_| std::thread::spawn(spawn)).collect();
    let mut count = 0;
    for thread in threads {
        count += thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}
