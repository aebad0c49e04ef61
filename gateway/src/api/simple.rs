//! Resources that are only listed and read here: aliases, sensor types, configuration schemas.

use model::{ActionAlias, ConfigSchema, SensorType};
use store::{Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec};
use crate::http::{ApiError, Reply};

const ALIASES: ListSpec = ListSpec {
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
pub async fn aliases(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<ActionAlias>(&ctx, &ALIASES, ActionAlias::to_api).await
}

/// `GET /actionalias/{ref}`.
pub async fn alias(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&ctx.by_ref::<ActionAlias>(ctx.params.get("ref")).await?.to_api())
}

const SENSORS: ListSpec = ListSpec {
    default_limit: None,
    filters: &[("name", Filter::Text("name")), ("pack", Filter::Text("pack")), ("enabled", Filter::Boolean("enabled"))],
    sortable: &[],
    order: &[],
    attributes: Attributes::with_ref(
        &[
            "id",
            "uid",
            "ref",
            "pack",
            "name",
            "description",
            "artifact_uri",
            "entry_point",
            "enabled",
            "trigger_types",
            "poll_interval",
            "metadata_file",
        ],
        &[],
    ),
    offset: true,
};

/// `GET /sensortypes`.
pub async fn sensors(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<SensorType>(&ctx, &SENSORS, SensorType::to_api).await
}

/// `GET /sensortypes/{ref}`.
pub async fn sensor(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&ctx.by_ref::<SensorType>(ctx.params.get("ref")).await?.to_api())
}

const SCHEMAS: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[],
    sortable: &[("pack", "pack")],
    order: &[Order::Asc("pack")],
    attributes: Attributes::plain(&["id", "pack", "attributes"]),
    offset: true,
};

/// `GET /config_schemas`.
pub async fn config_schemas(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<ConfigSchema>(&ctx, &SCHEMAS, ConfigSchema::to_api).await
}

/// `GET /config_schemas/{pack}`.
pub async fn config_schema(ctx: Ctx) -> Result<Reply, ApiError> {
    let pack = ctx.params.get("pack");
    match ctx.services().store.first::<ConfigSchema>(&Find::eq("pack", pack)).await? {
        Some(schema) => Reply::json(&schema.to_api()),
        None => Err(ApiError::not_found(format!("Unable to identify resource with pack_ref \"{pack}\"."))),
    }
}
