//! `announcement`: tells everybody who listens to the stream (spec/runners.md §16.5).

use std::sync::Arc;

use async_trait::async_trait;
use bus::Event;
use model::{Object, Status};
use serde_json::Value;

use crate::runner::{Ending, Failure, Run, Runner};

const DEFAULT_ROUTE: &str = "general";

#[derive(Debug)]
pub struct Announcement;

#[async_trait]
impl Runner for Announcement {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let parameters = &run.parameters;
        if parameters.runner.get("experimental") != Some(&Value::Bool(true)) {
            return Err(Failure::new(format!("Experimental flag is missing for action {}", run.action.reference)));
        }
        let route = parameters.runner.get("route").and_then(Value::as_str).unwrap_or(DEFAULT_ROUTE).to_owned();
        let payload = parameters.action.clone();
        let trace_context = run.execution.context.get("trace_context").cloned();
        run.services.bus.announce(Arc::new(Event::Announcement {
            route,
            payload: Value::Object(payload.clone()),
            trace_context,
        }));
        let mut result = Object::new();
        result.insert("output".to_owned(), Value::Object(payload.clone()));
        result.extend(payload);
        Ok(Ending::new(Status::Succeeded, Value::Object(result)))
    }
}
