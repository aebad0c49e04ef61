//! All nodes are restarted one after the other under load, behind a load balancer: what clients and timers notice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::Api;
use e2e::lab::{Balancer, Lab, Load, LoadOptions, PASSWORD, checks};

use super::{number, ticks};
use crate::stats::Samples;

const TIMERS: usize = 10;
const WORKERS: usize = 8;
/// Later than this counts.
const LATE: Duration = Duration::from_millis(100);

pub async fn run(lab: &mut Lab) -> Result<()> {
    let balancer = Balancer::start(lab).await?.context("haproxy isn't installed")?;
    let api = Api::login(&balancer.base, "st2admin", PASSWORD).await?;
    for index in 0..TIMERS {
        checks::create_timer_rule(&api, index, 1).await?;
        // Their phases are those of their making.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let load = Load::start(LoadOptions {
        clients: vec![api.clone()],
        workers: WORKERS,
        journal: lab.dir.join("journal"),
        pause: Duration::from_millis(50),
        limited_every: 0,
        seed: rand::random(),
    });
    let rounds = number("SQUALL_BENCH_RUNS", 3);
    let mut restarts = Samples::default();
    tokio::time::sleep(Duration::from_secs(3)).await;
    for _ in 0..rounds {
        for index in 0..3 {
            let begin = Instant::now();
            lab.stop(index, Duration::from_secs(60)).await?;
            lab.restart(index).await?;
            restarts.add(begin.elapsed());
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    let history = load.stop().await;
    checks::no_lies(&history)?;
    let ends = checks::executions_ended(&api, &history, Duration::from_secs(30)).await?;
    let (mut all, mut late) = (0, Samples::default());
    for index in 0..TIMERS {
        all += checks::slots_fired_once(&api, index, 1, 10).await?.at.len();
        for lateness in ticks::lateness(&api, index).await?.into_values() {
            late.add(Duration::from_micros(u64::try_from(lateness).unwrap_or(0)));
        }
    }
    println!("stop and start of a node under load: {}", restarts.summary());
    println!("{} calls through the balancer, {} failed; executions: {ends:?}", history.calls, history.refused.len());
    for (at, error) in &history.refused {
        println!("  after {at:?}: {error}");
    }
    println!("{all} ticks, each once; {} more than {LATE:?} late; {}", late.above(LATE), late.summary());
    Ok(())
}
