//! Executions as the API and the stream show them (spec/model.md §5.1, §8.4).

use model::schema::{MASK, mask};
use model::{Execution, Object, ResultValue, Snapshot};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Order, Query, StoreExt};

use crate::{DomainError, Services};

/// What of an execution is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct ViewOptions {
    pub show_secrets: bool,
    /// Read large results from their blobs; without it they are left out.
    pub with_blobs: bool,
    /// Log times with microseconds, as the answer of the POST has them.
    pub fresh: bool,
}

/// The execution in API shape: snapshots put back, falsy fields dropped, secrets masked.
pub async fn execution(
    services: &Services,
    execution: &Execution,
    options: ViewOptions,
) -> Result<Object, DomainError> {
    let action = snapshot(services, execution.action_snapshot).await?;
    let runner = snapshot(services, execution.runner_snapshot).await?;
    let masked = services.settings.mask_secrets && !options.show_secrets;
    let parameters = shown_parameters(execution, &action.body, &runner.body, masked);

    let mut object = Object::new();
    let mut put = |name: &str, value: Value| {
        if is_truthy(&value) {
            object.insert(name.to_owned(), value);
        }
    };
    put("id", json!(execution.id));
    put("status", json!(execution.status));
    put("start_timestamp", json!(execution.start_timestamp));
    put("end_timestamp", json!(execution.end_timestamp));
    put("elapsed_seconds", json!(execution.elapsed_seconds()));
    put("action", action.body.clone());
    put("runner", runner.body.clone());
    put("liveaction", live(execution, &parameters));
    put("parameters", parameters);
    put("context", Value::Object(execution.context.clone()));
    put("log", log(execution, options.fresh));
    put("result_size", json!(execution.result_size));
    put("delay", json!(execution.delay));
    put("parent", json!(execution.parent));
    put("workflow_execution", json!(execution.workflow_execution));
    put("task_execution", json!(execution.task_execution));
    put("web_url", format!("{}/#/history/{}/general", services.settings.webui_base_url, execution.id).into());
    if let Some(cause) = &execution.cause {
        put("rule", snapshot(services, cause.rule).await?.body.clone());
        put("trigger", snapshot(services, cause.trigger).await?.body.clone());
        put("trigger_type", snapshot(services, cause.trigger_type).await?.body.clone());
        put("trigger_instance", cause.trigger_instance.clone());
    }
    let shown = match &execution.result {
        Some(ResultValue::Inline(value)) => value.clone(),
        Some(ResultValue::Blob { .. }) if options.with_blobs => result(services, execution).await?,
        _ => Value::Null,
    };
    put("result", if masked { masked_result(execution, &action.body, &runner.body, shown) } else { shown });
    if execution.action_is_workflow {
        put("children", children(services, execution).await?);
    }
    Ok(object)
}

/// The liveaction in the stream's shape: its `result` is a JSON string.
pub async fn liveaction(services: &Services, execution: &Execution) -> Result<Object, DomainError> {
    let action = snapshot(services, execution.action_snapshot).await?;
    let runner = snapshot(services, execution.runner_snapshot).await?;
    let parameters = shown_parameters(execution, &action.body, &runner.body, services.settings.mask_secrets);
    let mut object = Object::new();
    object.insert("status".to_owned(), json!(execution.status));
    object.insert("start_timestamp".to_owned(), json!(execution.start_timestamp));
    if let Some(end) = execution.end_timestamp {
        object.insert("end_timestamp".to_owned(), json!(end));
    }
    if let Value::Object(live) = live(execution, &parameters) {
        object.extend(live);
    }
    object.insert("context".to_owned(), Value::Object(execution.context.clone()));
    if let Some(delay) = execution.delay {
        object.insert("delay".to_owned(), delay.into());
    }
    let result = match &execution.result {
        Some(ResultValue::Inline(value)) => value.to_string(),
        Some(ResultValue::Blob { preview, .. }) => json!({"preview": preview}).to_string(),
        None => "{}".to_owned(),
    };
    object.insert("result".to_owned(), result.into());
    Ok(object)
}

/// The result, wherever it lies; null when there is none. Not masked.
pub async fn result(services: &Services, execution: &Execution) -> Result<Value, DomainError> {
    match &execution.result {
        None => Ok(Value::Null),
        Some(ResultValue::Inline(value)) => Ok(value.clone()),
        Some(ResultValue::Blob { blob, .. }) => {
            let corrupt = |reason: &str| {
                DomainError::Store(store::StoreError::Corrupt {
                    collection: "blobs",
                    id: *blob,
                    reason: reason.to_owned(),
                })
            };
            let bytes = services.store.get_blob(*blob).await?.ok_or_else(|| corrupt("missing"))?;
            serde_json::from_slice(&bytes).map_err(|error| corrupt(&error.to_string()))
        }
    }
}

/// A snapshot that is gone shows as null rather than hiding the execution.
async fn snapshot(services: &Services, id: model::Id) -> Result<Arc<Snapshot>, DomainError> {
    let found = services.catalog.snapshot(id).await?;
    Ok(found.unwrap_or_else(|| Arc::new(Snapshot { id, body: Value::Null })))
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

fn live(execution: &Execution, parameters: &Value) -> Value {
    let mut live = json!({
        "id": execution.liveaction_id,
        "action": execution.action,
        "action_is_workflow": execution.action_is_workflow,
        "parameters": parameters,
        "callback": execution.callback.clone().unwrap_or_default(),
        "runner_info": execution.runner_info.as_ref().map_or_else(|| json!({}), |info| json!(info)),
    });
    if let (Some(notify), Some(object)) = (&execution.notify, live.as_object_mut()) {
        object.insert("notify".to_owned(), notify.clone());
    }
    live
}

/// Stored log times have milliseconds; the answer of the request itself still has microseconds.
fn log(execution: &Execution, fresh: bool) -> Value {
    let entries = execution.log.iter().map(|entry| {
        let at = if fresh { entry.timestamp } else { entry.timestamp.to_millis_precision() };
        json!({"timestamp": at, "status": entry.status})
    });
    Value::Array(entries.collect())
}

/// Parameters with secrets of action and runner masked; the runner's schema wins on equal names.
fn shown_parameters(execution: &Execution, action: &Value, runner: &Value, masked: bool) -> Value {
    let parameters = Value::Object(execution.parameters.clone());
    if !masked {
        return parameters;
    }
    let of_action = action.get("parameters").and_then(Value::as_object);
    let of_runner = runner.get("runner_parameters").and_then(Value::as_object);
    // A parameter named `secret` makes StackStorm mask all of them; clients are used to it.
    if [of_action, of_runner].into_iter().flatten().any(|schemas| schemas.contains_key("secret")) {
        return MASK.into();
    }
    let schema_of = |name: &str| of_runner.and_then(|all| all.get(name)).or_else(|| of_action?.get(name)).cloned();
    // Only of what is given: lists ask for many executions with few parameters each.
    let schemas: Object =
        execution.parameters.keys().filter_map(|name| Some((name.clone(), schema_of(name)?))).collect();
    let mut shown = mask(&json!({"type": "object", "properties": schemas}), &parameters);
    if execution.action == "st2.inquiry.respond"
        && let Some(Value::Object(response)) = shown.get_mut("response")
    {
        for value in response.values_mut() {
            *value = MASK.into();
        }
    }
    shown
}

/// What the action's `output_schema` marks secret below the runner's output key.
fn masked_result(execution: &Execution, action: &Value, runner: &Value, mut result: Value) -> Value {
    if execution.runner_type == "inquirer"
        && let Some(schema) = result.get("schema").cloned()
        && let Some(response) = result.get_mut("response")
    {
        *response = mask(&schema, response);
        return result;
    }
    let key = runner.get("output_key").and_then(Value::as_str);
    let schema = action.get("output_schema").filter(|schema| schema.as_object().is_some_and(|s| !s.is_empty()));
    if let (Some(key), Some(schema)) = (key, schema)
        && let Some(output) = result.get_mut(key)
    {
        // The legacy form is a map of property → schema.
        let legacy = !schema.get("type").is_some_and(Value::is_string);
        *output =
            if legacy { mask(&json!({"type": "object", "properties": schema}), output) } else { mask(schema, output) };
    }
    result
}

/// Ids of child executions, oldest first.
async fn children(services: &Services, execution: &Execution) -> Result<Value, DomainError> {
    let query = Query::eq("parent", execution.id).order(Order::Asc("start_timestamp"));
    let found = services.store.search::<Execution>(&query).await?;
    Ok(Value::Array(found.iter().map(|child| json!(child.id)).collect()))
}
