//! The measurements.

mod api;
mod cli;
mod executions;
mod idle;
mod packs;
mod rules;
mod timers;
pub mod workflows;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::server::Server;

const ALL: [&str; 11] =
    ["idle", "latency", "throughput", "rules", "timers", "cli", "workflows", "python", "sensors", "shell", "api"];

/// Runs the named measurements, or all.
pub async fn run(bin_dir: &Path, data_root: Option<&Path>, names: &[String]) -> Result<()> {
    let names: Vec<&str> = if names.is_empty() { ALL.to_vec() } else { names.iter().map(String::as_str).collect() };
    for name in names {
        let bench = Bench::new(bin_dir, data_root)?;
        match name {
            "idle" => idle::run(&bench).await?,
            "latency" => executions::latency(&bench).await?,
            "throughput" => executions::throughput(&bench).await?,
            "rules" => rules::run(&bench).await?,
            "timers" => timers::run(&bench).await?,
            "cli" => cli::run(&bench).await?,
            "api" => api::run(&bench).await?,
            "workflows" => workflows::run(&bench).await?,
            "python" => packs::python(&bench).await?,
            "sensors" => packs::sensors(&bench).await?,
            "shell" => packs::shell(&bench).await?,
            other => bail!("unknown measurement {other}: known are {}", ALL.join(", ")),
        }
    }
    Ok(())
}

/// A fresh data directory for one measurement, with the pack that has a trivial Python action.
pub struct Bench {
    bin_dir: PathBuf,
    data: tempfile::TempDir,
}

impl Bench {
    fn new(bin_dir: &Path, data_root: Option<&Path>) -> Result<Self> {
        let data = match data_root {
            Some(root) => tempfile::tempdir_in(root)?,
            None => tempfile::tempdir()?,
        };
        let pack = data.path().join("packs/trivial");
        std::fs::create_dir_all(pack.join("actions"))?;
        std::fs::write(
            pack.join("pack.yaml"),
            "name: trivial\nref: trivial\ndescription: Trivial actions to measure\nversion: 1.0.0\n\
             author: Squall\nemail: squall@example.com\n",
        )?;
        std::fs::write(
            pack.join("actions/py.yaml"),
            "name: py\nrunner_type: python-script\nentry_point: py.py\nenabled: true\ndescription: Returns 1\n\
             parameters: {}\n",
        )?;
        std::fs::write(
            pack.join("actions/py.py"),
            "from st2common.runners.base_action import Action\n\n\nclass Trivial(Action):\n    def run(self):\n        \
             return 1\n",
        )?;
        Ok(Self { bin_dir: bin_dir.to_owned(), data })
    }

    async fn server(&self) -> Result<Server> {
        Server::start(&self.bin_dir, self.data.path()).await
    }
}
