//! A workflow as people look at it: its graph, and what ran when.

use serde_json::{Value, json};

use super::rows::Loader;
use super::{CHAIN, EngineError};
use crate::chain::{self, Entry};
use crate::limits::MAX_PAGE;
use crate::orquesta::graph::{Graph, Node};
use crate::orquesta::spec::Join;
use crate::orquesta::{Definition, Document};
use crate::port::Reader;
use crate::rows::{Head, TaskQuery};

/// More task instances aren't shown: `truncated` says so.
const MAX_TASKS: usize = 10_000;

/// `{id, engine, execution, status, created, updated, finished, graph: {nodes, edges}, tasks, truncated}`: nodes are
/// tasks and engine commands, `tasks` their instances in the order in which they began, with times.
///
/// # Errors
///
/// If the state doesn't answer, or can't be read.
pub async fn of(state: &dyn Reader, head: &Head) -> Result<Value, EngineError> {
    let loader = Loader { state, workflow: head.id };
    let (graph, tasks, truncated) = if head.engine == CHAIN {
        let begin: Option<chain::Begin> = loader.document("chain").await?;
        let entries: Vec<_> = loader.cells::<Entry>("entry").await?.into_iter().map(|(_, entry)| entry).collect();
        let graph = begin.map(|begin| chain_graph(&begin.definition)).unwrap_or_default();
        (graph, entries.iter().map(chain_task).collect(), false)
    } else {
        let definition: Value = loader.document("definition").await?.unwrap_or_default();
        let document = Document::from_value(definition).map_err(|error| loader.corrupt(error.to_string()))?;
        let definition = Definition::read(&document);
        let (tasks, truncated) = tasks(&loader).await?;
        (graph(&definition), tasks, truncated)
    };
    Ok(json!({
        "id": head.id,
        "engine": head.engine,
        "execution": head.execution,
        "status": head.status,
        "created": head.created,
        "updated": head.updated,
        "finished": head.finished,
        "graph": graph,
        "tasks": tasks,
        "truncated": truncated,
    }))
}

fn graph(definition: &Definition) -> Value {
    let graph = Graph::compose(definition);
    let edges = graph.nodes().iter().flat_map(|node| {
        node.edges.iter().map(|edge| {
            json!({
                "from": node.name,
                "to": graph.get(edge.target).name,
                "transition": edge.transition,
                "when": edge.when,
            })
        })
    });
    let edges: Vec<Value> = edges.collect();
    let starts: Vec<&str> = graph.starts().iter().map(|start| &*graph.get(*start).name).collect();
    let nodes: Vec<Value> = graph.nodes().iter().map(|node| shown(node, definition)).collect();
    json!({"starts": starts, "nodes": nodes, "edges": edges})
}

fn shown(node: &Node, definition: &Definition) -> Value {
    let task = definition.tasks.get(&*node.name);
    let join = node.barrier.map(|join| match join {
        Join::All => json!("all"),
        Join::Count(count) => json!(count),
    });
    json!({
        "name": node.name,
        "kind": if node.command.is_some() { "command" } else { "task" },
        "action": task.and_then(|task| task.action.as_deref()),
        "with_items": task.is_some_and(|task| task.with.is_some()),
        "join": join,
        "split": node.split,
        "cyclic": node.cyclic,
        "retries": node.retry.is_some(),
    })
}

async fn tasks(loader: &Loader<'_>) -> Result<(Vec<Value>, bool), EngineError> {
    let mut shown = Vec::new();
    let mut query = TaskQuery { limit: MAX_PAGE, ..TaskQuery::default() };
    loop {
        let page = loader.state.tasks(loader.workflow, &query).await?;
        let Some(last) = page.last() else { return Ok((shown, false)) };
        query.after = Some(last.seq);
        for task in page {
            if shown.len() == MAX_TASKS {
                return Ok((shown, true));
            }
            let body: Value = serde_json::from_str(&task.body).unwrap_or_default();
            shown.push(json!({
                "id": task.id,
                "seq": task.seq,
                "task": task.task,
                "route": task.route,
                "status": task.status,
                "created": task.created,
                "updated": task.updated,
                "started": body.get("started"),
                "ended": body.get("ended"),
                "before": body.get("prev"),
                "items": body.get("items").and_then(Value::as_array).map(Vec::len),
            }));
        }
    }
}

fn chain_graph(definition: &chain::Definition) -> Value {
    let nodes: Vec<Value> =
        definition.chain.iter().map(|node| json!({"name": node.name, "kind": "task", "action": node.action})).collect();
    let edges = definition.chain.iter().flat_map(|node| {
        [("succeeded", &node.on_success), ("failed", &node.on_failure)].into_iter().filter_map(|(when, target)| {
            let target = target.as_deref().filter(|target| !target.is_empty())?;
            Some(json!({"from": node.name, "to": target, "when": when}))
        })
    });
    let edges: Vec<Value> = edges.collect();
    let starts: Vec<&str> = definition.first().into_iter().collect();
    json!({"starts": starts, "nodes": nodes, "edges": edges})
}

fn chain_task(entry: &Entry) -> Value {
    json!({
        "id": entry.execution,
        "task": entry.name,
        "status": entry.status,
        "started": entry.created,
        "ended": entry.updated,
    })
}
