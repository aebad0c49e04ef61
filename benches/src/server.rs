//! The measured node.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub const PASSWORD: &str = "bench-password";

/// A running `squall dev`, killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub authority: String,
    /// From the start of the process to the answer of `/healthz/ready`.
    pub start_time: Duration,
}

impl Server {
    pub async fn start(bin_dir: &Path, data_dir: &Path) -> Result<Self> {
        let addresses = data_dir.join("addresses.json");
        let _ = std::fs::remove_file(&addresses);
        let log = std::fs::File::options().create(true).append(true).open(data_dir.join("node.log"))?;
        let begin = Instant::now();
        let mut child = Command::new(bin_dir.join("squall"))
            .args(["dev", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
            .arg(data_dir)
            .env("SQUALL_ADMIN_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("can't start {}/squall", bin_dir.display()))?;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("the node ended with {status}; see {}", data_dir.join("node.log").display());
            }
            let written = std::fs::read_to_string(&addresses).ok();
            let parsed = written.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            if let Some(address) = parsed.as_ref().and_then(|value| value["combined"].as_str()) {
                let start_time = begin.elapsed();
                return Ok(Self { child, authority: address.to_owned(), start_time });
            }
            if begin.elapsed() > Duration::from_secs(30) {
                bail!("the node isn't ready within 30 s");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in MB (10⁶ bytes).
    pub fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: f64 = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0);
        kib * 1024.0 / 1e6
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
