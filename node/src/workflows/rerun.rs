//! Running a completed workflow again from some of its tasks (spec/orquesta.md §19).

use std::collections::BTreeSet;

use model::{Execution, Id, Status};
use runners::runner::{Ending, Failure};
use serde_json::{Value, json};
use store::StoreExt;
use workflow::TaskQuery;
use workflow::engine::message::{self, Again};

use super::Workflows;
use super::runner::workflow_of;

/// Task instances read at once.
const PAGE: u32 = 1_000;
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

impl Workflows {
    /// Hands the workflow of the original execution to this one.
    pub(super) async fn rerun(&self, execution: &Execution, rerun: Rerun) -> Result<Ending, Failure> {
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
        let mut again = Vec::new();
        for task in &rerun.tasks {
            let reset_items = rerun.reset.contains(task);
            let routes = self.routes(workflow, task).await.map_err(|error| trouble(&error))?;
            again.extend(routes.into_iter().map(|route| Again { task: task.clone(), route, reset_items }));
        }
        let message = message::rerun(execution.id, Some(again), self.services.now());
        self.engine.deliver(workflow, &[message]).await.map_err(|error| trouble(&error))?;
        Ok(Ending::new(Status::Running, Value::Null))
    }

    /// The workflow that an execution stands for, or stood for before it was run again.
    async fn workflow_behind(&self, execution: Id) -> Result<Option<Id>, Failure> {
        let mut id = execution;
        for _ in 0..GENERATIONS {
            let found =
                self.services.store.read::<Execution>(id).await.map_err(|error| Failure::new(error.to_string()))?;
            let Some(found) = found else { return Ok(None) };
            match Rerun::of(&found) {
                Some(rerun) => id = rerun.original,
                None => return Ok(Some(workflow_of(&found))),
            }
        }
        Ok(None)
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
