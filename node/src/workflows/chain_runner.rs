//! The runner of `action-chain`: reads a chain, begins it, and lets go of the execution (spec/runners.md §16.1).

use std::sync::Arc;

use async_trait::async_trait;
use model::{Object, Status};
use runners::runner::{Ending, Failure, Run, Runner};
use serde_json::{Value, json};
use workflow::chain::{Begin, Definition};

use super::Workflows;

#[derive(Debug)]
pub struct ActionChain {
    workflows: Arc<Workflows>,
}

impl ActionChain {
    pub const fn new(workflows: Arc<Workflows>) -> Self {
        Self { workflows }
    }
}

fn refused(error: &str) -> Ending {
    Ending::new(Status::Failed, json!({"error": error, "traceback": error}))
}

#[async_trait]
impl Runner for ActionChain {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let file = run.entry_file(&run.pack_directory().await?)?;
        let bad = |reason: &dyn std::fmt::Display| {
            refused(&format!("Failed to parse action chain definition from \"{}\": {reason}", file.display()))
        };
        let text = match tokio::fs::read_to_string(&file).await {
            Ok(text) => text,
            Err(error) => return Ok(bad(&error)),
        };
        let document: Value = match model::yaml::load(&text) {
            Ok(document) => document,
            Err(error) => return Ok(bad(&error)),
        };
        let definition = match Definition::read(document) {
            Ok(definition) => definition,
            Err(error) => return Ok(bad(&error)),
        };
        if definition.first().is_none() {
            return Ok(refused(&format!("Failed to find default node in {}.", run.action.name)));
        }
        let begin = begin(run, definition).await?;
        self.workflows.engine.begin_chain(begin).await.map_err(|error| Failure::new(error.to_string()))?;
        // The engine ends the execution.
        Ok(Ending::new(Status::Running, Value::Null))
    }
}

async fn begin(run: &Run<'_>, definition: Definition) -> Result<Begin, Failure> {
    let execution = run.execution;
    let mut parent = execution.context.clone();
    parent.insert("execution_id".to_owned(), json!(execution.id));
    let skip_notify = run.parameters.runner.get("skip_notify").and_then(Value::as_array);
    Ok(Begin {
        id: execution.own_workflow(),
        execution: execution.id,
        definition,
        parameters: run.parameters.action.clone(),
        context: execution.context.clone(),
        parent,
        config: config(run).await?,
        display_published: run.parameters.runner.get("display_published") != Some(&Value::Bool(false)),
        skip_notify: skip_notify.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        notify: execution.notify.clone(),
    })
}

async fn config(run: &Run<'_>) -> Result<Object, Failure> {
    Ok(domain::pack_config::pack_config(run.services, &run.action.pack, run.user()).await?)
}
