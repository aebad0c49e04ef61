//! Start to ready and idle memory.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use crate::client::Client;
use crate::server::PASSWORD;
use crate::stats::Samples;

const STARTS: usize = 10;

pub async fn run(bench: &Bench) -> Result<()> {
    let first = bench.server().await?;
    println!("first start (everything is made) to ready: {:.0} ms", first.start_time.as_secs_f64() * 1e3);
    drop(first);
    let mut starts = Samples::default();
    let mut last = None;
    for _ in 0..STARTS {
        drop(last.take());
        let server = bench.server().await?;
        starts.add(server.start_time);
        last = Some(server);
    }
    println!("start to ready: {}", starts.summary());
    if let Some(server) = last {
        Client::login(&server.authority, PASSWORD).await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        println!("idle memory, resident, 10 s after the start: {:.1} MB", server.resident_mb());
    }
    Ok(())
}
