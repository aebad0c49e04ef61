//! A node as a child process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::api::Api;

/// Password of `st2admin` on test nodes.
const PASSWORD: &str = "correct-horse-battery";

/// How long a start may take, debug build and busy machine included.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// What a test node is started with.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Additional `SQUALL_…` variables.
    pub env: Vec<(String, String)>,
}

/// A running `squall dev`. Dropping it kills the process.
#[derive(Debug)]
pub struct Node {
    pub data_dir: PathBuf,
    /// `http://127.0.0.1:PORT`.
    pub base: String,
    options: NodeOptions,
    child: Option<Child>,
    /// Kept while the node lives; removed with it unless the test fails.
    _temporary: Option<tempfile::TempDir>,
}

/// The binary that Cargo built beside this test, or `SQUALL_TEST_BIN_DIR/<name>`.
pub fn binary(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("SQUALL_TEST_BIN_DIR") {
        return PathBuf::from(dir).join(name);
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let path = profile.join(name);
    assert!(path.is_file(), "{} isn't built: run `cargo build --bins` (make test does)", path.display());
    path
}

impl Node {
    /// Starts a node on a new temporary directory.
    pub async fn start() -> Result<Self> {
        Self::start_with(NodeOptions::default()).await
    }

    pub async fn start_with(options: NodeOptions) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut node = Self::start_in(temporary.path(), options).await?;
        node._temporary = Some(temporary);
        Ok(node)
    }

    /// Starts a node on a given directory.
    pub async fn start_in(data_dir: &Path, options: NodeOptions) -> Result<Self> {
        let mut node =
            Self { data_dir: data_dir.to_owned(), base: String::new(), options, child: None, _temporary: None };
        node.restart().await?;
        Ok(node)
    }

    /// Starts the process again (it must have ended) and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        let addresses = self.data_dir.join("addresses.json");
        let _ = std::fs::remove_file(&addresses);
        let log = File::options().create(true).append(true).open(self.data_dir.join("node.log"))?;
        let child = Command::new(binary("squall"))
            .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.data_dir)
            .env("SQUALL_ADMIN_PASSWORD", PASSWORD)
            .envs(self.options.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("can't start squall")?;
        self.child = Some(child);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("the node ended with {status} at its start:\n{}", self.log());
            }
            let written = std::fs::read_to_string(&addresses).ok();
            let parsed = written.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            if let Some(address) = parsed.as_ref().and_then(|value| value["combined"].as_str()) {
                self.base = format!("http://{address}");
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the node isn't ready within {START_DEADLINE:?}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A client of the administrator.
    pub async fn admin(&self) -> Result<Api> {
        Api::login(&self.base, "st2admin", PASSWORD).await
    }

    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What the node wrote so far, of all its starts.
    pub fn log(&self) -> String {
        std::fs::read(self.data_dir.join("node.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// kill -9, and reaps it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        self.ended(deadline).await
    }

    /// Waits for the end; a node that doesn't is killed.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        let mut child = self.child.take().context("the node isn't running")?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the node didn't stop within {deadline:?}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = self.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let line = status.as_deref().and_then(|text| text.lines().find(|line| line.starts_with("VmRSS:")));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- last lines of the node's log ---");
            for line in tail.into_iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}
