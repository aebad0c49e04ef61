//! Measures a single box, `squall-bench [--bin-dir DIR] [MEASUREMENT…]`, or a cluster, `squall-bench cluster …`.
//!
//! It starts `squall dev` on a temporary directory, drives it over HTTP with a light client on the same machine, and
//! prints one line per figure. `make bench` runs everything against the release build.

mod client;
mod cluster;
mod measure;
mod server;
mod stats;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Load generator for a single box.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where `squall` and `st2` lie; beside this program if not given.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Where the data directories are made: a real disk, not a tmpfs.
    #[arg(long)]
    data_root: Option<PathBuf>,
    /// What to measure: latency, throughput, rules, timers, idle, cli, workflows, python, sensors, shell, api. Everything of a single box if none is named.
    /// After the word `cluster`: latency, backlog, workflows, failover, ticks, sensors, with three nodes (needs root).
    measurements: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bin_dir = match arguments.bin_dir {
        Some(dir) => dir,
        None => std::env::current_exe()?.parent().context("no parent directory")?.to_owned(),
    };
    if let Some((first, names)) = arguments.measurements.split_first()
        && first == "cluster"
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        return runtime.block_on(cluster::run(&bin_dir, names));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure::run(&bin_dir, arguments.data_root.as_deref(), &arguments.measurements))
}
