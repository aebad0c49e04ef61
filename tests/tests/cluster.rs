//! Three nodes are one system: what is done at one is seen at the others, at once.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::lab::{Lab, LabOptions};
use e2e::{Api, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_at_one_node_is_seen_at_all() -> Result<()> {
    let Some(lab) = Lab::start(LabOptions::default()).await? else { return Ok(()) };
    let mut clients = Vec::new();
    for index in 0..3 {
        clients.push(lab.admin(index).await);
    }
    one_group(&lab, &clients).await?;
    tokens_are_good_everywhere(&lab, &clients).await?;
    executions_run_from_everywhere(&clients).await?;
    webhooks_are_known_at_once(&clients).await?;
    secrets_are_readable_everywhere(&clients).await?;
    Ok(())
}

/// All nodes name the same leader, have the same hash at the same index (K3), and each duty has one holder.
async fn one_group(lab: &Lab, clients: &[Api]) -> Result<()> {
    let all = eventually("all nodes agree on the group's state", SOON, || async {
        let mut seen = Vec::new();
        for api in clients {
            seen.push(lab.status(api).await?);
        }
        let key = |status: &Value| (status["leader"].clone(), status["applied"].clone(), status["state_hash"].clone());
        seen.windows(2).all(|pair| key(&pair[0]) == key(&pair[1])).then_some(seen)
    })
    .await;
    let status = &all[0];
    println!("{status:#}");
    let leader = status["leader"].as_str().context("no leader")?;
    assert!(["n1", "n2", "n3"].contains(&leader), "{leader}");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
    assert_eq!(status["sessions"].as_array().map(Vec::len), Some(3), "{status}");
    let duties = status["duties"].as_array().context("no duties")?;
    assert_eq!(duties.len(), 3, "{status}");
    let mut holders: Vec<&str> = duties.iter().filter_map(|duty| duty["holder"].as_str()).collect();
    holders.sort_unstable();
    holders.dedup();
    assert_eq!(holders.len(), 3, "three duties are spread over three nodes: {status}");
    Ok(())
}

/// A token that one node gave is good at the others.
async fn tokens_are_good_everywhere(lab: &Lab, clients: &[Api]) -> Result<()> {
    for node in &lab.nodes {
        clients[0].at(&node.base).get("/v1/actions?limit=1").await?;
    }
    Ok(())
}

/// An execution requested at one node can be read at another as soon as it is acknowledged, and ends.
async fn executions_run_from_everywhere(clients: &[Api]) -> Result<()> {
    for (index, api) in clients.iter().enumerate() {
        let id = api.run("core.local", json!({"cmd": "echo from $HOSTNAME"})).await?;
        let other = &clients[(index + 1) % clients.len()];
        other.get(&format!("/v1/executions/{id}")).await?;
        let execution = other.finished(&id, SOON).await;
        assert_eq!(execution["status"], "succeeded", "{execution}");
    }
    // Python finds its node's API with a token of that node.
    let id = clients[0].run("examples.python_runner_print_python_version", json!({})).await;
    if let Ok(id) = id {
        let execution = clients[1].finished(&id, Duration::from_secs(30)).await;
        assert_eq!(execution["status"], "succeeded", "{execution}");
    }
    Ok(())
}

/// I-R4: a rule's webhook that was made at one node answers at another immediately.
async fn webhooks_are_known_at_once(clients: &[Api]) -> Result<()> {
    for round in 0..10 {
        let rule = json!({
            "name": format!("hook{round}"), "pack": "default", "enabled": true,
            "trigger": {"type": "core.st2.webhook", "parameters": {"url": format!("lab/hook{round}")}},
            "criteria": {}, "action": {"ref": "core.noop", "parameters": {}},
        });
        clients[round % 3].post("/v1/rules", &rule).await?;
        let path = format!("/v1/webhooks/lab/hook{round}");
        let reply = clients[(round + 1) % 3].call(Method::POST, &path, Some(&json!({"round": round}))).await?;
        assert_eq!(reply.status, 202, "round {round}: {}", reply.text);
        // And the rule fires, wherever it is matched.
        let rule = format!("/v1/executions?rule=hook{round}&include_attributes=status");
        eventually(&format!("the execution of rule {round}"), SOON, || async {
            let found = clients[2].get(&rule).await.ok()?;
            (found.as_array()?.first()?["status"] == "succeeded").then_some(())
        })
        .await;
    }
    Ok(())
}

/// The datastore's key is the same on all nodes.
async fn secrets_are_readable_everywhere(clients: &[Api]) -> Result<()> {
    let body = json!({"name": "lab.secret", "value": "hunter2", "secret": true});
    let written = clients[0].call(Method::PUT, "/v1/keys/lab.secret", Some(&body)).await?;
    assert_eq!(written.status, 200, "{}", written.text);
    for api in clients {
        let found = api.get("/v1/keys/lab.secret?decrypt=true").await?;
        assert_eq!(found["value"], "hunter2", "{found}");
    }
    Ok(())
}
