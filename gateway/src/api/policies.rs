//! Policies and their types (spec/api.md §7.12, spec/model.md §8.21).

use bus::Change;
use model::schema::validate_parameters;
use model::{Id, Policy, Versioned};
use serde_json::{Value, json};
use store::{Order, StoreExt};

use super::{changed, refuse_system_pack};
use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec, Page, count_headers};
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

const SPEC: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[("name", Filter::Text("name")), ("pack", Filter::Text("pack"))],
    sortable: &[],
    order: &[Order::Asc("pack"), Order::Asc("name")],
    attributes: Attributes::with_ref(
        &[
            "id",
            "uid",
            "ref",
            "pack",
            "name",
            "description",
            "enabled",
            "resource_ref",
            "policy_type",
            "parameters",
            "metadata_file",
        ],
        &[],
    ),
    offset: true,
};

/// `GET /policies`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<Policy>(&ctx, &SPEC, Policy::to_api).await
}

/// `GET /policies/{ref}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&ctx.by_ref::<Policy>(ctx.params.get("ref")).await?.to_api())
}

const BODY: Shape = Shape {
    fields: &[
        must("name", Kind::Text),
        must("resource_ref", Kind::Text),
        must("policy_type", Kind::Text),
        may("id", Kind::Text),
        may("ref", Kind::Text),
        may("uid", Kind::Text),
        may("pack", Kind::Text),
        may("description", Kind::Text),
        may("enabled", Kind::Boolean),
        may("parameters", Kind::Object),
        may("metadata_file", Kind::Text),
    ],
    closed: true,
};

/// The policy of a request body, checked against its type.
fn parse(ctx: &Ctx, id: Id, default_pack: &str) -> Result<Policy, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let name = body.take_text("name").unwrap_or_default();
    let pack = body.take_text("pack").filter(|pack| !pack.is_empty()).unwrap_or_else(|| default_pack.to_owned());
    refuse_system_pack(&pack)?;
    let policy_type = body.take_text("policy_type").unwrap_or_default();
    let Some(found) = types().into_iter().find(|found| found["ref"] == policy_type.as_str()) else {
        return Err(ApiError::bad_request(format!("Referenced policy_type \"{policy_type}\" doesnt exist")));
    };
    let schemas = found["parameters"].as_object().cloned().unwrap_or_default();
    let given = body.take_object("parameters").unwrap_or_default();
    let parameters =
        validate_parameters(&schemas, &given, false).map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(Policy {
        id,
        uid: format!("policy:{pack}:{name}"),
        reference: format!("{pack}.{name}"),
        pack,
        name,
        description: body.take_text("description"),
        enabled: body.take_bool("enabled").unwrap_or(true),
        resource_ref: body.take_text("resource_ref").unwrap_or_default(),
        policy_type,
        parameters,
        metadata_file: body.take_text("metadata_file").unwrap_or_default(),
    })
}

/// `POST /policies`.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let policy = parse(&ctx, Id::fresh(ctx.services().now()), "default")?;
    ctx.services().store.insert(&policy).await?;
    changed::<Policy>(ctx.services(), Change::Create, policy.id, &policy.reference);
    Reply::created(&policy.to_api())
}

/// `PUT /policies/{ref}`: replaces the whole policy.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let old = ctx.by_ref::<Policy>(ctx.params.get("ref")).await?;
    refuse_system_pack(&old.pack)?;
    let doc = parse(&ctx, old.id, &old.pack)?;
    let policy = ctx.services().store.update(Versioned { rev: old.rev, doc }).await?;
    changed::<Policy>(ctx.services(), Change::Update, policy.id, &policy.reference);
    Reply::json(&policy.to_api())
}

/// `DELETE /policies/{ref}`.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let policy = ctx.by_ref::<Policy>(ctx.params.get("ref")).await?;
    refuse_system_pack(&policy.pack)?;
    ctx.services().store.remove::<Policy>(policy.id).await?;
    changed::<Policy>(ctx.services(), Change::Delete, policy.id, &policy.reference);
    Ok(Reply::no_content())
}

/// The policy types, which nobody changes.
fn types() -> Vec<Value> {
    let action = json!({
        "type": "string",
        "description": "The action to take when the threshold is reached.",
        "enum": ["delay", "cancel"],
        "default": "delay",
    });
    let threshold = json!({
        "type": "integer", "required": true, "description": "The threshold for concurrent execution of the action.",
    });
    let described = |name: &str, module: &str, description: &str, parameters: Value| {
        let reference = format!("action.{name}");
        json!({
            "id": Id::of_content(format!("policy_type:{reference}").as_bytes()),
            "uid": format!("policy_type:action:{name}"),
            "ref": reference,
            "name": name,
            "resource_type": "action",
            "description": description,
            "enabled": true,
            "module": format!("st2actions.policies.{module}"),
            "parameters": parameters,
        })
    };
    vec![
        described(
            "concurrency",
            "concurrency",
            "Limits the concurrent executions for the action.",
            json!({"action": action, "threshold": threshold}),
        ),
        described(
            "concurrency.attr",
            "concurrency_by_attr",
            "Limits the concurrent executions for the action by user specified attributes.",
            json!({
                "action": action,
                "threshold": threshold,
                "attributes": {
                    "type": "array",
                    "uniqueItems": true,
                    "items": {"type": "string", "minLength": 1},
                    "description": "The list of attributes.",
                },
            }),
        ),
        described(
            "retry",
            "retry",
            "Retry policy which applies to action executions.",
            json!({
                "retry_on": {
                    "type": "string",
                    "enum": ["failure", "timeout"],
                    "required": true,
                    "description": "The condition to retry on.",
                },
                "max_retry_count": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 5,
                    "default": 2,
                    "required": true,
                    "description": "Maximum number of times the execution can be retried.",
                },
                "delay": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 120,
                    "required": false,
                    "description": "How long to wait before retrying an execution (in seconds).",
                },
            }),
        ),
    ]
}

/// `GET /policytypes`.
pub async fn list_types(ctx: Ctx) -> Result<Reply, ApiError> {
    let page = Page::parse(&ctx, Some(100), true)?;
    let (resource_type, names) = (ctx.query.text("resource_type"), ctx.query.list("name"));
    let all: Vec<Value> = types()
        .into_iter()
        .filter(|found| resource_type.is_none_or(|wanted| found["resource_type"] == wanted))
        .filter(|found| names.is_empty() || names.iter().any(|name| found["name"] == *name))
        .collect();
    let total = all.len() as u64;
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = page.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let items: Vec<Value> = all.into_iter().skip(skip).take(take).collect();
    Ok(count_headers(Reply::json(&items)?, total, page.limit))
}

/// `GET /policytypes/{ref}`.
pub async fn get_type(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("ref");
    let found = types().into_iter().find(|found| found["ref"] == text || found["id"] == text);
    Reply::json(
        &found
            .ok_or_else(|| ApiError::not_found(format!("PolicyType with a reference of id \"{text}\" not found.")))?,
    )
}
