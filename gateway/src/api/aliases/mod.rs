//! Aliases: chat commands for actions (spec/api.md §7.9, spec/chatops.md).

pub mod execute;

use auth::Target;
use bus::Change;
use content::checks;
use model::{ActionAlias, Id, Versioned};
use store::{Order, StoreExt};

use super::changed;
use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec};
use crate::http::{ApiError, Reply};

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[("name", Filter::Text("name")), ("pack", Filter::Text("pack"))],
    sortable: &[("name", "name"), ("pack", "pack")],
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
            "action_ref",
            "formats",
            "ack",
            "result",
            "extra",
            "immutable_parameters",
            "metadata_file",
        ],
        &[],
    ),
    offset: true,
};

/// `GET /actionalias`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<ActionAlias>(&ctx, &SPEC, ActionAlias::to_api).await
}

/// `GET /actionalias/{ref}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = ctx.by_ref::<ActionAlias>(ctx.params.get("ref")).await?;
    Ok(Reply::json(&alias.to_api())?.version(alias.rev))
}

/// The alias of a request body.
fn parse(ctx: &Ctx) -> Result<ActionAlias, ApiError> {
    Ok(checks::alias(&ctx.any_object()?, ctx.services().now())?)
}

fn target(alias: &ActionAlias) -> Target {
    Target::in_pack("action_alias", &alias.pack, &alias.name)
}

/// `POST /actionalias`.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = parse(&ctx)?;
    ctx.require("action_alias_create", target(&alias))?;
    ctx.services().store.insert(&alias).await.map_err(nameless)?;
    changed::<ActionAlias>(ctx.services(), Change::Create, alias.id, &alias.reference);
    Reply::created(&alias.to_api())
}

/// A conflict among aliases never names the existing one.
fn nameless(error: store::StoreError) -> ApiError {
    let mut error = ApiError::from(error);
    error.conflict = error.conflict.map(|_| None);
    error
}

/// `PUT /actionalias/{id}`: by id only, replaces the whole alias.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("id");
    if text.parse::<Id>().is_err() && ctx.find_ref::<ActionAlias>(text).await?.is_some() {
        let fault = format!("ValidationError (ActionAliasDB:{text}) (Invalid ObjectID: ['id'])");
        return Err(ApiError::bad_request(fault));
    }
    let old = ctx.unchanged(ctx.by_ref::<ActionAlias>(text).await?)?;
    let doc = ActionAlias { id: old.id, ..parse(&ctx)? };
    // The stored alias was looked at by its path; what it becomes has to be the caller's to change as well.
    ctx.require("action_alias_modify", target(&doc))?;
    let alias = ctx.services().store.update(Versioned { rev: old.rev, doc }).await.map_err(nameless)?;
    changed::<ActionAlias>(ctx.services(), Change::Update, alias.id, &alias.reference);
    Ok(Reply::json(&alias.to_api())?.version(alias.rev))
}

/// `DELETE /actionalias/{ref}`.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let alias = ctx.unchanged(ctx.by_ref::<ActionAlias>(ctx.params.get("ref")).await?)?;
    ctx.remove(&alias).await?;
    changed::<ActionAlias>(ctx.services(), Change::Delete, alias.id, &alias.reference);
    Ok(Reply::no_content())
}
