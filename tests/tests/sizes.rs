//! Large workflows: results, contexts, graphs and items at the sizes that are promised, and what happens beyond them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use e2e::{Api, Node};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(400);
/// A node may hold that much memory at any time, however large what it works on is.
const MAX_RESIDENT: u64 = 2 << 30;
const TASKS: usize = 5_000;
const ITEMS: usize = 10_000;

const TEXT: &str = "from st2common.runners.base_action import Action


class Text(Action):
    def run(self, megabytes, listed=False):
        text = 'x' * (megabytes * 1000000)
        return [text[begin:begin + 100] for begin in range(0, len(text), 100)] if listed else text
";

const LARGE_RESULT: &str = "version: 1.0
input: [megabytes]
vars:
  - size: 0
tasks:
  make:
    action: large.text megabytes=<% ctx(megabytes) %>
    next:
      - when: <% succeeded() %>
        publish: size=<% result().result.len() %>
        do: after
  after:
    action: core.noop
output:
  - size: <% ctx(size) %>
";

const LARGE_CONTEXT: &str = "version: 1.0
vars:
  - lines: []
  - copies: []
tasks:
  make:
    action: large.text megabytes=20 listed=true
    next:
      - when: <% succeeded() %>
        publish:
          - lines: <% result().result %>
        do: left, right
  left:
    action: core.noop
    next:
      - publish: one=<% ctx(lines).len() %>
        do: both
  right:
    action: core.noop
    next:
      - publish: two=<% ctx(lines)[0].len() %>
        do: both
  both:
    join: all
    action: core.echo message=\"<% ctx(one) %> lines of <% ctx(two) %>\"
    next:
      - publish: said=<% result().stdout %>
output:
  - said: <% ctx(said) %>
";

const MANY_ITEMS: &str = "version: 1.0
input: [count]
tasks:
  all:
    with: <% range(ctx(count)) %>
    action: core.noop
    next:
      - publish: done=<% result().len() %>
output:
  - done: <% ctx(done) %>
";

/// `TASKS` tasks: a fork into fifty branches, which meet again.
fn large_graph() -> String {
    let (branches, length) = (50, (TASKS - 2) / 50);
    let first: Vec<String> = (0..branches).map(|branch| format!("b{branch}_0")).collect();
    let mut text = format!("version: 1.0\ntasks:\n  begin:\n    next:\n      - do: {}\n", first.join(", "));
    for branch in 0..branches {
        for place in 0..length {
            let next = if place + 1 < length { format!("b{branch}_{}", place + 1) } else { "end".to_owned() };
            // Some of them run something.
            let action = if place == 0 { "    action: core.noop\n" } else { "" };
            let _ = write!(text, "  b{branch}_{place}:\n{action}    next:\n      - do: {next}\n");
        }
    }
    text += "  end:\n    join: all\n    action: core.noop\n    next:\n      - publish:\n          - reached: 'yes'\n";
    text + "output:\n  - reached: <% ctx(reached) %>\n"
}

fn write_pack(packs: &Path) -> Result<()> {
    let pack = packs.join("large");
    std::fs::create_dir_all(pack.join("actions/workflows"))?;
    std::fs::write(
        pack.join("pack.yaml"),
        "name: large\nref: large\ndescription: Large things\nversion: 1.0.0\nauthor: Squall\nemail: squall@example.com\n",
    )?;
    std::fs::write(pack.join("actions/text.py"), TEXT)?;
    let text_parameters = "{megabytes: {type: integer}, listed: {type: boolean, default: false}}";
    std::fs::write(
        pack.join("actions/text.yaml"),
        format!("name: text\nrunner_type: python-script\nentry_point: text.py\nparameters: {text_parameters}\n"),
    )?;
    let workflows = [
        ("result", LARGE_RESULT.to_owned(), "{megabytes: {type: integer}}"),
        ("context", LARGE_CONTEXT.to_owned(), "{}"),
        ("graph", large_graph(), "{}"),
        ("items", MANY_ITEMS.to_owned(), "{count: {type: integer}}"),
    ];
    for (name, text, parameters) in workflows {
        std::fs::write(pack.join(format!("actions/workflows/{name}.yaml")), text)?;
        let entry = format!("workflows/{name}.yaml");
        std::fs::write(
            pack.join(format!("actions/{name}.yaml")),
            format!("name: {name}\nrunner_type: orquesta\nentry_point: {entry}\nparameters: {parameters}\n"),
        )?;
    }
    Ok(())
}

async fn bed() -> Result<(Node, Api)> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    write_pack(&node.data_dir.join("packs"))?;
    api.post("/v1/packs/register", &json!({"packs": ["large"], "types": ["actions"]})).await?;
    Ok((node, api))
}

async fn ends(api: &Api, action: &str, parameters: Value) -> Result<Value> {
    let id = api.run(action, parameters).await?;
    Ok(api.finished(&id, LONG).await)
}

/// The most that it ever held, in bytes.
fn peak(node: &Node) -> u64 {
    let status = node.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
    let line = status.as_deref().and_then(|text| text.lines().find(|line| line.starts_with("VmHWM:")));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(u64::MAX / 1024) * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_100_mb_is_handled_or_refused_by_name() -> Result<()> {
    let (node, api) = bed().await?;
    let small = ends(&api, "large.result", json!({"megabytes": 10})).await?;
    assert_eq!((&small["status"], &small["result"]["output"]), (&json!("succeeded"), &json!({"size": 10_000_000})));
    let large = ends(&api, "large.result", json!({"megabytes": 100})).await?;
    eprintln!("a result of 100 MB: {} {}; at most {} MB", large["status"], large["result"], peak(&node) >> 20);
    let handled = large["result"]["output"] == json!({"size": 100_000_000});
    let refused = large["result"].to_string().contains("limit");
    assert!(handled || (large["status"] == "failed" && refused), "{large}");
    assert!(peak(&node) < MAX_RESIDENT, "the node held {} MB", peak(&node) >> 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_of_20_mb_goes_through_forks_and_joins() -> Result<()> {
    let (node, api) = bed().await?;
    let ended = ends(&api, "large.context", json!({})).await?;
    eprintln!("a context of 20 MB: {}; at most {} MB", ended["status"], peak(&node) >> 20);
    assert_eq!(ended["result"]["output"], json!({"said": "200000 lines of 100"}), "{}", ended["status"]);
    assert!(peak(&node) < MAX_RESIDENT, "the node held {} MB", peak(&node) >> 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn graphs_of_5_000_tasks_and_10_000_items() -> Result<()> {
    let (node, api) = bed().await?;
    let ended = ends(&api, "large.graph", json!({})).await?;
    eprintln!("a graph of {TASKS} tasks: {}; at most {} MB", ended["status"], peak(&node) >> 20);
    assert_eq!(ended["result"]["output"], json!({"reached": "yes"}), "{}", ended["result"]);
    let ended = ends(&api, "large.items", json!({"count": ITEMS})).await?;
    eprintln!("{ITEMS} items: {}; at most {} MB", ended["status"], peak(&node) >> 20);
    assert_eq!(ended["result"]["output"], json!({"done": ITEMS}), "{}", ended["status"]);
    assert!(peak(&node) < MAX_RESIDENT, "the node held {} MB", peak(&node) >> 20);
    Ok(())
}
