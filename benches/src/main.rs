//! Measures a single box: `squall-bench [--bin-dir DIR] [--shared-pack DIR] [MEASUREMENT…]`.
//!
//! It starts `squall dev` on a temporary directory, drives it over HTTP with a light client on the same machine, and
//! prints one line per figure. `make bench` runs everything against the release build.

mod client;
mod measure;
mod server;
mod stats;

use std::path::PathBuf;

use anyhow::Result;
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
    /// What to measure: latency, throughput, rules, timers, idle, cli. Everything if none is named.
    measurements: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure::run(
        arguments.bin_dir.as_deref(),
        arguments.data_root.as_deref(),
        &arguments.measurements,
    ))
}
