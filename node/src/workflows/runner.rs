//! The runner of `orquesta`: reads and inspects a definition, begins the workflow, and lets go of the execution
//! (spec/orquesta.md §22, §23).

use std::sync::Arc;

use async_trait::async_trait;
use model::{Id, Object, Status};
use runners::runner::{Ending, Failure, Run, Runner};
use serde_json::{Value, json};
use workflow::engine::Begin;
use workflow::orquesta::Document;

use super::Workflows;
use super::inspect::faults;
use super::rerun::Rerun;

#[derive(Debug)]
pub struct Orquesta {
    workflows: Arc<Workflows>,
}

impl Orquesta {
    pub const fn new(workflows: Arc<Workflows>) -> Self {
        Self { workflows }
    }
}

fn refused(errors: &Value) -> Ending {
    Ending::new(Status::Failed, json!({"errors": errors, "output": null}))
}

#[async_trait]
impl Runner for Orquesta {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        if let Some(rerun) = Rerun::of(run.execution) {
            return self.workflows.rerun(run, rerun).await;
        }
        let file = run.entry_file(&run.pack_directory().await?)?;
        let text = tokio::fs::read_to_string(&file)
            .await
            .map_err(|error| Failure::new(format!("The definition {} can't be read: {error}", file.display())))?;
        let document = match Document::load(&text) {
            Ok(document) => document,
            Err(error) => return Ok(refused(&json!([{"message": error.to_string()}]))),
        };
        let found = faults(run.services, &document).await?;
        if !found.is_empty() {
            return Ok(refused(&json!(found)));
        }
        let unknown = unknown_tasks(&document, run.parameters.runner.get("notify"));
        if !unknown.is_empty() {
            let message = format!(
                "The following tasks in the notify parameter do not exist in the workflow definition: {}.",
                unknown.join(", ")
            );
            return Ok(refused(&json!([{ "message": message }])));
        }
        let execution = run.execution;
        let id = execution.own_workflow();
        let begin = Begin {
            id,
            execution: execution.id,
            document,
            context: context_of(run, id),
            inputs: run.parameters.action.clone(),
        };
        self.workflows.engine.begin(begin).await.map_err(|error| Failure::new(error.to_string()))?;
        // The engine ends the execution.
        Ok(Ending::new(Status::Running, Value::Null))
    }
}

/// Names of tasks that the definition doesn't have.
fn unknown_tasks(document: &Document, names: Option<&Value>) -> Vec<String> {
    let tasks = document.root().get("tasks").and_then(Value::as_object);
    let names = names.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names.filter(|name| tasks.is_none_or(|tasks| !tasks.contains_key(*name))).map(str::to_owned).collect()
}

/// What expressions see beside inputs.
pub(super) fn context_of(run: &Run<'_>, workflow: Id) -> Object {
    let execution = run.execution;
    let mut st2 = Object::from_iter([
        ("action_execution_id".to_owned(), json!(execution.id)),
        ("api_url".to_owned(), json!(run.host.options.api_url)),
        ("user".to_owned(), json!(run.user())),
        ("pack".to_owned(), json!(run.action.pack)),
        ("action".to_owned(), json!(execution.action)),
        ("runner".to_owned(), json!(execution.runner_type)),
        ("workflow_execution_id".to_owned(), json!(workflow)),
    ]);
    for key in ["api_user", "source_channel"] {
        if let Some(value) = execution.context.get(key) {
            st2.insert(key.to_owned(), value.clone());
        }
    }
    let mut context = Object::from_iter([("st2".to_owned(), Value::Object(st2))]);
    if let Some(parent) = execution.context.get("parent") {
        context.insert("parent".to_owned(), parent.clone());
    }
    context
}
