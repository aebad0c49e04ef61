//! Workflows on the real node: the examples, and what people do to workflows under way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Api, Node, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// A node, its API, and a place for the files that workflows wait for.
struct Bed {
    node: Node,
    api: Api,
    dir: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Result<Self> {
        let node = Node::start().await?;
        let api = node.admin().await?;
        Ok(Self { node, api, dir: tempfile::tempdir()? })
    }

    /// A file that exists.
    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    async fn ends(&self, action: &str, parameters: Value) -> Result<Value> {
        let id = self.api.run(action, parameters).await?;
        Ok(self.api.finished(&id, LONG).await)
    }

    /// Begins a workflow that waits for a file to vanish.
    async fn begins(&self, action: &str, file: &Path) -> Result<String> {
        let known = self.api.get(&format!("/v1/actions/{action}")).await?;
        let mut parameters = json!({"tempfile": path(file)});
        if known["parameters"].get("message").is_some() {
            parameters["message"] = json!("hello");
        }
        self.api.run(action, parameters).await
    }

    async fn get(&self, id: &str) -> Value {
        self.api.get(&format!("/v1/executions/{id}")).await.unwrap_or_default()
    }

    async fn becomes(&self, id: &str, status: &str) -> Value {
        eventually(&format!("execution {id} becomes {status}"), LONG, || async {
            Some(self.get(id).await).filter(|execution| execution["status"] == status)
        })
        .await
    }

    async fn set(&self, id: &str, status: &str) -> Result<()> {
        let body = json!({ "status": status });
        let reply = self.api.call(Method::PUT, &format!("/v1/executions/{id}"), Some(&body)).await?;
        anyhow::ensure!(reply.status == 200, "{}", reply.text);
        Ok(())
    }

    /// In the order in which they were begun.
    async fn children(&self, id: &str) -> Result<Vec<Value>> {
        let list = self.api.get(&format!("/v1/executions/{id}/children")).await?;
        Ok(list.as_array().context("a list")?.clone())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Action, parameters, status, and what stands at a place of the result.
type Example = (&'static str, Value, &'static str, &'static str, Value);

fn examples() -> Vec<Example> {
    let failed = "Execution failed. See result for details.";
    vec![
        ("orquesta-sequential", json!({}), "succeeded", "/output/greeting", json!("Lakshmi, how do you do?")),
        ("orquesta-join", json!({}), "succeeded", "/output/messages", json!(["left", "right", "left and right"])),
        ("orquesta-subworkflow", json!({}), "succeeded", "/output/greeting", json!("Stanley, how do you do?")),
        ("orquesta-st2kv-default", json!({"key_name": "k"}), "succeeded", "/output/value_from_yaql", Value::Null),
        ("orquesta-task-retry", json!({}), "succeeded", "/errors", Value::Null),
        ("orquesta-delay", json!({"delay": 1}), "succeeded", "/errors", Value::Null),
        ("orquesta-rollback-retry", json!({}), "succeeded", "/errors", Value::Null),
        ("orquesta-test-action-less-tasks", json!({}), "succeeded", "/errors", Value::Null),
        ("orquesta-output-on-error", json!({}), "failed", "/errors/0/message", json!(failed)),
        ("orquesta-remediate-then-fail", json!({}), "failed", "/errors/0/message", json!(failed)),
        ("orquesta-fail-inspection", json!({}), "failed", "/errors/1/schema_path", json!("properties.output")),
        ("chain-sequential", json!({}), "succeeded", "/tasks/0/state", json!("succeeded")),
        ("echochain-param", json!({"input1": "5"}), "succeeded", "/tasks/0/state", json!("succeeded")),
        ("echochain_task_failure", json!({}), "failed", "/tasks/1/state", json!("failed")),
        ("echochain_top_level_failure", json!({}), "failed", "/tasks", json!([])),
        ("data_jinja_filter", json!({}), "succeeded", "/error", Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run() -> Result<()> {
    let bed = Bed::new().await?;
    for (action, parameters, status, place, expected) in examples() {
        let execution = bed.ends(&format!("examples.{action}"), parameters).await?;
        let result = &execution["result"];
        assert_eq!(execution["status"], status, "{action}: {result:#}");
        assert_eq!(result.pointer(place).unwrap_or(&Value::Null), &expected, "{action}: {result:#}");
    }
    let greetings = ["Lakshmi", "Lindsay", "Tomaz"].map(|name| format!("{name}, resistance is futile!"));
    let items = bed.ends("examples.orquesta-with-items", json!({})).await?;
    assert_eq!(items["result"]["output"]["items"], json!(greetings));
    let children = bed.children(&text(&items["id"])).await?;
    assert_eq!(children.len(), 3);
    for child in &children {
        assert_eq!(child["parent"], items["id"]);
        assert_eq!(child["context"]["parent"]["execution_id"], items["id"]);
        assert!(child["context"]["orquesta"]["item_id"].is_number(), "{child:#}");
    }
    let missing = bed.ends("examples.orquesta-st2kv", json!({"key_name": "k", "decrypt": false})).await?;
    assert_eq!(missing["status"], "failed");
    bed.api
        .call(Method::PUT, "/v1/keys/k", Some(&json!({"name": "k", "value": "v", "user": "st2admin", "scope": "user"})))
        .await?;
    let found = bed.ends("examples.orquesta-st2kv", json!({"key_name": "k", "decrypt": false})).await?;
    assert_eq!(found["result"]["output"]["value_from_yaql"], "v", "{found:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_can_be_looked_at() -> Result<()> {
    let bed = Bed::new().await?;
    let ended = bed.ends("examples.orquesta-subworkflow", json!({})).await?;
    let id = text(&ended["id"]);
    let picture = bed.api.get(&format!("/v1/executions/{id}/workflow")).await?;
    assert_eq!((&picture["execution"], &picture["status"]), (&ended["id"], &json!("succeeded")));
    assert_eq!(picture["graph"]["starts"], json!(["prepare"]));
    let edge = &picture["graph"]["edges"][0];
    assert_eq!(
        (&edge["from"], &edge["to"], &edge["when"]),
        (&json!("prepare"), &json!("child"), &json!("<% succeeded() %>"))
    );
    let tasks = picture["tasks"].as_array().context("tasks")?;
    let child = tasks.iter().find(|task| task["task"] == "child").context("the task `child`")?;
    assert!(text(&child["started"]) <= text(&child["ended"]) && child["started"].is_string(), "{child:#}");
    // The tree of tasks, with times, as people see it.
    let shown = std::process::Command::new(e2e::binary("st2"))
        .args(["execution", "get", &id])
        .env("ST2_API_URL", format!("{}/api/v1", bed.node.base))
        .env("ST2_AUTH_TOKEN", &bed.api.token)
        .output()?;
    let shown = String::from_utf8(shown.stdout)?;
    for row in ["prepare", "| + ", "child", "greet", "elapsed", "start_timestamp"] {
        assert!(shown.contains(row), "{row} is missing:\n{shown}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_pause_and_go_on() -> Result<()> {
    let bed = Bed::new().await?;
    for action in ["examples.orquesta-test-pause-resume", "examples.chain-test-pause-resume"] {
        let file = bed.file("wait", "")?;
        let id = bed.begins(action, &file).await?;
        eventually("its first task runs", LONG, || async {
            let children = bed.children(&id).await.ok()?;
            children.iter().any(|child| child["status"] == "running").then_some(())
        })
        .await;
        bed.set(&id, "paused").await?;
        assert_eq!(bed.get(&id).await["status"], "pausing", "its task still runs");
        std::fs::remove_file(&file)?;
        bed.becomes(&id, "paused").await;
        let before = bed.children(&id).await?.len();
        assert_eq!(before, 1, "nothing is launched while it is paused");
        bed.set(&id, "resuming").await?;
        let ended = bed.becomes(&id, "succeeded").await;
        assert_eq!(ended["context"]["paused_by"], "st2admin");
        assert!(bed.children(&id).await?.len() > before);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_and_cancellations_reach_workflows_below() -> Result<()> {
    let bed = Bed::new().await?;
    for action in ["examples.orquesta-test-pause-subworkflow", "examples.chain-test-pause-resume-with-subworkflow"] {
        let file = bed.file("wait", "")?;
        let id = bed.begins(action, &file).await?;
        let below = below(&bed, &id).await;
        bed.set(&id, "paused").await?;
        eventually("the workflow below is asked too", LONG, || async {
            (bed.get(&below).await["status"] == "pausing").then_some(())
        })
        .await;
        std::fs::remove_file(&file)?;
        bed.becomes(&below, "paused").await;
        bed.becomes(&id, "paused").await;
        bed.set(&id, "resuming").await?;
        bed.becomes(&id, "succeeded").await;
        assert_eq!(bed.get(&below).await["status"], "succeeded");
    }
    for action in ["examples.orquesta-test-cancel-subworkflow", "examples.chain-test-cancel-with-subworkflow"] {
        let file = bed.file("wait", "")?;
        let id = bed.begins(action, &file).await?;
        let below = below(&bed, &id).await;
        let reply = bed.api.call(Method::DELETE, &format!("/v1/executions/{id}"), None).await?;
        assert_eq!(reply.json["status"], "canceling", "{action}: {}", reply.text);
        std::fs::remove_file(&file)?;
        bed.becomes(&id, "canceled").await;
        assert_eq!(bed.get(&below).await["status"], "canceled");
    }
    Ok(())
}

/// An execution runs a moment before its workflow has begun: what is asked in between is heard too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_before_the_begin_is_heard() -> Result<()> {
    let bed = Bed::new().await?;
    for action in ["examples.orquesta-test-pause-resume", "examples.chain-test-pause-resume"] {
        for _ in 0..20 {
            let file = bed.file("wait", "")?;
            let id = bed.begins(action, &file).await?;
            eventually("a pause is taken", LONG, || async { bed.set(&id, "paused").await.ok() }).await;
            std::fs::remove_file(&file)?;
            bed.becomes(&id, "paused").await;
            bed.set(&id, "resuming").await?;
            bed.becomes(&id, "succeeded").await;
        }
    }
    Ok(())
}

/// The workflow that a task of a workflow runs, once a task of that runs.
async fn below(bed: &Bed, id: &str) -> String {
    eventually("the workflow below runs", LONG, || async {
        let children = bed.children(id).await.ok()?;
        let below = children.iter().find(|child| child["action_is_workflow"] == true || is_workflow(child))?;
        let below = text(&below["id"]);
        let running = bed.children(&below).await.ok()?;
        running.iter().any(|child| child["status"] == "running").then_some(below)
    })
    .await
}

fn is_workflow(execution: &Value) -> bool {
    ["orquesta", "action-chain"].iter().any(|runner| execution["runner"]["name"] == *runner)
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_tasks_run_again_in_the_same_workflow() -> Result<()> {
    let bed = Bed::new().await?;
    let file = bed.file("verdict", "1")?;
    let parameters = json!({"tempfile": path(&file)});
    // Children of the execution that runs it again: only what had failed, and what follows; all items if reset.
    let cases = [
        ("orquesta-test-rerun", json!({"tasks": ["check"]}), 2),
        ("orquesta-test-rerun-with-items", json!({"tasks": ["check"]}), 2),
        ("orquesta-test-rerun-with-items", json!({"tasks": ["check"], "reset": ["check"]}), 4),
    ];
    for (action, body, expected) in cases {
        std::fs::write(&file, "1")?;
        let failed = bed.ends(&format!("examples.{action}"), parameters.clone()).await?;
        assert_eq!(failed["status"], "failed");
        let id = text(&failed["id"]);
        let again = async |id: &str| {
            let rerun = bed.api.post(&format!("/v1/executions/{id}/re_run"), &body).await?;
            anyhow::Ok(bed.api.finished(&text(&rerun["id"]), LONG).await)
        };
        let still = again(&id).await?;
        assert_eq!(still["context"]["re-run"]["ref"], id);
        assert_eq!(still["status"], "failed", "{still:#}");
        std::fs::write(&file, "0")?;
        // Also from an execution that was a re-run itself.
        let ended = again(&text(&still["id"])).await?;
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
        assert_eq!(bed.children(&text(&ended["id"])).await?.len(), expected, "{action} {body}");
        let refused = bed.api.post(&format!("/v1/executions/{id}/re_run"), &json!({"tasks": ["nope"]})).await?;
        let refused = bed.api.finished(&text(&refused["id"]), LONG).await;
        let message = text(&refused["result"]["errors"][0]["message"]);
        assert!(message.contains("Unable to rerun task|route(s) because it doesn't exist"), "{refused:#}");
    }
    Ok(())
}

/// A workflow around one of the examples that fail while a file says so.
const AROUND: &str = "version: 1.0
input: [tempfile]
tasks:
  before:
    action: core.noop
    next:
      - when: <% succeeded() %>
        do: sub
  sub:
    action: examples.orquesta-test-rerun-with-items tempfile=<% ctx(tempfile) %>
    next:
      - when: <% succeeded() %>
        do: after
  after:
    action: core.noop
output:
  - by: <% ctx(st2).action_execution_id %>
";

#[tokio::test(flavor = "multi_thread")]
async fn failed_tasks_of_workflows_below_run_again() -> Result<()> {
    let bed = Bed::new().await?;
    let pack = bed.node.data_dir.join("packs/nested");
    std::fs::create_dir_all(pack.join("actions/workflows"))?;
    std::fs::write(
        pack.join("pack.yaml"),
        "name: nested\nref: nested\ndescription: Around\nversion: 1.0.0\nauthor: a\nemail: a@b.cc\n",
    )?;
    std::fs::write(pack.join("actions/workflows/around.yaml"), AROUND)?;
    std::fs::write(
        pack.join("actions/around.yaml"),
        "name: around\nrunner_type: orquesta\nentry_point: workflows/around.yaml\n\
         parameters: {tempfile: {type: string, required: true}}\n",
    )?;
    bed.api.post("/v1/packs/register", &json!({"packs": ["nested"], "types": ["actions"]})).await?;
    let file = bed.file("verdict", "1")?;
    // Executions of the workflow below: the item that failed and what follows, or all items and what follows.
    for (reset, expected) in [(json!([]), 2), (json!(["sub.check"]), 4)] {
        std::fs::write(&file, "1")?;
        let failed = bed.ends("nested.around", json!({"tempfile": path(&file)})).await?;
        assert_eq!(failed["status"], "failed", "{failed:#}");
        std::fs::write(&file, "0")?;
        let body = json!({"tasks": ["sub.check"], "reset": reset});
        let rerun = bed.api.post(&format!("/v1/executions/{}/re_run", text(&failed["id"])), &body).await?;
        let ended = bed.api.finished(&text(&rerun["id"]), LONG).await;
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
        assert_eq!(ended["result"]["output"]["by"], rerun["id"], "expressions see the execution that runs it again");
        let all = bed.children(&text(&ended["id"])).await?;
        let own: Vec<_> = all.iter().filter(|child| child["parent"] == ended["id"]).collect();
        assert_eq!(own.len(), 2, "the workflow below and what follows it: {own:#?}");
        let sub = own.iter().find(|child| is_workflow(child)).context("the workflow below")?;
        assert_eq!(sub["context"]["re-run"]["tasks"], json!(["check"]));
        assert_eq!(all.iter().filter(|child| child["parent"] == sub["id"]).count(), expected);
        let path = format!("/v1/executions/{}/re_run", text(&failed["id"]));
        let refused = bed.api.post(&path, &json!({"tasks": ["before.nothing"]})).await?;
        let refused = bed.api.finished(&text(&refused["id"]), LONG).await;
        assert!(text(&refused["result"]["errors"][0]["message"]).contains("ran no workflow"), "{refused:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_goes_on_where_it_was() -> Result<()> {
    let mut bed = Bed::new().await?;
    let journal = bed.dir.path().join("journal");
    let pack = bed.node.data_dir.join("packs/durable/actions");
    std::fs::create_dir_all(&pack)?;
    std::fs::write(
        pack.join("../pack.yaml"),
        "ref: durable\nname: durable\ndescription: d\nversion: 0.1.0\nauthor: a\nemail: a@example.org\n",
    )?;
    std::fs::write(
        pack.join("note.yaml"),
        format!(
            "name: note\nrunner_type: local-shell-cmd\nparameters:\n  what: {{type: string, required: true}}\n  \
             cmd: {{immutable: true, default: 'echo {{{{ what }}}} >> {}'}}\n",
            journal.display()
        ),
    )?;
    let flow = "name: flow\nrunner_type: orquesta\nentry_point: workflows/flow.yaml\n";
    std::fs::write(pack.join("flow.yaml"), flow)?;
    let definition = "version: 1.0
tasks:
  a: {action: core.noop, next: [{do: items}]}
  items:
    with: {items: <% range(20) %>, concurrency: 4}
    action: durable.note
    input: {what: <% str(item()) %>}
    retry: {count: 20}
    next: [{when: <% succeeded() %>, publish: [done: <% result().len() %>], do: last}]
  last: {action: core.noop}
output: [done: <% ctx(done) %>]
";
    std::fs::create_dir_all(pack.join("workflows"))?;
    std::fs::write(pack.join("workflows/flow.yaml"), definition)?;
    bed.api.post("/v1/packs/register", &json!({"packs": ["durable"]})).await?;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bed.api.run("durable.flow", json!({})).await?);
    }
    for round in 0..4_u64 {
        let lines = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count() as u64);
        eventually("it goes on", LONG, || async { (lines() >= round * 15).then_some(()) }).await;
        bed.node.kill();
        bed.node.restart().await?;
        bed.api.base.clone_from(&bed.node.base);
    }
    for id in ids {
        let ended = bed.api.finished(&id, LONG).await;
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
        assert_eq!(ended["result"]["output"]["done"], 20);
        // Each item once, and again only where a kill had ended an attempt.
        let children = bed.api.get(&format!("/v1/executions?parent={id}&limit=500")).await?;
        let children = children.as_array().context("a list")?.clone();
        for item in 0..20 {
            let of_item: Vec<_> =
                children.iter().filter(|child| child["context"]["orquesta"]["item_id"] == json!(item)).collect();
            let succeeded = of_item.iter().filter(|child| child["status"] == "succeeded").count();
            let ended_by_kill = of_item.iter().filter(|child| child["status"] == "abandoned").count();
            assert!(succeeded >= 1 && succeeded + ended_by_kill == of_item.len(), "{item}: {of_item:#?}");
        }
    }
    Ok(())
}
