//! The invariants of DESIGN §8, held against a record and against what the cluster says once everything is healed.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::{Status, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::load::{History, LIMITED};
use crate::api::Api;
use crate::wait::eventually;

/// Makes the rule of an interval timer that runs `core.noop`.
pub async fn create_timer_rule(api: &Api, index: usize, seconds: u64) -> Result<()> {
    let rule = json!({
        "name": format!("tick{index}"), "pack": "default", "enabled": true,
        "trigger": {"type": "core.st2.IntervalTimer", "parameters": {"unit": "seconds", "delta": seconds}},
        "criteria": {},
        "action": {"ref": "core.noop", "parameters": {}},
    });
    api.post("/v1/rules", &rule).await.map(drop)
}

/// Makes the action [`LIMITED`] (it notes its start and end in the given file) with a policy of `threshold`.
pub async fn create_limited_action(api: &Api, threshold: u64) -> Result<()> {
    let action = json!({
        "name": "limited", "pack": "default", "runner_type": "local-shell-cmd", "enabled": true, "entry_point": "",
        "parameters": {
            "journal": {"type": "string", "required": true},
            "cmd": {"immutable": true, "default": format!(
                "J={{{{journal}}}}; echo \"start $ST2_ACTION_EXECUTION_ID $(date +%s%N)\" >> $J; sleep 0.05; \
                 echo \"end $ST2_ACTION_EXECUTION_ID $(date +%s%N)\" >> $J")},
        },
    });
    api.post("/v1/actions", &action).await?;
    let policy = json!({
        "name": "limit", "pack": "default", "resource_ref": LIMITED, "policy_type": "action.concurrency",
        "enabled": true, "parameters": {"threshold": threshold, "action": "delay"},
    });
    api.post("/v1/policies", &policy).await.map(drop)
}

/// E1 and E3: each acknowledged execution ends within `within`, once, along legal edges, with times that never go
/// back. Returns how many ended in which status.
pub async fn executions_ended(api: &Api, history: &History, within: Duration) -> Result<HashMap<String, usize>> {
    let end = std::time::Instant::now() + within;
    let mut ends: HashMap<String, usize> = HashMap::new();
    for id in &history.executions {
        let left = end.saturating_duration_since(std::time::Instant::now()).max(Duration::from_secs(1));
        let execution = api.finished(id, left).await;
        log_is_legal(&execution)?;
        *ends.entry(execution["status"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(ends)
}

/// How long after the last of these moments (µs) before it each abandoned execution was decided.
pub async fn decided_after(api: &Api, faults: &[i64]) -> Result<Vec<Duration>> {
    let found = api.get("/v1/executions?status=abandoned&limit=-1&include_attributes=end_timestamp").await?;
    let mut after = Vec::new();
    for execution in found.as_array().context("no list")? {
        let end = execution["end_timestamp"].as_str().and_then(Timestamp::parse_lenient).context("no end")?.micros();
        let fault = faults.iter().copied().filter(|fault| *fault <= end).max().context("nothing had happened")?;
        after.push(Duration::from_micros(u64::try_from(end - fault)?));
    }
    after.sort();
    Ok(after)
}

fn log_is_legal(execution: &Value) -> Result<()> {
    let log = execution["log"].as_array().cloned().unwrap_or_default();
    let steps: Vec<(Timestamp, Status)> = log
        .iter()
        .filter_map(|entry| {
            let at = Timestamp::parse_lenient(entry["timestamp"].as_str()?)?;
            Some((at, Status::parse(entry["status"].as_str()?)?))
        })
        .collect();
    let legal = steps.len() == log.len()
        && steps.first().map(|step| step.1) == Some(Status::Requested)
        && steps.windows(2).all(|pair| pair[0].1.may_become(pair[1].1) && pair[0].0 <= pair[1].0)
        && steps.iter().filter(|step| step.1.is_completed()).count() == 1;
    if !legal {
        bail!("the log isn't legal: {execution}");
    }
    Ok(())
}

/// E2: every line of the journal was written by a start of its own; none may stand twice.
pub fn attempts_started_once(journal: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(journal).context("no local action ever ran")?;
    let mut starts: HashMap<&str, usize> = HashMap::new();
    for line in text.lines() {
        *starts.entry(line).or_default() += 1;
    }
    let twice: Vec<_> = starts.iter().filter(|(_, count)| **count > 1).collect();
    if !twice.is_empty() {
        bail!("started twice: {twice:?}");
    }
    Ok(starts.len())
}

/// A key has the value that was last acknowledged, or one that was on its way after it.
pub async fn keys_kept(api: &Api, history: &History) -> Result<()> {
    for (key, (acknowledged, pending)) in &history.keys {
        let reply = api.call(Method::GET, &format!("/v1/keys/{key}"), None).await?;
        let found = reply.json["value"].as_str().and_then(|text| text.parse::<u64>().ok());
        let fits = found == *acknowledged || found.is_some_and(|found| pending.contains(&found));
        if !fits {
            bail!("key {key} is {found:?}, acknowledged {acknowledged:?}, on their way {pending:?}");
        }
    }
    Ok(())
}

/// A1: nothing that was acknowledged was denied, and no list was empty.
pub fn no_lies(history: &History) -> Result<()> {
    if history.lies.is_empty() { Ok(()) } else { bail!("{:?}", history.lies) }
}

/// P1: never more than `threshold` of [`LIMITED`] at a time, by its own notes. What was killed with its box has no
/// end and isn't counted. Returns how many ran to their end.
pub fn limit_held(journal: &Path, threshold: usize) -> Result<usize> {
    let text = std::fs::read_to_string(journal).context("the limited action never ran")?;
    let mut starts: HashMap<String, i128> = HashMap::new();
    let mut edges: Vec<(i128, i32)> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, id, at] = words[..] else { continue };
        let at: i128 = at.parse()?;
        match kind {
            "start" => {
                starts.insert(id.to_owned(), at);
            }
            _ => {
                if let Some(start) = starts.remove(id) {
                    edges.push((start, 1));
                    edges.push((at, -1));
                }
            }
        }
    }
    let ran = edges.len() / 2;
    let killed = starts.len();
    println!("limited: {ran} ran to their end, {killed} were killed");
    edges.sort_unstable();
    let mut now = 0;
    let mut most = 0;
    for (_, change) in edges {
        now += change;
        most = most.max(now);
    }
    if most > threshold as i32 {
        bail!("{most} ran at once, {threshold} are allowed");
    }
    Ok(ran)
}

/// A timer's slots.
#[derive(Debug)]
pub struct Slots {
    /// Scheduled time of each instance, µs, ascending.
    pub at: Vec<i64>,
    /// Their instances.
    pub ids: Vec<String>,
}

/// C1: between the first and the last instance, each slot of the timer has one instance and one execution.
pub async fn slots_fired_once(api: &Api, index: usize, seconds: u64, least: usize) -> Result<Slots> {
    let rule = api.get(&format!("/v1/rules/default.tick{index}")).await?;
    let trigger = rule["trigger"]["ref"].as_str().context("the rule has no trigger")?.to_owned();
    let period = 1_000_000 * seconds as i64;
    let instances = eventually("the instances are processed", Duration::from_secs(90), || async {
        let found = api.get(&format!("/v1/triggerinstances?trigger={trigger}&limit=-1")).await.ok()?;
        let all = found.as_array()?.clone();
        // The newest ones may be on their way.
        let settled = all.iter().skip(3).all(|instance| instance["status"] == "processed");
        (settled && all.len() >= least).then_some(all)
    })
    .await;
    let mut slots: Vec<(i64, String)> = instances
        .iter()
        .skip(3)
        .filter_map(|instance: &Value| {
            let at = Timestamp::parse_lenient(instance["occurrence_time"].as_str()?)?;
            Some((at.micros(), instance["id"].as_str()?.to_owned()))
        })
        .collect();
    slots.sort();
    for pair in slots.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        if (gap - period).abs() >= period / 2 {
            bail!("timer {index}: {gap} µs between {} and {}", pair[0].1, pair[1].1);
        }
    }
    for (_, id) in &slots {
        // Rules with the same timer share its trigger.
        let path = format!("/v1/ruleenforcements?trigger_instance={id}&rule_ref=default.tick{index}");
        let enforcements = api.get(&path).await?;
        anyhow::ensure!(enforcements.as_array().map(Vec::len) == Some(1), "instance {id}: {enforcements}");
        let path = format!("/v1/executions?trigger_instance={id}&rule=tick{index}&include_attributes=id");
        let executions = api.get(&path).await?;
        anyhow::ensure!(executions.as_array().map(Vec::len) == Some(1), "instance {id}: {executions}");
    }
    let (at, ids) = slots.into_iter().unzip();
    Ok(Slots { at, ids })
}
