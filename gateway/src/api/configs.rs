//! Packs' configurations and their schemas (spec/api.md §7.10, spec/packs.md §4).

use content::checks;
use model::{Config, ConfigSchema, Object};
use serde_json::{Value, json};
use store::{Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::{self, Attributes, ListSpec};
use crate::http::{ApiError, Reply};

pub(crate) const CONFIGS: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[],
    sortable: &[("pack", "pack")],
    order: &[Order::Asc("pack")],
    attributes: Attributes::plain(&["id", "pack", "values"]),
    offset: true,
};

/// Secret values masked as the pack's schema says.
async fn show(ctx: &Ctx, config: &Config) -> Result<Object, ApiError> {
    let mut object = config.to_api();
    if !ctx.show_secrets()? && ctx.services().settings.mask_secrets {
        let schema = ctx.services().catalog.config_schema(&config.pack).await?;
        let properties = schema.map(|schema| schema.attributes.clone()).unwrap_or_default();
        let schema = json!({"type": "object", "properties": properties});
        let values = model::schema::mask(&schema, &Value::Object(config.values.clone()));
        object.insert("values".to_owned(), values);
    }
    Ok(object)
}

/// `GET /configs`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let list = CONFIGS.parse(&ctx)?;
    let (rows, total) = list.fetch::<Config>(&ctx).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        items.push(show(&ctx, row).await?);
    }
    list.reply(items, total)
}

/// `GET /configs/{pack}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let pack = ctx.params.get("pack");
    match ctx.services().store.first::<Config>(&Find::eq("pack", pack)).await? {
        Some(config) => Reply::json(&show(&ctx, &config).await?),
        None => Err(unknown(pack)),
    }
}

/// `PUT /configs/{pack}`: the body is what the pack's configuration is from now on, as it is: defaults are filled in
/// when an action or sensor asks. Nothing is written unless the pack's schema takes it.
pub async fn replace(ctx: Ctx) -> Result<Reply, ApiError> {
    let pack = ctx.params.get("pack").to_owned();
    let values = ctx.any_object()?;
    let services = ctx.services();
    let Some(schema) = services.store.first::<ConfigSchema>(&Find::eq("pack", pack.as_str())).await? else {
        let pack = model::python::repr(&Value::from(pack.as_str()));
        return Err(ApiError::not_found(format!("Unable to find the ConfigSchemaDB instance. {{'pack': {pack}}}")));
    };
    let path = content::pack_dir::config_file(&services.settings.base_path, &schema.pack);
    checks::config_values(&schema.attributes, &values, &schema.pack, &path.display().to_string())?;
    let config = content::configure(services, &schema.pack, values).await?;
    tracing::info!(user = ctx.identity.user, pack, "configuration replaced");
    Reply::json(&show(&ctx, &config).await?)
}

pub(crate) const SCHEMAS: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[],
    sortable: &[("pack", "pack")],
    order: &[Order::Asc("pack")],
    attributes: Attributes::plain(&["id", "pack", "attributes"]),
    offset: true,
};

/// `GET /config_schemas`.
pub async fn schemas(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<ConfigSchema>(&ctx, &SCHEMAS, ConfigSchema::to_api).await
}

/// `GET /config_schemas/{pack}`.
pub async fn schema(ctx: Ctx) -> Result<Reply, ApiError> {
    let pack = ctx.params.get("pack");
    match ctx.services().store.first::<ConfigSchema>(&Find::eq("pack", pack)).await? {
        Some(schema) => Reply::json(&schema.to_api()),
        None => Err(unknown(pack)),
    }
}

fn unknown(pack: &str) -> ApiError {
    ApiError::not_found(format!("Unable to identify resource with pack_ref \"{pack}\"."))
}
