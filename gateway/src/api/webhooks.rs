//! Webhooks (spec/api.md §7.8).

use domain::triggers::{self, Dispatch};
use domain::{DomainError, Services};
use http::{HeaderMap, StatusCode};
use model::python::repr;
use model::{Object, Trigger};
use serde_json::{Value, json};

use crate::context::Ctx;
use crate::http::shape::Take;
use crate::http::{ApiError, Reply};

/// Not passed on in the payload.
const SECRET_HEADERS: [&str; 3] = ["x-auth-token", "st2-api-key", "cookie"];
const TRACE_TAG: &str = "st2-trace-tag";

/// `GET /webhooks`: the first trigger of each hook.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let hooks = ctx.gateway.hooks.by_url(ctx.services()).await?;
    let mut triggers: Vec<&Trigger> = hooks.values().filter_map(|triggers| Some(triggers.first()?.as_ref())).collect();
    triggers.sort_by_key(|trigger| trigger.id);
    Reply::json(&triggers.into_iter().map(Trigger::to_api).collect::<Vec<_>>())
}

/// `GET /webhooks/{url}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let hooks = ctx.gateway.hooks.by_url(ctx.services()).await?;
    match hooks.get(ctx.params.get("url")).and_then(|triggers| triggers.first()) {
        Some(trigger) => Reply::json(&trigger.to_api()),
        None => Err(ApiError::not_found("Unhandled exception")),
    }
}

fn trace_context(headers: &HeaderMap, hook: &str) -> Object {
    let given = headers.get(TRACE_TAG).and_then(|tag| tag.to_str().ok()).filter(|tag| !tag.is_empty());
    let tag = match given {
        Some(tag) => tag.to_owned(),
        None => format!("webhook-{hook}-{}", uuid::Uuid::new_v4().simple()),
    };
    Object::from_iter([("trace_tag".to_owned(), Value::from(tag))])
}

/// `x-foo-bar` → `X-Foo-Bar`: the HTTP library keeps lower case only, StackStorm passes on what WSGI made of it.
fn canonical(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let mut chars = part.chars();
        chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
    });
    parts.collect::<Vec<_>>().join("-")
}

/// `POST /webhooks/{hook…}`.
pub async fn post(ctx: Ctx) -> Result<Reply, ApiError> {
    let body = ctx.parsed_body()?;
    let hook = ctx.params.get("hook");
    if hook == "st2" {
        return generic(&ctx, body).await;
    }
    if !body.is_object() && !body.is_array() {
        return Err(ApiError::bad_request(format!("{} is not of type 'object', 'array'", repr(&body))));
    }
    let hooks = ctx.gateway.hooks.by_url(ctx.services()).await?;
    let Some(triggers) = hooks.get(hook.trim_matches('/')) else {
        return Err(ApiError::not_found(format!("Webhook {hook} not registered with st2")));
    };
    let mut headers = Object::new();
    let mut lower = Object::new();
    for (name, value) in &ctx.headers {
        let name = name.as_str();
        if SECRET_HEADERS.contains(&name) || name == TRACE_TAG {
            continue;
        }
        let value = Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned());
        headers.insert(canonical(name), value.clone());
        lower.insert(name.to_owned(), value);
    }
    let payload = json!({"headers": headers, "headers_lower": lower, "body": body});
    let trace = trace_context(&ctx.headers, hook);
    let now = ctx.services().now();
    let events = triggers.iter().map(|trigger| Dispatch {
        trigger: trigger.reference.clone(),
        payload: payload.clone(),
        occurrence_time: now,
        id: None,
        trace_context: Some(trace.clone()),
        validate: true,
        fence: None,
    });
    triggers::dispatch_all(ctx.services(), events.collect()).await?;
    Reply::json_status(StatusCode::ACCEPTED, &body)
}

/// `POST /webhooks/st2`: any trigger, by name.
async fn generic(ctx: &Ctx, body: Value) -> Result<Reply, ApiError> {
    let Value::Object(mut object) = body.clone() else {
        let kind = match body {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            _ => "scalar",
        };
        return Err(ApiError::bad_request(format!("Webhook body needs to be an object, got: {kind}")));
    };
    let Some(trigger) = object.take_text("trigger").filter(|trigger| !trigger.is_empty()) else {
        return Err(ApiError::bad_request("Trigger not specified."));
    };
    let payload = object.remove("payload").unwrap_or(Value::Null);
    let refused = |reason: &str| {
        ApiError::bad_request(format!(
            "Trigger payload validation failed and validation is enabled, not dispatching a trigger \"{trigger}\" \
             ({}): {reason}",
            repr(&payload)
        ))
    };
    if !is_known(ctx.services(), &trigger).await? {
        return Err(refused(&format!("Trigger type with reference \"{trigger}\" doesn't exist in the database")));
    }
    let event = Dispatch {
        trigger: trigger.clone(),
        payload: payload.clone(),
        occurrence_time: ctx.services().now(),
        id: None,
        trace_context: Some(trace_context(&ctx.headers, "st2")),
        validate: true,
        fence: None,
    };
    match triggers::dispatch(ctx.services(), event).await {
        Ok(_) => Reply::json_status(StatusCode::ACCEPTED, &body),
        Err(DomainError::NotFound(text)) => Err(refused(&text)),
        Err(error) => Err(error.into()),
    }
}

async fn is_known(services: &Services, trigger: &str) -> Result<bool, ApiError> {
    Ok(services.catalog.trigger(trigger).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names() {
        assert_eq!(canonical("x-github-event"), "X-Github-Event");
        assert_eq!(canonical("host"), "Host");
    }
}
