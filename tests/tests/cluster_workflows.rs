//! Workflows on three nodes with their state in PostgreSQL: nodes are killed, and each workflow goes on where it was
//! (W1, E1, E2).
//!
//! `SQUALL_TEST_SEED` replays the choices of a run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::lab::{Lab, LabOptions};
use e2e::{Api, eventually, seed};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const WORKFLOWS: usize = 12;
const ITEMS: usize = 8;
/// After the last node is back (debug build, busy machine).
const SETTLE: Duration = Duration::from_secs(120);

/// Each task is tried again: a kill may end the attempt of any of them.
const DEFINITION: &str = "version: 1.0
tasks:
  begin: {action: core.noop, retry: {count: 20}, next: [{when: <% succeeded() %>, do: [left, right, below]}]}
  left:
    with: {items: <% range(8) %>, concurrency: 3}
    action: durable.note what=<% item() %>
    retry: {count: 20}
    next: [{when: <% succeeded() %>, publish: [left: <% result().len() %>], do: end}]
  right:
    action: durable.note what='right'
    retry: {count: 20}
    next: [{when: <% succeeded() %>, publish: [right: 1], do: end}]
  below:
    action: durable.below
    next: [{when: <% succeeded() %>, publish: [below: <% result().output.x %>], do: end}]
  end: {join: all, action: core.noop, retry: {count: 20}}
output: [left: <% ctx(left) %>, right: <% ctx(right) %>, below: <% ctx(below) %>]
";

const BELOW: &str = "version: 1.0
tasks:
  a: {action: durable.note what='below', retry: {count: 20}, next: [{when: <% succeeded() %>, do: b}]}
  b: {action: core.noop, retry: {count: 20}}
output: [x: 7]
";

/// A pack whose action notes each of its starts in a file.
fn write_pack(packs: &Path, journal: &Path) -> Result<()> {
    let actions = packs.join("durable/actions");
    std::fs::create_dir_all(actions.join("workflows"))?;
    let about = "ref: durable\nname: durable\ndescription: d\nversion: 0.1.0\nauthor: a\nemail: a@example.org\n";
    std::fs::write(packs.join("durable/pack.yaml"), about)?;
    let note = format!(
        "name: note\nrunner_type: local-shell-cmd\nparameters:\n  what: {{required: true}}\n  cmd: {{immutable: true, \
         default: 'echo {{{{ what }}}} $ST2_ACTION_EXECUTION_ID >> {}; sleep 0.1'}}\n",
        journal.display()
    );
    std::fs::write(actions.join("note.yaml"), note)?;
    for (name, definition) in [("flow", DEFINITION), ("below", BELOW)] {
        let meta = format!("name: {name}\nrunner_type: orquesta\nentry_point: workflows/{name}.yaml\n");
        std::fs::write(actions.join(format!("{name}.yaml")), meta)?;
        std::fs::write(actions.join(format!("workflows/{name}.yaml")), definition)?;
    }
    Ok(())
}

struct Scene {
    lab: Lab,
    clients: Vec<Api>,
    journal: PathBuf,
}

impl Scene {
    fn starts(&self) -> usize {
        std::fs::read_to_string(&self.journal).map_or(0, |text| text.lines().count())
    }

    /// Begins one on any node that answers.
    async fn begin(&self, random: &mut impl Rng) -> String {
        eventually("a node takes a workflow", Duration::from_secs(30), || {
            let api = &self.clients[random.random_range(0..3)];
            async move { api.run("durable.flow", json!({})).await.ok() }
        })
        .await
    }

    async fn children(&self, id: &str) -> Result<Vec<Value>> {
        let list = self.clients[0].get(&format!("/v1/executions?parent={id}&limit=1000")).await?;
        Ok(list.as_array().context("a list")?.clone())
    }

    /// Each place of a workflow succeeded once, and was run again only where a kill had ended an attempt.
    async fn holds(&self, id: &str) -> Result<()> {
        let mut places: HashMap<String, Vec<Value>> = HashMap::new();
        for child in self.children(id).await? {
            let place =
                format!("{} {}", child["context"]["orquesta"]["task_name"], child["context"]["orquesta"]["item_id"]);
            places.entry(place).or_default().push(child["status"].clone());
        }
        for (place, statuses) in &places {
            let succeeded = statuses.iter().filter(|status| *status == "succeeded").count();
            let killed = statuses.iter().filter(|status| *status == "abandoned").count();
            // With-items tasks run all items again.
            let items = place.contains("left");
            assert!(succeeded == 1 || (items && succeeded > 1), "{id} {place}: {statuses:?}");
            assert_eq!(succeeded + killed, statuses.len(), "{id} {place}: {statuses:?}");
        }
        assert_eq!(places.len(), ITEMS + 4, "{places:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_nodes_lose_and_double_nothing() -> Result<()> {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed());
    let packs = tempfile::tempdir()?;
    let journal = packs.path().join("journal");
    write_pack(packs.path(), &journal)?;
    let config = vec![("content", format!("packs_dirs = [\"{}\"]", packs.path().display()))];
    let Some(lab) = Lab::start(LabOptions { config, ..LabOptions::default() }).await? else { return Ok(()) };
    let mut clients = Vec::new();
    for index in 0..3 {
        clients.push(lab.admin(index).await);
    }
    clients[0].post("/v1/packs/register", &json!({"packs": ["durable"]})).await?;
    let mut scene = Scene { lab, clients, journal };

    let mut ids = Vec::new();
    for round in 0..3 {
        for _ in 0..WORKFLOWS / 3 {
            ids.push(scene.begin(&mut random).await);
        }
        let before = scene.starts();
        eventually("tasks run", Duration::from_secs(60), || async { (scene.starts() >= before + 4).then_some(()) })
            .await;
        let victim = random.random_range(0..3);
        println!("round {round}: n{} is killed after {} starts", victim + 1, scene.starts());
        scene.lab.kill(victim);
        let before = scene.starts();
        eventually("the others go on", Duration::from_secs(60), || async { (scene.starts() > before).then_some(()) })
            .await;
        scene.lab.restart(victim).await?;
    }
    for id in &ids {
        let ended = scene.clients[0].finished(id, SETTLE).await;
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
        assert_eq!(ended["result"]["output"], json!({"left": ITEMS, "right": 1, "below": 7}), "{id}");
        scene.holds(id).await?;
    }
    let starts = e2e::lab::checks::attempts_started_once(&scene.journal)?;
    println!("{} workflows, {starts} local actions, each started once", ids.len());
    Ok(())
}
