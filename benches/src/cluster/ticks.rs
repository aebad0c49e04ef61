//! The timers' holder is killed again and again: how late the first due tick is, and whether any is lost or doubled.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::Api;
use e2e::lab::{Lab, checks};
use model::{Clock, SystemClock, Timestamp};

use super::failover::{anyone, holder};
use super::{admins, number};
use crate::stats::Samples;

const TIMERS: usize = 10;

pub async fn run(lab: &mut Lab) -> Result<()> {
    let clients = admins(lab).await;
    for index in 0..TIMERS {
        checks::create_timer_rule(&clients[0], index, 1).await?;
        // Their phases are those of their making.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let kills = number("SQUALL_BENCH_KILLS", 100);
    let mut killed = Vec::new();
    for _ in 0..kills {
        let victim = holder(lab, &clients, "timers", None).await?;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..1_000))).await;
        killed.push(SystemClock.now().micros());
        lab.kill(victim);
        holder(lab, &clients, "timers", Some(victim)).await?;
        lab.restart(victim).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let api = anyone(lab, &clients)?;
    let mut slots = BTreeMap::new();
    let mut ticks = 0;
    for index in 0..TIMERS {
        let series = checks::slots_fired_once(api, index, 1, kills).await?;
        ticks += series.at.len();
        slots.extend(lateness(api, index).await?);
    }
    report(&killed, &slots);
    println!("{kills} kills, {ticks} ticks: none lost, none doubled");
    Ok(())
}

/// Scheduled time → how much later its execution was requested, µs.
pub async fn lateness(api: &Api, index: usize) -> Result<HashMap<i64, i64>> {
    let path = format!("/v1/executions?rule=tick{index}&limit=-1&include_attributes=start_timestamp,trigger_instance");
    let found = api.get(&path).await?;
    let time =
        |value: &serde_json::Value| Timestamp::parse_lenient(value.as_str().unwrap_or_default()).map(Timestamp::micros);
    let mut late = HashMap::new();
    for execution in found.as_array().context("no list")? {
        let slot = time(&execution["trigger_instance"]["occurrence_time"]).context("no occurrence time")?;
        let start = time(&execution["start_timestamp"]).context("no start")?;
        late.insert(slot, start - slot);
    }
    Ok(late)
}

fn report(killed: &[i64], slots: &BTreeMap<i64, i64>) {
    let mut first = Samples::default();
    let mut undisturbed = Samples::default();
    for at in killed {
        if let Some((_, late)) = slots.range(at..).next() {
            first.add(Duration::from_micros((*late).max(0) as u64));
        }
    }
    for (slot, late) in slots {
        let since = killed.iter().rev().find(|at| *at <= slot).map_or(i64::MAX, |at| slot - at);
        if since > 4_000_000 {
            undisturbed.add(Duration::from_micros((*late).max(0) as u64));
        }
    }
    println!("first due tick after the holder's kill, late (slot to requested execution): {}", first.summary());
    println!("ticks more than 4 s after a kill, late: {}", undisturbed.summary());
}
