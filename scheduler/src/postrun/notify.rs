//! `core.st2.generic.notifytrigger` (spec/scheduling.md §7.2).

use domain::executions::follow_up::NOTIFY_TRIGGER;
use domain::rendering::with_keys;
use domain::{DomainError, Services, view};
use model::{Execution, Id, Object, Status, Timestamp, TriggerInstance};
use serde_json::{Value, json};

use super::ended;
use crate::instances;

const DEFAULT_ROUTE: &str = "notify.default";

/// Section names as stored (either spelling), whether they apply, and the default message's last word.
fn sections(status: Status) -> impl Iterator<Item = ([&'static str; 2], &'static str)> {
    [
        (["on-complete", "on_complete"], true, "completed"),
        (["on-success", "on_success"], status == Status::Succeeded, "succeeded"),
        // Canceled executions only complete.
        (["on-failure", "on_failure"], status.is_failed(), "failed"),
    ]
    .into_iter()
    .filter_map(|(names, applies, word)| applies.then_some((names, word)))
}

/// One instance for each section that applies and each of its routes.
pub(super) async fn of(services: &Services, execution: &Execution) -> Result<Vec<TriggerInstance>, DomainError> {
    let Some(notify) = execution.notify.as_ref().and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    let mut instances = Vec::new();
    let mut known = None;
    for (names, word) in sections(execution.status) {
        let section = names.iter().find_map(|name| notify.get(*name)).and_then(Value::as_object);
        let Some(section) = section.filter(|section| !section.is_empty()) else { continue };
        if known.is_none() {
            if services.catalog.trigger(NOTIFY_TRIGGER).await?.is_none() {
                tracing::warn!(execution = %execution.id, "{NOTIFY_TRIGGER} is not registered: nobody is notified");
                return Ok(Vec::new());
            }
            known = Some(view::result(services, execution).await?);
        }
        let result = known.as_ref().unwrap_or(&Value::Null);
        let payload = payload(services, execution, section, word, result).await?;
        for route in routes(section) {
            let mut payload = payload.clone();
            payload.insert("route".to_owned(), route.as_str().into());
            payload.insert("channel".to_owned(), route.as_str().into());
            let id = Id::derive("notify", ended(execution), &[&execution.id.to_string(), word, &route]);
            let now = services.now();
            let payload = Value::Object(payload);
            instances.push(instances::pending(
                services,
                id,
                NOTIFY_TRIGGER,
                payload,
                now,
                Some(execution.trace_link()),
            ));
        }
    }
    Ok(instances)
}

/// `routes`, else the deprecated `channels`, else the default.
fn routes(section: &Object) -> Vec<String> {
    for name in ["routes", "channels"] {
        let listed = section.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut routes: Vec<String> = listed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if !routes.is_empty() {
            routes.sort_unstable();
            routes.dedup();
            return routes;
        }
    }
    vec![DEFAULT_ROUTE.to_owned()]
}

/// All but the route.
async fn payload(
    services: &Services,
    execution: &Execution,
    section: &Object,
    word: &str,
    result: &Value,
) -> Result<Object, DomainError> {
    let vars = variables(execution, result);
    let message = match section.get("message").and_then(Value::as_str).filter(|message| !message.is_empty()) {
        Some(template) => rendered(services, execution, &vars, &Value::String(template.to_owned())).await?,
        None => format!("Action {} {word}.", execution.action).into(),
    };
    let mut data = match rendered(services, execution, &vars, section.get("data").unwrap_or(&Value::Null)).await? {
        Value::Object(data) => data,
        _ => Object::new(),
    };
    let result = if result.is_null() { json!({}) } else { result.clone() };
    data.insert("result".to_owned(), result.to_string().into());
    let mut payload = Object::new();
    payload.insert("message".to_owned(), message);
    payload.insert("data".to_owned(), Value::Object(data));
    payload.insert("execution_id".to_owned(), json!(execution.id));
    payload.insert("status".to_owned(), json!(execution.status));
    payload.insert("start_timestamp".to_owned(), iso(execution.start_timestamp).into());
    let end = execution.end_timestamp.unwrap_or_else(|| services.now());
    payload.insert("end_timestamp".to_owned(), iso(end).into());
    payload.insert("action_ref".to_owned(), execution.action.as_str().into());
    payload.insert("runner_ref".to_owned(), execution.runner_type.as_str().into());
    Ok(payload)
}

fn variables(execution: &Execution, result: &Value) -> Object {
    let mut vars = Object::new();
    vars.insert("action_parameters".to_owned(), Value::Object(execution.parameters.clone()));
    vars.insert("action_context".to_owned(), Value::Object(execution.context.clone()));
    vars.insert("action_results".to_owned(), result.clone());
    let whole = Value::Object(vars.clone());
    vars.insert("__context".to_owned(), whole);
    vars
}

/// A template that fails is taken as it is: a notification with a flaw is better than none.
async fn rendered(
    services: &Services,
    execution: &Execution,
    vars: &Object,
    template: &Value,
) -> Result<Value, DomainError> {
    let user = execution.user().unwrap_or(&services.settings.system_user);
    let outcome = with_keys(services, user, vars, |context| expr::render(template, context)).await;
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::warn!(execution = %execution.id, %error, "a notification's template can't be rendered");
            Ok(template.clone())
        }
        Err(error @ DomainError::Store(_)) => Err(error),
        Err(error) => {
            tracing::warn!(execution = %execution.id, %error, "a notification's template can't be rendered");
            Ok(template.clone())
        }
    }
}

fn iso(at: Timestamp) -> String {
    at.datetime().format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(status: Status) -> Vec<&'static str> {
        sections(status).map(|(_, word)| word).collect()
    }

    #[test]
    fn sections_by_status() {
        assert_eq!(words(Status::Succeeded), ["completed", "succeeded"]);
        for status in [Status::Failed, Status::Timeout, Status::Abandoned] {
            assert_eq!(words(status), ["completed", "failed"]);
        }
        assert_eq!(words(Status::Canceled), ["completed"]);
    }

    #[test]
    fn routes_fall_back() {
        let section = |value: Value| routes(value.as_object().unwrap());
        assert_eq!(section(json!({"routes": ["b", "a"], "channels": ["c"]})), ["a", "b"]);
        assert_eq!(section(json!({"channels": ["c"], "routes": []})), ["c"]);
        assert_eq!(section(json!({"message": "m"})), [DEFAULT_ROUTE]);
    }
}
