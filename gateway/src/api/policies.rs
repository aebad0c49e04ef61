//! Policies and their types (spec/api.md §7.12, spec/model.md §8.21).

use bus::Change;
use content::builtin::policy_types;
use content::checks;
use model::{Object, Policy, Versioned};
use store::{Order, StoreExt};

use super::{changed, refuse_system_pack};
use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec, Page, count_headers};
use crate::http::{ApiError, Reply};

pub(crate) const SPEC: ListSpec = ListSpec {
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
    let policy = ctx.by_ref::<Policy>(ctx.params.get("ref")).await?;
    Ok(Reply::json(&policy.to_api())?.version(policy.rev))
}

/// The policy of a request body, checked against its type.
fn parse(ctx: &Ctx, default_pack: &str) -> Result<Policy, ApiError> {
    let policy = checks::policy(&ctx.any_object()?, default_pack, ctx.services().now())?;
    refuse_system_pack(&policy.pack)?;
    Ok(policy)
}

/// `POST /policies`.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let policy = parse(&ctx, "default")?;
    ctx.services().store.insert(&policy).await?;
    changed::<Policy>(ctx.services(), Change::Create, policy.id, &policy.reference);
    Reply::created(&policy.to_api())
}

/// `PUT /policies/{ref}`: replaces the whole policy.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let old = ctx.unchanged(ctx.by_ref::<Policy>(ctx.params.get("ref")).await?)?;
    refuse_system_pack(&old.pack)?;
    let doc = Policy { id: old.id, ..parse(&ctx, &old.pack)? };
    let policy = ctx.services().store.update(Versioned { rev: old.rev, doc }).await?;
    changed::<Policy>(ctx.services(), Change::Update, policy.id, &policy.reference);
    Ok(Reply::json(&policy.to_api())?.version(policy.rev))
}

/// `DELETE /policies/{ref}`.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let policy = ctx.unchanged(ctx.by_ref::<Policy>(ctx.params.get("ref")).await?)?;
    refuse_system_pack(&policy.pack)?;
    ctx.remove(&policy).await?;
    changed::<Policy>(ctx.services(), Change::Delete, policy.id, &policy.reference);
    Ok(Reply::no_content())
}

/// `GET /policytypes`.
pub async fn list_types(ctx: Ctx) -> Result<Reply, ApiError> {
    let page = Page::parse(&ctx, Some(100), true)?;
    let (resource_type, names) = (ctx.query.text("resource_type"), ctx.query.list("name"));
    let all: Vec<Object> = policy_types()
        .into_iter()
        .filter(|found| resource_type.is_none_or(|wanted| found["resource_type"] == wanted))
        .filter(|found| names.is_empty() || names.iter().any(|name| found["name"] == *name))
        .collect();
    let total = all.len() as u64;
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = page.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let items: Vec<Object> = all.into_iter().skip(skip).take(take).collect();
    Ok(count_headers(Reply::json(&items)?, total, page.limit))
}

/// `GET /policytypes/{ref}`.
pub async fn get_type(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("ref");
    let found = policy_types().into_iter().find(|found| found["ref"] == text || found["id"] == text);
    Reply::json(
        &found
            .ok_or_else(|| ApiError::not_found(format!("PolicyType with a reference of id \"{text}\" not found.")))?,
    )
}
