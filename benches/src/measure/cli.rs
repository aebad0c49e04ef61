//! What `st2 run core.noop` costs beyond the action itself.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Result;

use super::Bench;
use crate::client::Client;
use crate::server::PASSWORD;
use crate::stats::Samples;

const RUNS: usize = 100;

pub async fn run(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let client = Client::login(&server.authority, PASSWORD).await?;
    let base = format!("http://{}", server.authority);
    let mut samples = Samples::default();
    for _ in 0..RUNS {
        let begin = Instant::now();
        let status = Command::new(bench.bin_dir.join("st2"))
            .args(["run", "core.noop"])
            .env("ST2_AUTH_TOKEN", &client.token)
            .env("ST2_API_URL", format!("{base}/api/v1"))
            .env("ST2_AUTH_URL", format!("{base}/auth/v1"))
            .env("ST2_STREAM_URL", format!("{base}/stream/v1"))
            .env("HOME", bench.data.path())
            .stdout(Stdio::null())
            .status()?;
        anyhow::ensure!(status.success(), "st2 run core.noop: {status}");
        samples.add(begin.elapsed());
    }
    println!("st2 run core.noop, the whole command: {}", samples.summary());
    Ok(())
}
