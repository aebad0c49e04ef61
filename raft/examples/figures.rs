//! Prints how long a start takes and what a commit costs: `cargo run --release -p raft --example figures [DIR]`.
//!
//! `figures DIR crash` opens DIR, writes, and aborts, so that the next run measures a start after a crash.
#![allow(clippy::unwrap_used)] // a tool: a failure ends it

use std::path::PathBuf;
use std::time::{Duration, Instant};

use raft::{Group, Options};

const SOON: Duration = Duration::from_secs(20);

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn open(dir: &std::path::Path, what: &str) -> Group {
    let began = Instant::now();
    let group = Group::open(Options::new(dir, "box")).await.unwrap();
    let opened = began.elapsed();
    group.wait_ready(SOON).await.unwrap();
    println!("{what}: open {opened:?}, all duties held after {:?}", began.elapsed());
    group
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let given = arguments.next().map(PathBuf::from);
    let dir = given.unwrap_or_else(|| std::env::temp_dir().join(format!("raft-figures-{}", std::process::id())));
    println!("resident before: {} KiB", resident_kib());
    let group = open(&dir, "start").await;
    println!("resident after the start: {} KiB", resident_kib());
    if arguments.next().as_deref() == Some("crash") {
        for entry in 0..100 {
            group.advance_content(None, &format!("crash-{entry}")).await.unwrap();
        }
        std::process::abort();
    }
    let mut serial = Vec::new();
    for entry in 0..1_000 {
        let began = Instant::now();
        group.advance_content(None, &format!("serial-{entry}")).await.unwrap();
        serial.push(began.elapsed());
    }
    serial.sort_unstable();
    println!("commit, one caller: p50 {:?}, p99 {:?}", percentile(&serial, 50), percentile(&serial, 99));
    let began = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let group = group.clone();
            tokio::spawn(async move {
                for entry in 0..100 {
                    group.advance_content(None, &format!("parallel-{task}-{entry}")).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("commit, 64 callers: {:.0}/s", 6_400.0 / began.elapsed().as_secs_f64());
    println!(
        "resident after: {} KiB, file {} KiB",
        resident_kib(),
        dir.join("raft.redb").metadata().unwrap().len() / 1024
    );
    let began = Instant::now();
    group.shutdown().await;
    println!("shutdown: {:?}", began.elapsed());
    open(&dir, "restart").await.shutdown().await;
}
