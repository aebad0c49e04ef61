//! `execution tail` and `run --tail`: the output as it is written (`spec/cli.md` §9).

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::context::{Context, put, say};
use crate::error::{Error, Result};
use crate::executions::UPDATED;
use crate::http::{Event, Events, Query, segment};
use crate::output::{execution, value};

const OUTPUT: &str = "st2.execution.output__create";
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// `execution tail`.
pub async fn run(context: &Context) -> Result<()> {
    let mut id = context.matches.one("id").unwrap_or("last").to_owned();
    if id == "last" {
        let newest = context.client.get("/executions/", &vec![("limit", "1".to_owned())]).await?.list();
        match newest.first().and_then(|document| document.get("id")).and_then(Value::as_str) {
            Some(newest) => newest.clone_into(&mut id),
            None => {
                say("No executions found in db.");
                return Ok(());
            }
        }
    }
    follow(context, &id).await
}

/// Prints an execution's output until it ends, its tasks' included.
pub async fn follow(context: &Context, id: &str) -> Result<()> {
    let kind = context.matches.one("type");
    let query = vec![
        ("end_event", UPDATED.to_owned()),
        ("end_execution_id", id.to_owned()),
        ("events", format!("{UPDATED},{OUTPUT}")),
    ];
    // subscribe first, look second: no piece can fall between the two
    let stream = context.client.events("/stream", &query).await;
    let path = format!("/executions/{}", segment(id));
    let current = match context.client.get(&path, &Query::new()).await {
        Ok(answer) => answer.body,
        Err(error) if error.is_not_found() => {
            return Err(Error::failed(format!("Action execution with id \"{id}\" cannot be found.")));
        }
        Err(error) => return Err(error),
    };
    let status = execution::status(&current);
    if execution::is_completed(status) {
        return finished(context, id, &path, kind, status).await;
    }
    let mut stream = stream?;
    // a plain execution has a stream of its own that begins with what was written before we came
    let mut own = match execution::is_workflow(&current) {
        true => None,
        false => context.client.events(&format!("{path}/output"), &Query::new()).await.ok(),
    };
    let mut follower = Follower::new(id);
    if status == "running" {
        put(&follower.announce(&current));
    }
    let metadata = context.matches.has("include-metadata");
    loop {
        let (event, from_own) = tokio::select! {
            biased;
            event = next(&mut own) => (event?, true),
            event = stream.next() => (event?, false),
        };
        let Some(event) = event else {
            if from_own {
                own = None;
                continue;
            }
            return Ok(());
        };
        let body: Value = serde_json::from_str(&event.data).unwrap_or_default();
        match event.name.as_str() {
            OUTPUT if from_own || own.is_none() => {
                put(&follower.announce_root(from_own));
                put(&follower.output(&body, kind, metadata));
            }
            UPDATED => {
                let (text, done) = follower.update(&body);
                if done {
                    drain(&mut own, &mut follower, kind, metadata).await;
                }
                put(&text);
                if done {
                    return Ok(());
                }
            }
            "EOF" => {
                // from now on the common stream has all there is: nothing but the end
                follower.silent = true;
                own = None;
            }
            _ => {}
        }
    }
}

async fn next(own: &mut Option<Events>) -> Result<Option<Event>> {
    match own {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Prints what an execution wrote last: its end may overtake it.
async fn drain(own: &mut Option<Events>, follower: &mut Follower, kind: Option<&str>, metadata: bool) {
    let rest = async {
        while let Some(events) = own {
            match events.next().await {
                Ok(Some(event)) if event.name == OUTPUT => {
                    put(&follower.output(&serde_json::from_str(&event.data).unwrap_or_default(), kind, metadata));
                }
                Ok(Some(event)) if event.name != "EOF" => {}
                _ => break,
            }
        }
    };
    // the end is told even if the output never ends
    let _ = tokio::time::timeout(DRAIN_DEADLINE, rest).await;
}

fn stored_text(body: &Value) -> String {
    crate::output::python::text(body)
}

async fn finished(context: &Context, id: &str, path: &str, kind: Option<&str>, status: &str) -> Result<()> {
    let query = kind.map(|kind| ("output_type", kind.to_owned())).into_iter().collect();
    let answer = context.client.get(&format!("{path}/output"), &query).await?;
    let text = if answer.body.is_null() { String::new() } else { stored_text(&answer.body) };
    put(&text);
    say(&format!("\nExecution {id} has completed (status={status})."));
    Ok(())
}

/// Which executions belong to the one that is followed, and what was said about them.
struct Follower {
    root: String,
    tree: HashSet<String>,
    announced: HashSet<String>,
    /// Output has been printed from elsewhere.
    silent: bool,
}

impl Follower {
    fn new(root: &str) -> Follower {
        let tree = HashSet::from([root.to_owned()]);
        Follower { root: root.to_owned(), tree, announced: HashSet::new(), silent: false }
    }

    /// Output of the execution itself is a sign that it runs.
    fn announce_root(&mut self, own: bool) -> String {
        if own { self.announce(&serde_json::json!({ "id": self.root })) } else { String::new() }
    }

    fn announce(&mut self, body: &Value) -> String {
        let id = text(body, "id");
        if !self.announced.insert(id.clone()) {
            return String::new();
        }
        if id == self.root {
            return format!("Execution {id} has started.\n\n");
        }
        format!("Child execution (task={}) {id} has started.\n\n", task(body))
    }

    /// What an update says, and whether it was the last.
    fn update(&mut self, body: &Value) -> (String, bool) {
        let id = text(body, "id");
        if id != self.root {
            if !self.tree.contains(&text(body, "parent"))
                && !self.tree.contains(&text(body, "context.parent.execution_id"))
            {
                return (String::new(), false);
            }
            self.tree.insert(id.clone());
        }
        let status = execution::status(body);
        if status == "running" {
            return (self.announce(body), false);
        }
        if !execution::is_completed(status) {
            return (String::new(), false);
        }
        // one that ran between two events has started, too
        let started = self.announce(body);
        if id == self.root {
            return (format!("{started}\nExecution {id} has completed (status={status}).\n"), true);
        }
        (format!("{started}\nChild execution (task={}) {id} has finished (status={status}).\n", task(body)), false)
    }

    fn output(&self, body: &Value, kind: Option<&str>, metadata: bool) -> String {
        let written_to = text(body, "output_type");
        if self.silent
            || !self.tree.contains(&text(body, "execution_id"))
            || kind.is_some_and(|kind| kind != written_to)
        {
            return String::new();
        }
        let data = text(body, "data");
        if metadata { format!("[{}][{written_to}] {data}", text(body, "timestamp")) } else { data }
    }
}

fn text(body: &Value, path: &str) -> String {
    value::at(body, path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The task of a workflow that an execution is.
pub fn task(body: &Value) -> String {
    let names = ["context.orquesta.task_name", "context.chain.name", "context.mistral.task_name"];
    names.iter().map(|path| text(body, path)).find(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_followed_tree_is_told_about() {
        let mut follower = Follower::new("r");
        let child = |id: &str, parent: &str, status: &str| json!({"id": id, "parent": parent, "status": status, "context": {"orquesta": {"task_name": "t"}}});
        assert_eq!(follower.update(&json!({"id": "r", "status": "running"})).0, "Execution r has started.\n\n");
        assert_eq!(follower.update(&child("x", "other", "running")).0, "");
        assert_eq!(follower.update(&child("a", "r", "scheduled")).0, "");
        assert_eq!(follower.update(&child("a", "r", "running")).0, "Child execution (task=t) a has started.\n\n");
        assert_eq!(follower.update(&child("a", "r", "running")).0, "");
        let piece = json!({"execution_id": "a", "output_type": "stdout", "data": "hi\n", "timestamp": "T"});
        assert_eq!(follower.output(&piece, None, true), "[T][stdout] hi\n");
        assert_eq!(follower.output(&piece, Some("stderr"), false), "");
        let end = follower.update(&child("a", "r", "failed"));
        assert_eq!(end, ("\nChild execution (task=t) a has finished (status=failed).\n".to_owned(), false));
        let end = follower.update(&json!({"id": "r", "status": "succeeded"}));
        assert_eq!(end, ("\nExecution r has completed (status=succeeded).\n".to_owned(), true));
    }
}
