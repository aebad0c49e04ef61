//! From events to actions, through the whole node.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Api, Node, eventually};
use model::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

fn rule(name: &str, trigger: Value, criteria: Value, cmd: &str) -> Value {
    json!({
        "name": name, "pack": "default", "enabled": true, "trigger": trigger, "criteria": criteria,
        "action": {"ref": "core.local", "parameters": {"cmd": cmd}},
    })
}

/// Executions that the rule caused, once there are at least so many.
async fn caused(api: &Api, rule: &str, at_least: usize) -> Vec<Value> {
    eventually(&format!("rule {rule} causes {at_least} executions"), DEADLINE, || async {
        let found = api.get(&format!("/v1/executions?rule={rule}&limit=-1")).await.ok()?;
        let ended: Vec<Value> =
            found.as_array()?.iter().filter(|execution| execution["end_timestamp"].is_string()).cloned().collect();
        (ended.len() >= at_least).then_some(ended)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_rules_and_backstops() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let hook = json!({"type": "core.st2.webhook", "parameters": {"url": "ci/done"}});
    let is_red = json!({"trigger.body.state": {"type": "equals", "pattern": "red"}});
    api.post("/v1/rules", &rule("red", hook.clone(), is_red, "echo {{ trigger.body.state }} {{ trigger.body.n }}"))
        .await?;
    let mut backstop = rule("other", hook.clone(), json!({}), "echo other");
    backstop["type"] = json!({"ref": "backstop", "parameters": {}});
    api.post("/v1/rules", &backstop).await?;
    let mut disabled = rule("off", hook, json!({}), "echo off");
    disabled["enabled"] = json!(false);
    api.post("/v1/rules", &disabled).await?;

    api.post("/v1/webhooks/ci/done", &json!({"state": "red", "n": 7})).await?;
    api.post("/v1/webhooks/ci/done", &json!({"state": "green", "n": 8})).await?;
    let red = caused(&api, "red", 1).await;
    assert_eq!(red[0]["result"]["stdout"], "red 7");
    assert_eq!(red[0]["context"]["user"], "stanley");
    let other = caused(&api, "other", 1).await;
    assert_eq!((red.len(), other.len()), (1, 1));
    assert_eq!(other[0]["trigger_instance"]["payload"]["body"]["n"], 8);
    let off = api.get("/v1/executions?rule=off").await?;
    assert_eq!(off.as_array().map(Vec::len), Some(0));
    let enforced = api.get("/v1/ruleenforcements?rule_ref=default.red").await?;
    assert_eq!(enforced[0]["execution_id"], red[0]["id"]);
    let missing = api.call(Method::POST, "/v1/webhooks/nobody", Some(&json!({}))).await?;
    assert_eq!(missing.status, 404, "{}", missing.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_of_every_kind() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let interval = json!({"type": "core.st2.IntervalTimer", "parameters": {"unit": "seconds", "delta": 1}});
    api.post("/v1/rules", &rule("interval", interval, json!({}), "echo tick")).await?;
    let cron = json!({"type": "core.st2.CronTimer", "parameters": {"second": "*/2", "timezone": "Europe/Berlin"}});
    api.post("/v1/rules", &rule("cron", cron, json!({}), "echo cron")).await?;
    let now = api.get("/v1/rules/default.cron").await.map(|_| std::time::SystemTime::now())?;
    let soon = now.duration_since(std::time::UNIX_EPOCH)? + Duration::from_secs(3);
    let soon = Timestamp::from_micros(i64::try_from(soon.as_micros())?);
    let date = json!({"type": "core.st2.DateTimer", "parameters": {"date": soon.to_string(), "timezone": "UTC"}});
    api.post("/v1/rules", &rule("date", date, json!({}), "echo date")).await?;

    caused(&api, "interval", 4).await;
    caused(&api, "cron", 2).await;
    let once = caused(&api, "date", 1).await;
    assert_eq!(once.len(), 1);
    let timers = api.get("/v1/timers").await?;
    // The examples' timer is the fourth.
    assert_eq!(timers.as_array().map(Vec::len), Some(4));
    for parameters in [json!({"unit": "seconds", "delta": -1}), json!({"unit": "seconds", "delta": 1, "timezone": "x"})]
    {
        let bad = json!({"type": "core.st2.IntervalTimer", "parameters": parameters});
        let reply = api.call(Method::POST, "/v1/rules", Some(&rule("bad", bad, json!({}), "true"))).await?;
        assert_eq!(reply.status, 400, "{}", reply.text);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_hold_back_and_try_again() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let policy = |name: &str, kind: &str, parameters: Value| {
        json!({"name": name, "pack": "default", "enabled": true, "resource_ref": "core.local", "policy_type": kind,
               "parameters": parameters})
    };
    api.post("/v1/policies", &policy("one", "action.concurrency", json!({"threshold": 1}))).await?;
    api.post("/v1/policies", &policy("again", "action.retry", json!({"retry_on": "failure", "max_retry_count": 2})))
        .await?;
    // Never two at once: each writes its begin and its end.
    let journal = node.data_dir.join("journal");
    let cmd = format!("echo begin >> {j}; sleep 0.1; echo end >> {j}", j = journal.display());
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(api.run("core.local", json!({"cmd": cmd})).await?);
    }
    for id in &ids {
        assert_eq!(api.finished(id, DEADLINE).await["status"], "succeeded");
    }
    let lines = std::fs::read_to_string(&journal)?;
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines, ["begin", "end"].repeat(6));
    // A failure is tried again twice.
    let attempts = node.data_dir.join("attempts");
    let cmd = format!("echo x >> {}; exit 1", attempts.display());
    api.run("core.local", json!({"cmd": cmd})).await?;
    eventually("three attempts", DEADLINE, || async {
        let text = std::fs::read_to_string(&attempts).ok()?;
        (text.lines().count() == 3).then_some(())
    })
    .await;
    eventually("all of them ended", DEADLINE, || async {
        let failed = api.get("/v1/executions?action=core.local&status=failed").await.ok()?;
        (failed.as_array()?.len() == 3).then_some(())
    })
    .await;
    assert_eq!(std::fs::read_to_string(&attempts)?.lines().count(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_api_keys_and_live_output() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let created = json!({"type": "core.st2.key_value_pair.create"});
    let name = json!({"trigger.object.name": {"type": "eq", "pattern": "watched"}});
    api.post("/v1/rules", &rule("key", created, name, "echo {{ trigger.object.value }}")).await?;
    let body = json!({"name": "watched", "value": "v"});
    assert_eq!(api.call(Method::PUT, "/v1/keys/watched", Some(&body)).await?.status, 200);
    assert_eq!(caused(&api, "key", 1).await[0]["result"]["stdout"], "v");

    let secret = json!({"name": "s", "value": "hunter2", "secret": true});
    let stored = api.call(Method::PUT, "/v1/keys/s", Some(&secret)).await?;
    assert!(!stored.text.contains("hunter2"), "{}", stored.text);
    let id = api.run("core.local", json!({"cmd": "echo {{ st2kv.system.s | decrypt_kv }}"})).await?;
    assert_eq!(api.finished(&id, DEADLINE).await["result"]["stdout"], "hunter2");

    // Output can be read while the action runs.
    let gate = node.data_dir.join("gate");
    let cmd = format!("echo early; while [ ! -e {} ]; do sleep 0.05; done; echo late", gate.display());
    let id = api.run("core.local", json!({"cmd": cmd})).await?;
    eventually("the first line is there", DEADLINE, || async {
        let reply = api.call(Method::GET, &format!("/v1/executions/{id}/output"), None).await.ok()?;
        (reply.text == "early\n").then_some(())
    })
    .await;
    std::fs::write(&gate, "")?;
    let execution = api.finished(&id, DEADLINE).await;
    assert_eq!(execution["result"]["stdout"].as_str().context("no stdout")?, "early\nlate");
    Ok(())
}
