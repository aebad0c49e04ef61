//! A pack that is installed through one node is in force on every node, and what runs keeps what it began with
//! (DESIGN §6).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::lab::{Lab, LabOptions};
use e2e::repo::{Repo, manifest};
use e2e::{Api, eventually};
use serde_json::{Value, json};

const ACTIONS: usize = 300;
/// Debug build and busy machine; the promise for a release build is 5 s, and the figure itself is printed.
const IN_FORCE: Duration = Duration::from_secs(60);

fn write_word(repo: &Repo, version: &str, word: &str) -> Result<()> {
    repo.write("pack.yaml", &manifest("wide", version, ""))?;
    repo.write("actions/word", word)?;
    repo.commit(word)
}

/// A pack of many actions; `wide.wait` waits for a file, then says the word of its revision.
fn repository(dir: &Path) -> Result<Repo> {
    let repo = Repo::new(dir.join("wide"))?;
    for number in 0..ACTIONS - 1 {
        let text =
            format!("name: a{number}\nrunner_type: local-shell-cmd\nparameters:\n  cmd: {{default: echo {number}}}\n");
        repo.write(&format!("actions/a{number}.yaml"), &text)?;
    }
    let wait = "name: wait\nrunner_type: local-shell-script\nentry_point: wait.sh\nparameters:\n  file: {type: string, position: 0}\n";
    repo.write("actions/wait.yaml", wait)?;
    let script = "#!/bin/sh\necho begun\nwhile [ ! -e \"$1\" ]; do sleep 0.1; done\ncat \"$(dirname \"$0\")/word\"\n";
    repo.write("actions/wait.sh", script)?;
    write_word(&repo, "1.0.0", "one")?;
    Ok(repo)
}

async fn install(api: &Api, repo: &Repo) -> Result<()> {
    let packs = json!([repo.source()]);
    let id = api.run("packs.install", json!({"packs": packs, "skip_dependencies": true})).await?;
    let done = api.finished(&id, IN_FORCE).await;
    ensure!(done["status"] == "succeeded", "{}", done["result"]);
    Ok(())
}

/// Every node has these files in force, and its API knows every action.
async fn everywhere(lab: &Lab, apis: &[Api], word: &str) {
    for (node, api) in lab.nodes.iter().zip(apis) {
        let file = node.dir.join("data/packs/wide/actions/word");
        eventually(&format!("{} has the pack", node.name), IN_FORCE, || async {
            let known = api.get("/v1/actions?pack=wide&limit=-1&include_attributes=ref").await.ok()?;
            let all = known.as_array().is_some_and(|known| known.len() == ACTIONS);
            (all && std::fs::read_to_string(&file).is_ok_and(|text| text == word)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_reaches_every_node_and_what_runs_keeps_its_own() -> Result<()> {
    let Some(mut lab) = Lab::start(LabOptions::default()).await? else { return Ok(()) };
    let dir = lab.dir.clone();
    let repo = repository(&dir)?;
    let apis = [lab.admin(0).await, lab.admin(1).await, lab.admin(2).await];

    let begin = Instant::now();
    install(&apis[1], &repo).await?;
    let installed = begin.elapsed();
    everywhere(&lab, &apis, "one").await;
    println!("{ACTIONS} actions: installed after {installed:?}, on three nodes after {:?}", begin.elapsed());

    // It runs while the pack is replaced; some on every node, most likely.
    let gate = dir.join("gate");
    let mut running = Vec::new();
    for api in apis.iter().cycle().take(6) {
        running.push(api.run("wide.wait", json!({"file": gate})).await?);
    }
    for id in &running {
        eventually("it runs", IN_FORCE, || async {
            let execution = apis[0].get(&format!("/v1/executions/{id}")).await.ok()?;
            (execution["status"] == "running").then_some(())
        })
        .await;
    }
    write_word(&repo, "1.1.0", "two")?;
    // A node that is away meanwhile takes it when it comes back.
    lab.kill(2);
    install(&apis[0], &repo).await?;
    lab.restart(2).await?;
    everywhere(&lab, &apis, "two").await;
    std::fs::write(&gate, "")?;
    let mut kept = 0;
    for id in &running {
        let execution = apis[0].finished(id, IN_FORCE).await;
        // Those of the killed node are lost with it.
        if execution["status"] == "succeeded" {
            assert_eq!(last_line(&execution), Some("one"), "{}", execution["result"]);
            kept += 1;
        }
    }
    println!("{kept} of {} executions went on while the pack changed", running.len());
    assert!(kept > 0, "none was left to tell");
    for api in &apis {
        let id = api.run("wide.wait", json!({"file": gate})).await?;
        assert_eq!(last_line(&api.finished(&id, IN_FORCE).await), Some("two"));
    }

    let id = apis[2].run("packs.uninstall", json!({"packs": ["wide"]})).await?;
    assert_eq!(apis[2].finished(&id, IN_FORCE).await["status"], "succeeded");
    for (node, api) in lab.nodes.iter().zip(&apis) {
        let link = node.dir.join("data/packs/wide");
        eventually(&format!("{} forgets the pack", node.name), IN_FORCE, || async {
            let gone = std::fs::symlink_metadata(&link).is_err() && api.get("/v1/packs/wide").await.is_err();
            gone.then_some(())
        })
        .await;
    }
    Ok(())
}

fn last_line(execution: &Value) -> Option<&str> {
    execution["result"]["stdout"].as_str().context("text").ok()?.lines().last()
}
