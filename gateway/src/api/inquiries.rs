//! Inquiries: what waits for an answer, and the answers (spec/api.md §7.3).

use domain::DomainError;
use domain::executions::inquiry::{self, Inquiry};
use model::schema::validate;
use model::{Execution, Id, Object, Status, Versioned};
use serde_json::{Value, json};
use store::{Cond, Order, StoreExt};

use crate::context::Ctx;
use crate::http::list::{Attributes, ListSpec};
use crate::http::shape::{Kind, Shape, must};
use crate::http::{ApiError, Reply};

const SPEC: ListSpec = ListSpec {
    default_limit: Some(20),
    filters: &[],
    sortable: &[],
    order: &[Order::Asc("start_timestamp")],
    attributes: Attributes::plain(&["id", "route", "ttl", "users", "roles", "schema"]),
    offset: false,
};

const ANSWER: Shape = Shape { fields: &[must("id", Kind::Text), must("response", Kind::Object)], closed: false };

/// `GET /inquiries`: those that wait.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut list = SPEC.parse(&ctx)?;
    list.find.conds.push(Cond::Eq("status", Status::Pending.into()));
    list.find.conds.push(Cond::Eq("runner", inquiry::RUNNER.into()));
    if let Some(user) = ctx.only_user() {
        list.find.conds.push(Cond::Eq("user", user.into()));
    }
    let (rows, total) = list.fetch::<Execution>(&ctx).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        items.push(inquiry::read(ctx.services(), row).await?.to_api(row.id));
    }
    list.reply(items, total)
}

/// One that waits, by its execution's id.
async fn waiting(ctx: &Ctx) -> Result<(Versioned<Execution>, Inquiry), ApiError> {
    let text = ctx.params.get("id");
    let found = match text.parse::<Id>() {
        Ok(id) => ctx.services().store.read::<Execution>(id).await?,
        Err(_) => None,
    };
    let found = found.ok_or_else(|| ApiError::not_found("The resource could not be found."))?;
    if found.runner_type != inquiry::RUNNER {
        return Err(ApiError::bad_request(format!("Action execution \"{text}\" is not an inquiry.")));
    }
    match found.status {
        Status::Pending => {
            let asked = inquiry::read(ctx.services(), &found).await?;
            Ok((found, asked))
        }
        Status::Timeout => {
            Err(ApiError::bad_request(format!("Inquiry \"{text}\" timed out and cannot be responded to.")))
        }
        _ => Err(answered(text)),
    }
}

fn answered(id: &str) -> ApiError {
    ApiError::bad_request(format!("Inquiry \"{id}\" has already been responded to."))
}

/// `GET /inquiries/{id}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let (execution, asked) = waiting(&ctx).await?;
    Reply::json(&asked.to_api(execution.id))
}

/// Whether the caller is among those who may answer. Without RBAC everybody has every role.
fn may_answer(ctx: &Ctx, asked: &Inquiry) -> bool {
    let has_role =
        !ctx.gateway.auth.access.enabled() || asked.roles.iter().any(|role| ctx.identity.grants.has_role(role));
    (asked.roles.is_empty() || has_role) && (asked.users.is_empty() || asked.users.contains(&ctx.identity.user))
}

/// `PUT /inquiries/{id}`: the answer. What waits for it goes on.
pub async fn respond(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&ANSWER)?;
    let (execution, asked) = waiting(&ctx).await?;
    let id = execution.id.to_string();
    if !may_answer(&ctx, &asked) {
        return Err(ApiError::forbidden(format!(
            "User \"{}\" does not have permission to respond to inquiry \"{id}\".",
            ctx.identity.user
        )));
    }
    let response = match body.remove("response") {
        Some(Value::Object(response)) => response,
        _ => Object::new(),
    };
    validate(&Value::Object(asked.schema), &Value::Object(response.clone())).map_err(|error| {
        ApiError::bad_request(format!("Response for inquiry \"{id}\" did not pass schema validation. {error}"))
    })?;
    match inquiry::answer(ctx.services(), &execution, &response, &ctx.identity.user).await {
        Ok(_) => Reply::json(&json!({"id": id, "response": response})),
        // Another answer, or the end of its time, came first.
        Err(DomainError::Superseded(_)) => {
            waiting(&ctx).await?;
            Err(answered(&id))
        }
        Err(error) => Err(error.into()),
    }
}
