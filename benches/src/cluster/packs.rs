//! A pack of 300 actions is installed through one node: until every node has it and its API knows all actions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::Api;
use e2e::lab::Lab;
use e2e::repo::{Repo, manifest};
use serde_json::json;

use super::{admins, number};
use crate::stats::Samples;

const ACTIONS: usize = 300;
const DEADLINE: Duration = Duration::from_secs(60);

fn repository(lab: &Lab, name: &str) -> Result<Repo> {
    let repo = Repo::new(lab.dir.join("sources").join(name))?;
    repo.write("pack.yaml", &manifest(name, "1.0.0", ""))?;
    for number in 0..ACTIONS {
        let text =
            format!("name: a{number}\nrunner_type: local-shell-cmd\nparameters:\n  cmd: {{default: echo {number}}}\n");
        repo.write(&format!("actions/a{number}.yaml"), &text)?;
    }
    repo.commit("one")?;
    Ok(repo)
}

/// Whether its API knows all actions, and it has the files of the last one.
async fn has_all(lab: &Lab, node: usize, api: &Api, name: &str) -> bool {
    let last = format!("data/packs/{name}/actions/a{}.yaml", ACTIONS - 1);
    if !lab.nodes[node].dir.join(last).is_file() {
        return false;
    }
    let known = api.get(&format!("/v1/actions?pack={name}&limit=-1&include_attributes=ref")).await;
    known.ok().and_then(|known| known.as_array().map(Vec::len)) == Some(ACTIONS)
}

pub async fn run(lab: &mut Lab) -> Result<()> {
    let apis = admins(lab).await;
    let (mut installed, mut everywhere) = (Samples::default(), Samples::default());
    for round in 0..number("SQUALL_BENCH_INSTALLS", 10) {
        let name = format!("wide{round}");
        let source = repository(lab, &name)?.source();
        let begin = Instant::now();
        let api = &apis[round % apis.len()];
        let id = api.run("packs.install", json!({"packs": [source], "skip_dependencies": true})).await?;
        let done = api.finished(&id, DEADLINE).await;
        ensure!(done["status"] == "succeeded", "{}", done["result"]);
        installed.add(begin.elapsed());
        for (node, api) in apis.iter().enumerate() {
            while !has_all(lab, node, api, &name).await {
                ensure!(begin.elapsed() < DEADLINE, "{} hasn't got the pack {name}", lab.nodes[node].name);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        everywhere.add(begin.elapsed());
    }
    installed.len().checked_sub(1).context("SQUALL_BENCH_INSTALLS must be at least 1")?;
    println!("a pack of {ACTIONS} actions, three nodes: st2 pack install answers after {}", installed.summary());
    println!("  in force on all three after {}", everywhere.summary());
    Ok(())
}
