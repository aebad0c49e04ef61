//! Resources that are mostly listed and read here: sensor types and timers.

use bus::Change;
use model::{SensorReport, SensorType, Trigger};
use serde_json::json;
use store::{Order, Query, StoreExt};

use super::{changed, refuse_system_pack};
use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec};
use crate::http::shape::{Kind, Shape, Take, may};
use crate::http::{ApiError, Reply};

pub(crate) const SENSORS: ListSpec = ListSpec {
    default_limit: None,
    filters: &[("name", Filter::Text("name")), ("pack", Filter::Text("pack")), ("enabled", Filter::Boolean("enabled"))],
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
    let sensor = ctx.by_ref::<SensorType>(ctx.params.get("ref")).await?;
    Ok(Reply::json(&sensor.to_api())?.version(sensor.rev))
}

/// `GET /sensortypes/{ref}/state`: what the node that runs it said last.
pub async fn sensor_state(ctx: Ctx) -> Result<Reply, ApiError> {
    let sensor = ctx.by_ref::<SensorType>(ctx.params.get("ref")).await?;
    let id = SensorReport::id_of(&sensor.reference);
    match ctx.services().store.read::<SensorReport>(id).await? {
        Some(report) => Reply::json(&report.to_api()),
        None => Reply::json(&json!({ "ref": sensor.reference, "state": "unknown" })),
    }
}

/// `GET /sensor_states`: all reports, by ref.
pub async fn sensor_states(ctx: Ctx) -> Result<Reply, ApiError> {
    let query = Query { order: vec![Order::Asc("ref")], ..Query::default() };
    let reports = ctx.services().store.search::<SensorReport>(&query).await?;
    Reply::json(&reports.iter().map(|report| report.to_api()).collect::<Vec<_>>())
}

pub(crate) const SENSOR_BODY: Shape = Shape { fields: &[may("enabled", Kind::Boolean)], closed: false };

/// `PUT /sensortypes/{ref}`: only `enabled` is taken; without it the sensor is disabled.
pub async fn update_sensor(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&SENSOR_BODY)?;
    let mut sensor = ctx.unchanged(ctx.by_ref::<SensorType>(ctx.params.get("ref")).await?)?;
    refuse_system_pack(&sensor.pack)?;
    sensor.doc.enabled = body.take_bool("enabled").unwrap_or(false);
    let sensor = ctx.services().store.update(sensor).await?;
    changed::<SensorType>(ctx.services(), Change::Update, sensor.id, &sensor.reference);
    Ok(Reply::json(&sensor.to_api())?.version(sensor.rev))
}

const TIMER_TYPES: [&str; 3] = ["core.st2.IntervalTimer", "core.st2.DateTimer", "core.st2.CronTimer"];

/// `GET /timers`: the triggers of the timer types.
pub async fn timers(ctx: Ctx) -> Result<Reply, ApiError> {
    let wanted = ctx.query.text("timer_type");
    if let Some(timer_type) = wanted
        && !TIMER_TYPES.contains(&timer_type)
    {
        let fault = format!("Timer type must be one of {}, not \"{timer_type}\".", TIMER_TYPES.join(", "));
        return Err(ApiError::bad_request(fault));
    }
    let mut timers = Vec::new();
    for timer_type in TIMER_TYPES.into_iter().filter(|timer_type| wanted.is_none_or(|wanted| wanted == *timer_type)) {
        let triggers = ctx.services().catalog.triggers_of_type(timer_type).await?;
        timers.extend(triggers.iter().map(|trigger| trigger.to_api()));
    }
    Reply::json(&timers)
}

/// `GET /timers/{ref or id}`.
pub async fn timer(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("ref");
    let trigger = ctx.by_ref::<Trigger>(text).await?;
    if !TIMER_TYPES.contains(&trigger.type_ref.as_str()) {
        return Err(ApiError::unknown_ref(text));
    }
    Reply::json(&trigger.to_api())
}
