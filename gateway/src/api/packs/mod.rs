//! Packs: what is registered, their files, and registering (spec/api.md §7.10).

pub mod files;
pub mod index;
pub mod install;
pub mod nodes;
pub mod register;

use model::{Id, Pack, Versioned};
use store::{Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec};
use crate::http::{ApiError, Reply};

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[("name", Filter::Text("name")), ("ref", Filter::Text("ref"))],
    sortable: &[("name", "name"), ("ref", "ref")],
    order: &[Order::Asc("ref")],
    // Packs are open documents: any attribute may be there.
    attributes: Attributes::plain(&[]),
    offset: true,
};

/// By ref or id.
async fn find(ctx: &Ctx, text: &str) -> Result<Option<Versioned<Pack>>, ApiError> {
    let store = &ctx.services().store;
    if let Some(pack) = store.first::<Pack>(&Find::eq("ref", text)).await? {
        return Ok(Some(pack));
    }
    match text.parse::<Id>() {
        Ok(id) => Ok(store.read::<Pack>(id).await?),
        Err(_) => Ok(None),
    }
}

async fn known(ctx: &Ctx, text: &str) -> Result<Versioned<Pack>, ApiError> {
    let unknown = || ApiError::not_found(format!("Resource with a ref or id \"{text}\" not found"));
    find(ctx, text).await?.ok_or_else(unknown)
}

/// `GET /packs`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<Pack>(&ctx, &SPEC, Pack::to_api).await
}

/// `GET /packs/{ref}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&known(&ctx, ctx.params.get("ref")).await?.to_api())
}
