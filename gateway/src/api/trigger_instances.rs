//! Trigger instances (spec/api.md §7.7).

use domain::triggers::{self, Dispatch};
use model::{Key, Trigger, TriggerInstance};
use serde_json::{Value, json};
use store::{Cond, Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::{Attributes, Filter, ListSpec};
use crate::http::{ApiError, Reply};

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[
        ("trigger", Filter::Text("trigger")),
        ("timestamp_gt", Filter::After("occurrence_time")),
        ("timestamp_lt", Filter::Before("occurrence_time")),
    ],
    sortable: &[("trigger", "trigger"), ("timestamp_gt", "occurrence_time"), ("timestamp_lt", "occurrence_time")],
    order: &[Order::Desc("occurrence_time"), Order::Asc("trigger")],
    attributes: Attributes::plain(&["id", "trigger", "payload", "occurrence_time", "status"]),
    offset: true,
};

/// `GET /triggerinstances`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut list = SPEC.parse(&ctx)?;
    if let Some(trigger_type) = ctx.query.text("trigger_type") {
        let triggers = ctx.services().store.search::<Trigger>(&Find::eq("type", trigger_type)).await?;
        let refs = triggers.iter().map(|trigger| Key::from(trigger.reference.as_str())).collect();
        list.find.conds.push(Cond::In("trigger", refs));
    }
    let (rows, total) = list.fetch::<TriggerInstance>(&ctx).await?;
    list.reply(rows.iter().map(|row| row.to_api()).collect(), total)
}

/// `GET /triggerinstances/{id}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&ctx.by_id::<TriggerInstance>(ctx.params.get("id")).await?.to_api())
}

/// `POST /triggerinstances/{id}/re_emit`: a new instance with the same payload.
pub async fn re_emit(ctx: Ctx) -> Result<Reply, ApiError> {
    let original = ctx.by_id::<TriggerInstance>(ctx.params.get("id")).await?;
    let mut payload = original.payload.clone();
    if !payload.is_object() {
        payload = json!({});
    }
    payload["__context"] = json!({"original_id": original.id});
    let event = Dispatch {
        trigger: original.trigger.clone(),
        payload: payload.clone(),
        occurrence_time: ctx.services().now(),
        id: None,
        trace_context: None,
        validate: false,
        fence: None,
    };
    triggers::dispatch(ctx.services(), event).await?;
    let message = format!("Trigger instance {} succesfully re-sent.", original.id);
    Reply::json(&json!({"message": message, "payload": Value::clone(&payload)}))
}
