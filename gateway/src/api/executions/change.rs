//! Requesting, cancelling, pausing and re-running.

use auth::Target;
use domain::executions::{self, Cancellation, Request, Rerun};
use model::python::repr;
use model::{Execution, Object, ResultValue, Status, Timestamp};
use serde_json::{Value, json};

use super::super::traces;
use super::{find, show};
use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

pub(crate) const REQUEST: Shape = Shape {
    fields: &[
        must("action", Kind::Text),
        may("parameters", Kind::Object),
        may("context", Kind::Object),
        may("notify", Kind::Object),
        may("callback", Kind::Object),
        may("delay", Kind::Integer),
        may("user", Kind::Text),
    ],
    closed: false,
};

/// Milliseconds; the schema's minimum is 0.
fn delay(body: &Object) -> Result<Option<u64>, ApiError> {
    match body.get("delay") {
        Some(value) if value.as_i64().is_some_and(|delay| delay < 0) => {
            Err(ApiError::bad_request(format!("{value} is less than the minimum of 0")))
        }
        _ => Ok(body.get("delay").and_then(Value::as_u64)),
    }
}

/// The user that a request runs as: another than the caller is an administrator's to choose.
fn user_of(ctx: &Ctx, body: &mut Object) -> Result<String, ApiError> {
    let user = body.take_text("user").filter(|user| !user.is_empty());
    match user {
        Some(user) if user != ctx.identity.user && !ctx.identity.is_admin => {
            Err(ApiError::forbidden("\"user\" attribute can only be provided by admins"))
        }
        Some(user) => Ok(user),
        None => Ok(ctx.identity.user.clone()),
    }
}

/// 403 unless the caller may run this action; one that doesn't exist is for the request to refuse.
pub(crate) async fn require_action(ctx: &Ctx, reference: &str) -> Result<(), ApiError> {
    let outcome = ctx.require("action_execute", Target::action(reference));
    if outcome.is_err() && ctx.services().catalog.action(reference).await?.is_none() {
        return Err(ApiError::bad_request(format!("Action \"{reference}\" cannot be found.")));
    }
    outcome
}

/// Under RBAC the context can't name another user than the one that was checked, and says what that one's roles are.
pub(crate) async fn settle_user(ctx: &Ctx, user: &str, context: &mut Object) -> Result<(), ApiError> {
    let access = &ctx.gateway.auth.access;
    if !access.enabled() {
        return Ok(());
    }
    if !ctx.identity.is_admin {
        context.insert("user".to_owned(), user.into());
        // The parent's user would become the child's.
        if let Some(Value::Object(parent)) = context.get_mut("parent") {
            parent.remove("user");
        }
    }
    let grants = access.grants(context.get("user").and_then(Value::as_str).unwrap_or(user)).await?;
    let roles: Vec<&str> = grants.roles().collect();
    context.insert("rbac".to_owned(), json!({"user": context.get("user"), "roles": roles}));
    Ok(())
}

/// `POST /executions`.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&REQUEST)?;
    let user = user_of(&ctx, &mut body)?;
    let mut context = body.take_object("context").unwrap_or_default();
    context.insert("user".to_owned(), user.as_str().into());
    if let Some(text) = ctx.header("st2-context").filter(|text| !text.is_empty()) {
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(more)) => context.extend(more),
            Ok(_) => {
                return Err(ApiError::bad_request("Unable to convert st2-context from the headers into JSON object."));
            }
            Err(error) => {
                return Err(ApiError::bad_request(format!(
                    "Unable to convert st2-context from the headers into JSON: {error}"
                )));
            }
        }
    }
    let action = body.take_text("action").unwrap_or_default();
    require_action(&ctx, &action).await?;
    traces::require(&ctx, &context).await?;
    settle_user(&ctx, &user, &mut context).await?;
    let request = Request {
        action,
        parameters: body.take_object("parameters").unwrap_or_default(),
        context,
        delay: delay(&body)?,
        notify: body.take_object("notify").filter(|notify| !notify.is_empty()).map(Value::Object),
        callback: body.take_object("callback"),
        id: ctx.derived_id,
        ..Request::default()
    };
    let execution = executions::request(ctx.services(), request).await?;
    tracing::debug!(execution = %execution.id, action = execution.action, "requested");
    Reply::created(&show(&ctx, &execution, true).await?)
}

pub(crate) const RERUN: Shape = Shape {
    fields: &[
        may("parameters", Kind::Object),
        may("tasks", Kind::Texts),
        may("reset", Kind::Texts),
        may("user", Kind::Text),
        may("delay", Kind::Integer),
    ],
    closed: false,
};

/// `POST /executions/{id}/re_run`.
pub async fn rerun(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&RERUN)?;
    let original = find(&ctx, ctx.params.get("id")).await?;
    require_action(&ctx, &original.action).await?;
    let parameters = body.take_object("parameters").unwrap_or_default();
    let tasks = body.take_texts("tasks").unwrap_or_default();
    let reset = body.take_texts("reset").unwrap_or_default();
    if !tasks.is_empty() || !reset.is_empty() {
        if !parameters.is_empty() {
            return Err(ApiError::bad_request(
                "Parameters override is not supported when re-running task(s) for a workflow.",
            ));
        }
        if reset.iter().any(|task| !tasks.contains(task)) {
            return Err(ApiError::bad_request("List of tasks to reset does not match the tasks to rerun."));
        }
        if original.runner_type != "orquesta" {
            return Err(ApiError::bad_request("Task option is only supported for Orquesta workflows."));
        }
    }
    let user = user_of(&ctx, &mut body)?;
    let again = {
        let options = Rerun { parameters, tasks, reset, delay: delay(&body)? };
        executions::rerun(ctx.services(), &original, options, &user).await?
    };
    tracing::debug!(execution = %again.id, original = %original.id, "re-run");
    Reply::created(&show(&ctx, &again, true).await?)
}

/// `DELETE /executions/{id}`: cancels. A refusal is 200 with a fault, as clients expect.
pub async fn cancel(ctx: Ctx) -> Result<Reply, ApiError> {
    let execution = ctx.unchanged(find(&ctx, ctx.params.get("id")).await?)?;
    match executions::cancel(ctx.services(), execution.id, &ctx.identity.user).await? {
        Cancellation::Accepted(execution) | Cancellation::Already(execution) => {
            tracing::info!(execution = %execution.id, status = %execution.status, "cancellation requested");
            Reply::json(&show(&ctx, &execution, false).await?)
        }
        Cancellation::Refused(execution) => Reply::json(&json!({
            "faultstring": format!("Action cannot be canceled. State = {}.", execution.status)
        })),
    }
}

pub(crate) const CHANGE: Shape =
    Shape { fields: &[may("status", Kind::Text), may("result", Kind::Object)], closed: false };

/// Runners that can pause.
const WORKFLOW_RUNNERS: [&str; 2] = ["orquesta", "action-chain"];

/// `PUT /executions/{id}`: another status.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&CHANGE)?;
    let status = match body.take_text("status") {
        None => None,
        Some(text) => Some(Status::parse(&text).ok_or_else(|| {
            let all = Status::ALL.map(|status| format!("'{status}'")).join(", ");
            ApiError::bad_request(format!("{} is not one of [{all}]", repr(&Value::from(text.as_str()))))
        })?),
    };
    let result = body.take_object("result");
    let execution = ctx.unchanged(find(&ctx, ctx.params.get("id")).await?)?;
    if execution.status.is_completed() {
        return Err(ApiError::bad_request("Execution is already in completed state."));
    }
    let Some(status) = status else {
        return Err(ApiError::bad_request("'status' is a required property"));
    };
    let user = ctx.identity.user.clone();
    let finishes_cancel = execution.status == Status::Canceling && status == Status::Canceled;
    if matches!(status, Status::Canceling | Status::Canceled) && !finishes_cancel {
        return cancel(ctx).await;
    }
    let changed = executions::update(ctx.services(), execution.id, |execution, now| {
        change(execution, status, result.clone(), &user, now)
    })
    .await?;
    executions::ask_workflow(ctx.services(), &changed).await;
    tracing::info!(execution = %changed.id, status = %changed.status, "status changed by request");
    Reply::json(&show(&ctx, &changed, false).await?)
}

/// Applies a requested status; false when there is nothing to do.
fn change(
    execution: &mut Execution,
    to: Status,
    result: Option<Object>,
    user: &str,
    now: Timestamp,
) -> Result<bool, domain::DomainError> {
    let invalid = |text: String| Err(domain::DomainError::Invalid(format!("Failed updating execution. {text}")));
    let (from, live) = (execution.status, execution.liveaction_id);
    if matches!(to, Status::Pausing | Status::Paused) && from != Status::Pausing {
        if from == Status::Paused {
            return Ok(false);
        }
        if !WORKFLOW_RUNNERS.contains(&execution.runner_type.as_str()) {
            return invalid(format!(
                "Unable to pause liveaction \"{live}\" because it is not supported by the \"{}\" runner.",
                execution.runner_type
            ));
        }
        if from != Status::Running {
            return invalid(format!("Unable to pause liveaction \"{live}\" because it is not in a running state."));
        }
        execution.context.insert("paused_by".to_owned(), user.into());
        return step(execution, Status::Pausing, now);
    }
    if to == Status::Pausing {
        return Ok(false);
    }
    if to == Status::Resuming {
        if from == Status::Running {
            return Ok(false);
        }
        if from != Status::Paused {
            return invalid(format!(
                "Unable to resume liveaction \"{live}\" because it is in \"{from}\" state and not in \"paused\" state."
            ));
        }
        execution.context.insert("resumed_by".to_owned(), user.into());
    }
    if let Some(result) = result {
        let value = Value::Object(result);
        execution.result_size = value.to_string().len() as u64;
        execution.result = Some(ResultValue::Inline(value));
    } else if from == to {
        return Ok(false);
    }
    if from == to { Ok(true) } else { step(execution, to, now) }
}

fn step(execution: &mut Execution, to: Status, now: Timestamp) -> Result<bool, domain::DomainError> {
    execution
        .advance(to, now)
        .map_err(|error| domain::DomainError::Invalid(format!("Failed updating execution. {error}.")))?;
    Ok(true)
}
