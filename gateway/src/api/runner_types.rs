//! Runner types (spec/api.md §7.11).

use bus::Change;
use model::{Id, RunnerType, Versioned};
use store::{Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec};
use crate::http::shape::{Kind, Shape, Take, may};
use crate::http::{ApiError, Reply};

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[("name", Filter::Texts("name"))],
    sortable: &[("name", "name")],
    order: &[Order::Asc("name")],
    attributes: Attributes::plain(&[
        "id",
        "uid",
        "name",
        "description",
        "enabled",
        "runner_package",
        "runner_module",
        "query_module",
        "runner_parameters",
        "output_key",
        "output_schema",
    ]),
    offset: true,
};

/// By name or id.
async fn find(ctx: &Ctx, text: &str) -> Result<Versioned<RunnerType>, ApiError> {
    let store = &ctx.services().store;
    if let Some(runner) = store.first::<RunnerType>(&Find::eq("name", text)).await? {
        return Ok(runner);
    }
    let by_id = match text.parse::<Id>() {
        Ok(id) => store.read::<RunnerType>(id).await?,
        Err(_) => None,
    };
    by_id.ok_or_else(|| ApiError::not_found(format!("Resource with a name or id \"{text}\" not found")))
}

/// `GET /runnertypes`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<RunnerType>(&ctx, &SPEC, RunnerType::to_api).await
}

/// `GET /runnertypes/{name}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let runner = find(&ctx, ctx.params.get("name")).await?;
    Ok(Reply::json(&runner.to_api())?.version(runner.rev))
}

pub(crate) const BODY: Shape = Shape { fields: &[may("enabled", Kind::Boolean)], closed: false };

/// `PUT /runnertypes/{name}`: only `enabled` is taken.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let mut runner = ctx.unchanged(find(&ctx, ctx.params.get("name")).await?)?;
    if let Some(enabled) = body.take_bool("enabled") {
        runner.doc.enabled = enabled;
        runner = ctx.services().store.update(runner).await?;
        super::changed::<RunnerType>(ctx.services(), Change::Update, runner.id, &runner.name);
    }
    Ok(Reply::json(&runner.to_api())?.version(runner.rev))
}
