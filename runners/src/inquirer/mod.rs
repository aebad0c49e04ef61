//! `inquirer`: asks somebody, and leaves the execution waiting for the answer (spec/runners.md §16.3).

use async_trait::async_trait;
use domain::triggers::{Dispatch, dispatch};
use model::{Id, Status};
use serde_json::json;

use crate::runner::{Ending, Failure, Run, Runner};

/// Trigger that tells rules of it: they pass the question on.
const TRIGGER: &str = "core.st2.generic.inquiry";

#[derive(Debug)]
pub struct Inquirer;

#[async_trait]
impl Runner for Inquirer {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let given = |name: &str| run.parameters.runner.get(name).cloned();
        let route = given("route").unwrap_or_else(|| json!(""));
        let execution = run.execution;
        let attempt = execution.attempt.to_string();
        let event = Dispatch {
            trigger: TRIGGER.to_owned(),
            payload: json!({"id": execution.id, "route": route}),
            occurrence_time: run.services.now(),
            id: Some(Id::derive("inquiry", execution.start_timestamp, &[&execution.id.to_string(), &attempt])),
            trace_context: Some(execution.trace_link()),
            validate: false,
            fence: None,
        };
        dispatch(run.services, event).await?;
        let result = json!({
            "schema": given("schema").unwrap_or_else(|| json!({})),
            "roles": given("roles").unwrap_or_else(|| json!([])),
            "users": given("users").unwrap_or_else(|| json!([])),
            "route": route,
            "ttl": given("ttl").unwrap_or_else(|| json!(1440)),
        });
        Ok(Ending::new(Status::Pending, result))
    }
}
