//! `POST /packs/register`.

use content::{Kind, RegisterRequest};
use serde_json::Value;

use crate::context::Ctx;
use crate::http::shape::{Kind as Type, Shape, Take, may};
use crate::http::{ApiError, Reply};
use model::python::repr;

pub(crate) const BODY: Shape = Shape {
    fields: &[may("types", Type::Texts), may("packs", Type::Texts), may("fail_on_failure", Type::Boolean)],
    closed: false,
};

/// Words for kinds, in the order in which the error text lists them.
const TYPES: [&str; 20] = [
    "all",
    "runner",
    "action",
    "actions",
    "trigger",
    "triggers",
    "sensor",
    "sensors",
    "rule",
    "rules",
    "rule_type",
    "rule_types",
    "alias",
    "aliases",
    "policy_type",
    "policy_types",
    "policy",
    "policies",
    "config",
    "configs",
];

/// The kinds asked for; `None` is all of them.
fn kinds(types: Option<Vec<String>>) -> Result<Option<Vec<Kind>>, ApiError> {
    let types = types.unwrap_or_default();
    if let Some(unknown) = types.iter().find(|name| !TYPES.contains(&name.as_str())) {
        let all = TYPES.map(|name| format!("'{name}'")).join(", ");
        return Err(ApiError::bad_request(format!("{} is not one of [{all}]", repr(&Value::from(unknown.as_str())))));
    }
    if types.is_empty() || types.iter().any(|name| name == "all") {
        return Ok(None);
    }
    Ok(Some(types.iter().filter_map(|name| Kind::parse(name)).collect()))
}

pub async fn register(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let request = RegisterRequest {
        packs: body.take_texts("packs").filter(|packs| !packs.is_empty()),
        kinds: kinds(body.take_texts("types"))?,
        fail_on_failure: body.take_bool("fail_on_failure").unwrap_or(true),
    };
    let counts = content::register(ctx.services(), &request).await?;
    tracing::info!(user = ctx.identity.user, packs = ?request.packs, "packs registered");
    Reply::json(&counts.to_api())
}
