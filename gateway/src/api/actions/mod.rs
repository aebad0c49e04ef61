//! Actions and their views (spec/api.md §7.1).

pub mod change;
pub mod clone;

use domain::Services;
use model::{Action, Object};
use serde_json::{Value, json};
use store::Order;

use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec};
use crate::http::{ApiError, Reply};

const ATTRIBUTES: Attributes = Attributes::with_ref(
    &[
        "id",
        "uid",
        "ref",
        "pack",
        "name",
        "description",
        "enabled",
        "runner_type",
        "entry_point",
        "parameters",
        "output_schema",
        "tags",
        "notify",
        "metadata_file",
    ],
    &["parameters", "notify"],
);

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: None,
    filters: &[("name", Filter::Text("name")), ("pack", Filter::Text("pack"))],
    sortable: &[],
    order: &[Order::Asc("pack"), Order::Asc("name")],
    attributes: ATTRIBUTES,
    offset: true,
};

/// Those of a list's actions that carry the tag asked for. Tags have no index: actions are few.
fn tagged(ctx: &Ctx, action: &Action) -> bool {
    ctx.query.text("tags").is_none_or(|name| action.tags.iter().any(|tag| tag.name == name))
}

/// `GET /actions`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    if ctx.query.text("tags").is_none() {
        return list::simple::<Action>(&ctx, &SPEC, Action::to_api).await;
    }
    let mut list = SPEC.parse(&ctx)?;
    let page = list.page;
    (list.find.limit, list.find.offset) = (None, 0);
    let (rows, _) = list.fetch::<Action>(&ctx).await?;
    let matching: Vec<&Action> = rows.iter().map(|row| &row.doc).filter(|action| tagged(&ctx, action)).collect();
    let total = matching.len() as u64;
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = page.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    list.reply(matching.into_iter().skip(skip).take(take).map(Action::to_api).collect(), total)
}

/// `GET /actions/{ref}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let action = ctx.by_ref::<Action>(ctx.params.get("ref")).await?;
    Ok(Reply::json(&action.to_api())?.version(action.rev))
}

/// Parameters of the runner, updated by the action's.
async fn merged_parameters(services: &Services, action: &Action) -> Result<Object, ApiError> {
    let runner = services.catalog.runner_type(&action.runner_type).await?;
    let runner = runner.map(|runner| runner.runner_parameters.clone()).unwrap_or_default();
    Ok(model::schema::effective_parameters(&runner, &action.parameters))
}

/// `GET /actions/views/parameters/{ref}`.
pub async fn parameters(ctx: Ctx) -> Result<Reply, ApiError> {
    let action = ctx.by_ref::<Action>(ctx.params.get("ref")).await?;
    Reply::json(&json!({"parameters": merged_parameters(ctx.services(), &action).await?}))
}

async fn overview_of(ctx: &Ctx, action: &Action) -> Result<Object, ApiError> {
    let mut object = action.to_api();
    object.insert("parameters".to_owned(), Value::Object(merged_parameters(ctx.services(), action).await?));
    Ok(object)
}

/// `GET /actions/views/overview`.
pub async fn overviews(ctx: Ctx) -> Result<Reply, ApiError> {
    let list = SPEC.parse(&ctx)?;
    let (rows, total) = list.fetch::<Action>(&ctx).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        items.push(overview_of(&ctx, row).await?);
    }
    list.reply(items, total)
}

/// `GET /actions/views/overview/{ref}`.
pub async fn overview(ctx: Ctx) -> Result<Reply, ApiError> {
    let action = ctx.by_ref::<Action>(ctx.params.get("ref")).await?;
    Reply::json(&overview_of(&ctx, &action).await?)
}

/// `GET /actions/views/entry_point/{ref}`: the script as it is on disk.
pub async fn entry_point(ctx: Ctx) -> Result<Reply, ApiError> {
    let reference = ctx.params.get("ref");
    let action = ctx.by_ref::<Action>(reference).await?;
    if action.entry_point.is_empty() {
        return Err(ApiError::not_found(format!("Action ref_or_id={reference} has no entry_point to output")));
    }
    let path = super::packs::files::locate(&ctx, &action.pack, &format!("actions/{}", action.entry_point)).await?;
    let file = super::packs::files::read(&path, &action.entry_point, ctx.gateway.limits.max_file_size).await?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let kind = match extension {
        "py" => "text/x-python",
        "yaml" | "yml" => "application/x-yaml",
        _ => mime_guess::from_path(&path).first_raw().unwrap_or("text/plain"),
    };
    Ok(Reply::raw(kind, file.bytes))
}
