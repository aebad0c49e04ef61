//! What expressions see of tasks: `task_status()`, `task()` (spec/orquesta.md §9, §25).

use serde_json::{Value, json};

use super::super::expression::{CurrentTask, Expressions, Failure, Scope, Tasks};
use super::super::state::TaskState;
use super::super::status::Status;
use super::Conductor;

impl Conductor {
    /// The latest instance of a task in a route, or in the nearest route before it that leads here.
    pub fn find_task(&self, task: &str, route: u32) -> Option<(u32, &TaskState)> {
        let node = self.program.graph.node_of(task)?;
        let found = self.index.latest((node, route)).or_else(|| {
            let here = self.state.routes.get(route as usize)?;
            let before = self.index.routes_before(node, route).find(|before| {
                let details = self.state.routes.get(*before as usize);
                details.is_some_and(|details| details.iter().all(|detail| here.contains(detail)))
            });
            self.index.latest((node, before?))
        })?;
        Some((found, self.state.tasks.get(found as usize)?))
    }

    /// The result as `task().result` shows it: of a with-items task, with statuses.
    pub fn shown_result(&self, task: &TaskState) -> Value {
        let result = task.result.as_deref();
        match (&task.items, result) {
            (Some(statuses), Some(Value::Array(results))) => {
                let items: Vec<Value> = statuses
                    .iter()
                    .zip(results)
                    .map(|(status, result)| match status {
                        Status::Unset => Value::Null,
                        status => json!({ "status": status, "result": result }),
                    })
                    .collect();
                json!({ "items": items })
            }
            (_, result) => result.cloned().unwrap_or_default(),
        }
    }
}

impl Tasks for Conductor {
    fn status(&self, task: &str, route: u32) -> Status {
        self.find_task(task, route).map_or(Status::Unset, |(_, task)| task.status)
    }

    fn record(&self, task: &str, route: u32) -> Option<Value> {
        let (seq, task) = self.find_task(task, route)?;
        Some(json!({
            "seq": seq,
            "task_name": task.id,
            "task_id": task.id,
            "route": task.route,
            "result": self.shown_result(task),
            "status": task.status,
            "start_timestamp": task.started.map(|at| at.to_string()),
            "end_timestamp": task.ended.map(|at| at.to_string()),
        }))
    }
}

/// A scope of one task.
pub(super) fn scope<'a>(
    conductor: &'a Conductor,
    ctx: &'a model::resource::Object,
    task: &'a str,
    route: u32,
    result: Option<&'a Value>,
) -> Scope<'a> {
    Scope { ctx, task: Some(CurrentTask { id: task, route, result }), item: None, tasks: conductor }
}

/// Evaluates a text.
pub(super) fn text(expressions: &dyn Expressions, text: &str, scope: &Scope<'_>) -> Result<Value, Failure> {
    expressions.evaluate(&Value::String(text.to_owned()), scope)
}
