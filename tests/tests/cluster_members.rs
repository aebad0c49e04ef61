//! Nodes come and go: roles of their own, an empty disk, removal, planned stops under load.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::lab::{Balancer, Lab, LabOptions, Load, LoadOptions, PASSWORD, checks};
use e2e::{Api, eventually, seed};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

async fn member(lab: &Lab, api: &Api, name: &str) -> Option<Value> {
    let status = lab.status(api).await?;
    status["members"].as_array()?.iter().find(|member| member["name"] == name).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_with_roles_return_empty_and_are_removed() -> Result<()> {
    let Some(mut lab) = Lab::start(LabOptions::default()).await? else { return Ok(()) };
    let api = lab.admin(0).await;

    // An API node without a vote, and a node that only runs actions.
    let front = lab.add_node(&["api"]).await?;
    lab.wait_ready(front, SOON).await;
    let at_front = lab.admin(front).await;
    let id = at_front.run("core.local", json!({"cmd": "hostname"})).await?;
    let execution = at_front.finished(&id, SOON).await;
    assert_eq!(execution["status"], "succeeded", "{execution}");
    let joined = eventually("the API node is a member without a vote", SOON, || member(&lab, &api, "n4")).await;
    assert_eq!(joined["voter"], false, "{joined}");
    let worker = lab.add_node(&["runner"]).await?;
    eventually("the runner has a session", SOON, || async {
        let status = lab.status(&api).await?;
        status["sessions"].as_array()?.iter().any(|session| session["node"] == "n5").then_some(())
    })
    .await;
    runs_somewhere_on(&api, "n5").await?;
    lab.stop(worker, SOON).await?;

    // A voter comes back with an empty disk, and catches up.
    lab.kill(1);
    let old = member(&lab, &api, "n2").await.context("n2 isn't a member")?;
    std::fs::remove_dir_all(lab.nodes[1].dir.join("data"))?;
    lab.launch(1)?;
    lab.wait_ready(1, Duration::from_secs(60)).await;
    let new = eventually("n2 votes again", SOON, || async {
        member(&lab, &api, "n2").await.filter(|new| new["voter"] == true && new["id"] != old["id"])
    })
    .await;
    println!("n2 was {}, is {}", old["id"], new["id"]);

    // A node is taken out for good.
    lab.stop(front, SOON).await?;
    let reply = api.call(Method::DELETE, "/v1/cluster/members/n4", None).await?;
    assert!(reply.status < 300, "{} {}", reply.status, reply.text);
    eventually("n4 is no member any more", SOON, || async {
        let status = lab.status(&api).await?;
        let gone = status["members"].as_array()?.iter().all(|member| member["name"] != "n4");
        gone.then_some(())
    })
    .await;
    Ok(())
}

/// Some of many executions run on this node.
async fn runs_somewhere_on(api: &Api, node: &str) -> Result<()> {
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..3 {
        let mut ids = Vec::new();
        for _ in 0..40 {
            ids.push(api.run("core.local", json!({"cmd": "sleep 3"})).await?);
        }
        for id in ids {
            let execution = api.finished(&id, Duration::from_secs(60)).await;
            let ran_on = execution["liveaction"]["runner_info"]["hostname"].as_str().unwrap_or_default();
            *seen.entry(ran_on.to_owned()).or_default() += 1;
        }
        if seen.contains_key(node) {
            println!("executions by node: {seen:?}");
            return Ok(());
        }
    }
    anyhow::bail!("nothing ran on {node}: {seen:?}")
}

/// Planned stops one after the other behind a load balancer, as an upgrade does: no call fails, nothing is abandoned.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_loses_nothing() -> Result<()> {
    let options = LabOptions { config: vec![("node", "stop_delay = \"1s\"".to_owned())], ..LabOptions::default() };
    let Some(mut lab) = Lab::start(options).await? else { return Ok(()) };
    let Some(balancer) = Balancer::start(&lab).await? else { return Ok(()) };
    let api = Api::login(&balancer.base, "st2admin", PASSWORD).await?;
    checks::create_timer_rule(&api, 0, 1).await?;
    let load = Load::start(LoadOptions {
        clients: vec![api.clone()],
        workers: 4,
        journal: lab.dir.join("journal"),
        pause: Duration::from_millis(20),
        limited_every: 0,
        seed: seed(),
    });
    for index in 0..3 {
        let before = load.acknowledged();
        lab.stop(index, Duration::from_secs(60)).await?;
        lab.restart(index).await?;
        eventually("work goes on", SOON, || async { (load.acknowledged() >= before + 20).then_some(()) }).await;
    }
    let history = load.stop().await;
    println!("{} acknowledged, refused: {:?}", history.executions.len(), history.refused);
    checks::no_lies(&history)?;
    let ends = checks::executions_ended(&api, &history, SOON).await?;
    assert_eq!(ends.keys().collect::<Vec<_>>(), ["succeeded"], "{ends:?}");
    checks::attempts_started_once(&lab.dir.join("journal"))?;
    checks::slots_fired_once(&api, 0, 1, 10).await?;
    assert!(history.refused.is_empty(), "{:?}", history.refused);
    Ok(())
}
