//! kill -9 at random moments under load (invariants E1 – E4, C1, K4).
//!
//! `SQUALL_TEST_ROUNDS` says how often (50), `SQUALL_TEST_SEED` replays the moments of a run.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Api, Node, eventually, seed};
use model::{Status, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const TIMERS: usize = 3;

/// What the node acknowledged before it was killed.
#[derive(Debug, Default)]
struct Acknowledged {
    executions: Vec<String>,
    /// Key name → last value that was acknowledged, and the one that was on its way at the kill.
    keys: HashMap<String, (Option<u64>, Option<u64>)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled() -> Result<()> {
    let rounds: usize = std::env::var("SQUALL_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let mut random = StdRng::seed_from_u64(seed());
    let mut node = Node::start().await?;
    let journal = node.data_dir.join("journal");
    let mut api = node.admin().await?;
    for index in 0..TIMERS {
        create_timer_rule(&api, index).await?;
    }

    let mut all = Acknowledged::default();
    for round in 0..rounds {
        let load = tokio::spawn(load(api.clone(), journal.clone(), round));
        tokio::time::sleep(Duration::from_millis(random.random_range(50..900))).await;
        node.kill();
        let seen = load.await?;
        all.executions.extend(seen.executions);
        all.keys.extend(seen.keys);
        node.restart().await.with_context(|| format!("round {round}"))?;
        // Tokens survive as everything else: the old one must still be good.
        api.base.clone_from(&node.base);
    }
    println!("{} executions and {} keys were acknowledged", all.executions.len(), all.keys.len());
    assert!(all.executions.len() > rounds, "the load never got through");

    executions_ended(&api, &all.executions).await;
    attempts_started_once(&journal)?;
    keys_kept(&api, &all.keys).await?;
    for index in 0..TIMERS {
        slots_fired_once(&api, index).await?;
    }
    Ok(())
}

async fn create_timer_rule(api: &Api, index: usize) -> Result<()> {
    let rule = json!({
        "name": format!("tick{index}"), "pack": "default", "enabled": true,
        "trigger": {"type": "core.st2.IntervalTimer", "parameters": {"unit": "seconds", "delta": index + 1}},
        "criteria": {},
        "action": {"ref": "core.noop", "parameters": {}},
    });
    api.post("/v1/rules", &rule).await.map(drop)
}

/// Requests executions and writes keys until the node is gone.
async fn load(api: Api, journal: std::path::PathBuf, round: usize) -> Acknowledged {
    let mut workers = JoinSet::new();
    for worker in 0..4 {
        let (api, journal) = (api.clone(), journal.clone());
        workers.spawn(async move {
            let mut seen = Acknowledged::default();
            for step in 0.. {
                let command = format!("echo $ST2_ACTION_EXECUTION_ID:{round}.{worker}.{step} >> {}", journal.display());
                let requested = match step % 4 {
                    0 => api.run("core.local", json!({"cmd": command})).await,
                    _ => api.run("core.noop", json!({})).await,
                };
                let Ok(id) = requested else { break };
                seen.executions.push(id);
                let key = format!("k{round}.{worker}");
                let entry = seen.keys.entry(key.clone()).or_default();
                entry.1 = Some(step);
                let body = json!({"name": key, "value": step.to_string()});
                let written = api.call(Method::PUT, &format!("/v1/keys/{key}"), Some(&body)).await;
                match written {
                    Ok(reply) if reply.status == 200 => *entry = (Some(step), None),
                    _ => break,
                }
            }
            seen
        });
    }
    let mut all = Acknowledged::default();
    while let Some(seen) = workers.join_next().await {
        if let Ok(seen) = seen {
            all.executions.extend(seen.executions);
            all.keys.extend(seen.keys);
        }
    }
    all
}

/// E1 and E3: each acknowledged execution ends within 30 s, along legal edges, with times that never go back.
async fn executions_ended(api: &Api, ids: &[String]) {
    for id in ids {
        let execution = api.finished(id, Duration::from_secs(30)).await;
        let log = execution["log"].as_array().cloned().unwrap_or_default();
        let steps: Vec<(Timestamp, Status)> = log
            .iter()
            .filter_map(|entry| {
                let at = Timestamp::parse_lenient(entry["timestamp"].as_str()?)?;
                Some((at, Status::parse(entry["status"].as_str()?)?))
            })
            .collect();
        assert_eq!(steps.len(), log.len(), "{execution}");
        assert_eq!(steps.first().map(|step| step.1), Some(Status::Requested), "{execution}");
        for pair in steps.windows(2) {
            assert!(pair[0].1.may_become(pair[1].1), "{} → {}: {execution}", pair[0].1, pair[1].1);
            assert!(pair[0].0 <= pair[1].0, "{execution}");
        }
        assert_eq!(steps.iter().filter(|step| step.1.is_completed()).count(), 1, "{execution}");
    }
}

/// E2: every line of the journal was written by a start of its own; none may stand twice.
fn attempts_started_once(journal: &Path) -> Result<()> {
    let text = std::fs::read_to_string(journal).context("no local action ever ran")?;
    let mut starts: HashMap<&str, usize> = HashMap::new();
    for line in text.lines() {
        *starts.entry(line).or_default() += 1;
    }
    let twice: Vec<_> = starts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "started twice: {twice:?}");
    println!("{} local actions ran", starts.len());
    Ok(())
}

/// A1 and K4: a key has the value that was last acknowledged, or the one that was on its way.
async fn keys_kept(api: &Api, keys: &HashMap<String, (Option<u64>, Option<u64>)>) -> Result<()> {
    for (key, (acknowledged, pending)) in keys {
        let reply = api.call(Method::GET, &format!("/v1/keys/{key}"), None).await?;
        let found = reply.json["value"].as_str().and_then(|text| text.parse::<u64>().ok());
        let fits = found == *acknowledged || (pending.is_some() && found == *pending);
        assert!(fits, "key {key} is {found:?}, acknowledged {acknowledged:?}, pending {pending:?}");
    }
    Ok(())
}

/// C1: between the first and the last instance, each slot of the timer has one instance and one execution.
async fn slots_fired_once(api: &Api, index: usize) -> Result<()> {
    let rule = api.get(&format!("/v1/rules/default.tick{index}")).await?;
    let trigger = rule["trigger"]["ref"].as_str().context("the rule has no trigger")?.to_owned();
    let period = 1_000_000 * (index as i64 + 1);
    let instances = eventually("ten instances are processed", Duration::from_secs(60), || async {
        let found = api.get(&format!("/v1/triggerinstances?trigger={trigger}&limit=-1")).await.ok()?;
        let all = found.as_array()?.clone();
        // The newest ones may be on their way.
        let settled = all.iter().skip(3).all(|instance| instance["status"] == "processed");
        (settled && all.len() >= 10).then_some(all)
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
        assert!((gap - period).abs() < period / 2, "timer {index}: {gap} µs between {} and {}", pair[0].1, pair[1].1);
    }
    for (_, id) in &slots {
        let enforcements = api.get(&format!("/v1/ruleenforcements?trigger_instance={id}")).await?;
        assert_eq!(enforcements.as_array().map(Vec::len), Some(1), "instance {id}: {enforcements}");
        let executions = api.get(&format!("/v1/executions?trigger_instance={id}&include_attributes=id")).await?;
        assert_eq!(executions.as_array().map(Vec::len), Some(1), "instance {id}: {executions}");
    }
    println!("timer {index}: {} slots, each fired once", slots.len());
    Ok(())
}
