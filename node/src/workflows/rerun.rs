//! Running a completed workflow again from some of its tasks (spec/orquesta.md §19).

use std::collections::{BTreeMap, BTreeSet};

use domain::executions;
use model::{Execution, Id, Status, Versioned};
use runners::runner::{Ending, Failure, Run};
use serde_json::{Value, json};
use store::{Order, Query, StoreExt};
use workflow::TaskQuery;
use workflow::engine::message::{self, Again, Below};

use super::Workflows;
use super::runner::context_of;

/// Task instances read at once.
const PAGE: u32 = 1_000;
/// Executions of one workflow that are looked at.
const CHILDREN: u64 = 20_000;
/// A re-run of a re-run of …: no more than so many are followed.
const GENERATIONS: usize = 1_000;

/// What the context of an execution says under `re-run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rerun {
    pub original: Id,
    pub tasks: Vec<String>,
    /// Those whose items all run again.
    pub reset: Vec<String>,
}

impl Rerun {
    /// None unless it names tasks: then the workflow begins anew.
    pub fn of(execution: &Execution) -> Option<Self> {
        let link = execution.context.get("re-run")?;
        let texts = |key: &str| -> Vec<String> {
            let texts = link.get(key).and_then(Value::as_array).into_iter().flatten();
            texts.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (tasks, reset) = (texts("tasks"), texts("reset"));
        let original = link.get("ref").and_then(Value::as_str)?.parse().ok()?;
        (!tasks.is_empty()).then_some(Self { original, tasks, reset })
    }
}

/// Tasks of workflows below a task.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    tasks: Vec<String>,
    reset: Vec<String>,
}

/// What is to be run again, by where it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    here: Vec<String>,
    /// By the task whose workflow has them.
    below: BTreeMap<String, Wanted>,
}

impl Asked {
    /// `deploy.check` is the task `check` of the workflow that the task `deploy` ran. Names of tasks have no dots.
    fn of(rerun: &Rerun) -> Self {
        let mut asked = Self::default();
        for name in &rerun.tasks {
            match name.split_once('.') {
                None => asked.here.push(name.clone()),
                Some((task, rest)) => {
                    let wanted = asked.below.entry(task.to_owned()).or_default();
                    wanted.tasks.push(rest.to_owned());
                    if rerun.reset.contains(name) {
                        wanted.reset.push(rest.to_owned());
                    }
                }
            }
        }
        // A task that runs again as a whole runs all of its workflow.
        asked.below.retain(|task, _| !asked.here.contains(task));
        asked
    }
}

impl Workflows {
    /// Hands the workflow of the original execution to that of `run`.
    pub(super) async fn rerun(&self, run: &Run<'_>, rerun: Rerun) -> Result<Ending, Failure> {
        let execution = run.execution;
        let trouble = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
        let refused =
            |text: &str| Ok(Ending::new(Status::Failed, json!({"output": null, "errors": [{"message": text}]})));
        let Some(workflow) = self.workflow_behind(rerun.original).await? else {
            return refused("The execution that is to be run again is gone.");
        };
        let Some(head) = self.state.head(workflow).await.map_err(|error| trouble(&error))? else {
            return refused("The workflow that is to be run again is gone.");
        };
        if head.finished.is_none() && head.execution != execution.id {
            return refused(
                "WorkflowIsActiveAndNotRerunableError: Unable to rerun workflow because it is not in a completed state.",
            );
        }
        executions::update(&self.services, execution.id, |execution, _| {
            execution.context.insert("workflow_execution".to_owned(), json!(workflow));
            Ok(true)
        })
        .await?;
        let asked = Asked::of(&rerun);
        let mut tasks = Vec::new();
        for task in asked.here.iter().chain(asked.below.keys()) {
            let reset_items = rerun.reset.contains(task);
            let routes = self.routes(workflow, task).await.map_err(|error| trouble(&error))?;
            tasks.extend(routes.into_iter().map(|route| Again { task: task.clone(), route, reset_items }));
        }
        let mut below = Vec::new();
        for (task, wanted) in &asked.below {
            match self.below(rerun.original, task, wanted).await? {
                found if found.is_empty() => {
                    return refused(&format!("The task \"{task}\" ran no workflow that could be run again in part."));
                }
                found => below.extend(found),
            }
        }
        let order = message::Rerun { tasks: Some(tasks), below, context: context_of(run, workflow) };
        let message = message::rerun(execution.id, order, self.services.now());
        self.engine.deliver(workflow, &[message]).await.map_err(|error| trouble(&error))?;
        Ok(Ending::new(Status::Running, Value::Null))
    }

    /// Where the workflows that a task ran go on: the last one of each route and item.
    async fn below(&self, original: Id, task: &str, wanted: &Wanted) -> Result<Vec<Below>, Failure> {
        let mut found: BTreeMap<(u32, Option<u32>), Below> = BTreeMap::new();
        for parent in self.generations(original).await? {
            for child in self.children_of_task(parent.id, task).await? {
                let number = |key: &str| {
                    let number = child.context.get("orquesta").and_then(|link| link.get(key)).and_then(Value::as_u64);
                    number.and_then(|number| u32::try_from(number).ok())
                };
                let place = (number("task_route").unwrap_or(0), number("item_id"));
                if child.runner_type == "orquesta" {
                    let link = json!({"ref": child.id, "tasks": wanted.tasks, "reset": wanted.reset});
                    found.entry(place).or_insert_with(|| Below {
                        task: task.to_owned(),
                        route: place.0,
                        item: place.1,
                        link,
                    });
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// What a task of a workflow launched, the last one first.
    async fn children_of_task(&self, parent: Id, task: &str) -> Result<Vec<Versioned<Execution>>, Failure> {
        let find = Query::eq("parent", parent).order(Order::Desc("start_timestamp")).limit(CHILDREN);
        let store = &self.services.store;
        let mut children = store.search::<Execution>(&find).await.map_err(|error| Failure::new(error.to_string()))?;
        children.retain(|child| {
            let link = child.context.get("orquesta");
            link.and_then(|link| link.get("task_name")).and_then(Value::as_str) == Some(task)
        });
        Ok(children)
    }

    /// The workflow that an execution stands for, or stood for before it was run again.
    async fn workflow_behind(&self, execution: Id) -> Result<Option<Id>, Failure> {
        let first = self.generations(execution).await?.pop();
        Ok(first.filter(|first| Rerun::of(first).is_none()).map(|first| first.own_workflow()))
    }

    /// An execution, the one that it ran again, and so on.
    async fn generations(&self, execution: Id) -> Result<Vec<Versioned<Execution>>, Failure> {
        let mut generations = Vec::new();
        let mut next = Some(execution);
        while let Some(id) = next.take().filter(|_| generations.len() < GENERATIONS) {
            let store = &self.services.store;
            let found = store.read::<Execution>(id).await.map_err(|error| Failure::new(error.to_string()))?;
            if let Some(found) = found {
                next = Rerun::of(&found).map(|rerun| rerun.original);
                generations.push(found);
            }
        }
        Ok(generations)
    }

    /// All routes in which a task ran; one that never ran is asked for in the first, which the engine refuses.
    async fn routes(&self, workflow: Id, task: &str) -> Result<BTreeSet<u32>, workflow::StateError> {
        let mut routes = BTreeSet::new();
        let mut query = TaskQuery { task: Some(task.to_owned()), limit: PAGE, ..TaskQuery::default() };
        loop {
            let page = self.state.tasks(workflow, &query).await?;
            let Some(last) = page.last() else { break };
            query.after = Some(last.seq);
            routes.extend(page.iter().map(|task| task.route));
        }
        if routes.is_empty() {
            routes.insert(0);
        }
        Ok(routes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_are_of_workflows_below() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rerun = Rerun {
            original: Id::derive("test", model::Timestamp::from_micros(0), &["x"]),
            tasks: names(&["build", "deploy.check", "deploy.roll.out", "build.twice"]),
            reset: names(&["deploy.roll.out"]),
        };
        let deploy = Wanted { tasks: names(&["check", "roll.out"]), reset: names(&["roll.out"]) };
        let expected = Asked { here: names(&["build"]), below: BTreeMap::from([("deploy".to_owned(), deploy)]) };
        assert_eq!(Asked::of(&rerun), expected);
    }
}
