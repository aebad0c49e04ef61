//! Figures of a cluster of three nodes over real servers, in network namespaces of this machine (needs root).

mod executions;
mod failover;
mod packs;
mod rolling;
mod sensors;
mod ticks;

use std::path::Path;

use anyhow::{Context, Result, bail};
use e2e::Api;
use e2e::lab::{Lab, LabOptions};

/// What `cluster` measures if nothing is named.
pub const ALL: [&str; 8] = ["latency", "backlog", "workflows", "packs", "failover", "ticks", "sensors", "rolling"];

/// A number from the environment, for shorter or longer runs.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs the named measurements, or all.
pub async fn run(bin_dir: &Path, names: &[String]) -> Result<()> {
    let names: Vec<&str> = if names.is_empty() { ALL.to_vec() } else { names.iter().map(String::as_str).collect() };
    for name in names {
        match name {
            "latency" => executions::latency(&mut lab(bin_dir, 3, &[]).await?).await?,
            "backlog" => executions::backlog(bin_dir).await?,
            "workflows" => executions::workflows(bin_dir).await?,
            "packs" => packs::run(&mut lab(bin_dir, 1, &[]).await?).await?,
            "failover" => failover::run(&mut lab(bin_dir, 1, &[]).await?).await?,
            "ticks" => ticks::run(&mut lab(bin_dir, 1, &[]).await?).await?,
            "sensors" => sensors::run(&mut lab(bin_dir, 1, &[]).await?).await?,
            "rolling" => rolling::run(&mut lab(bin_dir, 1, &[("node", "stop_delay = \"1s\"")]).await?).await?,
            other => bail!("unknown measurement {other}: known are {}", ALL.join(", ")),
        }
    }
    Ok(())
}

async fn lab(bin_dir: &Path, mongo_members: usize, config: &[(&'static str, &str)]) -> Result<Lab> {
    let mut config: Vec<(&'static str, String)> =
        config.iter().map(|(section, line)| (*section, (*line).to_owned())).collect();
    config.push(("log", "level = \"warn\"".to_owned()));
    let options = LabOptions { mongo_members, config, bin_dir: Some(bin_dir.to_owned()), ..LabOptions::default() };
    Lab::start(options).await?.context("a laboratory can't be made here")
}

async fn admins(lab: &Lab) -> Vec<Api> {
    let mut clients = Vec::new();
    for index in 0..lab.nodes.len() {
        clients.push(lab.admin(index).await);
    }
    clients
}
