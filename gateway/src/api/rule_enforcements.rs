//! Rule enforcements and their views (spec/api.md §7.16).

use std::collections::HashMap;

use domain::view::{self, ViewOptions};
use model::{Execution, Id, Object, RuleEnforcement, TriggerInstance};
use serde_json::Value;
use store::{Cond, Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec, Projection};
use crate::http::{ApiError, Reply};

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(50),
    filters: &[
        ("execution", Filter::Text("execution")),
        ("rule_ref", Filter::Text("rule_ref")),
        ("rule_id", Filter::Text("rule_id")),
        ("trigger_instance", Filter::Text("trigger_instance")),
        ("enforced_at_gt", Filter::After("enforced_at")),
        ("enforced_at_lt", Filter::Before("enforced_at")),
    ],
    sortable: &[("rule_ref", "rule_ref"), ("rule_id", "rule_id"), ("enforced_at", "enforced_at")],
    order: &[Order::Desc("enforced_at"), Order::Asc("rule_ref")],
    attributes: Attributes::plain(&[
        "id",
        "trigger_instance_id",
        "execution_id",
        "failure_reason",
        "rule",
        "enforced_at",
        "status",
        "trigger_instance",
        "execution",
    ]),
    offset: true,
};

/// What a view shows of an execution.
const EXECUTION_PARTS: [&str; 8] = [
    "action.ref",
    "action.parameters",
    "runner.name",
    "runner.runner_parameters",
    "parameters",
    "status",
    "start_timestamp",
    "result",
];
const EXECUTION: Attributes =
    Attributes { known: &[], excludable: &[], mandatory: &["id"], cut: &["action", "runner"] };

/// `GET /ruleenforcements`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<RuleEnforcement>(&ctx, &SPEC, RuleEnforcement::to_api).await
}

/// `GET /ruleenforcements/{id}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&ctx.by_id::<RuleEnforcement>(ctx.params.get("id")).await?.to_api())
}

async fn views_of(ctx: &Ctx, rows: &[&RuleEnforcement]) -> Result<Vec<Object>, ApiError> {
    let services = ctx.services();
    let executions: Vec<Id> = rows.iter().filter_map(|row| row.execution_id).collect();
    let instances: Vec<Id> = rows.iter().map(|row| row.trigger_instance_id).collect();
    let executions = services.store.search::<Execution>(&Find::filter(Cond::IdIn(executions))).await?;
    let instances = services.store.search::<TriggerInstance>(&Find::filter(Cond::IdIn(instances))).await?;
    let projection =
        Projection::Include(EXECUTION_PARTS.into_iter().filter(|p| *p != "result").map(str::to_owned).collect());
    let mut shown: HashMap<Id, Object> = HashMap::new();
    let mine = |execution: &Execution| ctx.only_user().is_none_or(|user| execution.user() == Some(user));
    for execution in executions.iter().filter(|execution| mine(execution)) {
        let object = view::execution(services, execution, ViewOptions::default()).await?;
        shown.insert(execution.id, projection.apply(&EXECUTION, object));
    }
    let instances: HashMap<Id, Object> = instances.iter().map(|row| (row.id, row.to_api())).collect();
    let part = |found: Option<&Object>| Value::Object(found.cloned().unwrap_or_default());
    Ok(rows
        .iter()
        .map(|row| {
            let mut object = row.to_api();
            let execution = row.execution_id.and_then(|id| shown.get(&id));
            object.insert("trigger_instance".to_owned(), part(instances.get(&row.trigger_instance_id)));
            object.insert("execution".to_owned(), part(execution));
            object
        })
        .collect())
}

/// `GET /ruleenforcements/views`.
pub async fn views(ctx: Ctx) -> Result<Reply, ApiError> {
    let list = SPEC.parse(&ctx)?;
    let (rows, total) = list.fetch::<RuleEnforcement>(&ctx).await?;
    let rows: Vec<&RuleEnforcement> = rows.iter().map(|row| &row.doc).collect();
    list.reply(views_of(&ctx, &rows).await?, total)
}

/// `GET /ruleenforcements/views/{id}`.
pub async fn view_one(ctx: Ctx) -> Result<Reply, ApiError> {
    let row = ctx.by_id::<RuleEnforcement>(ctx.params.get("id")).await?;
    let views = views_of(&ctx, &[&row.doc]).await?;
    Reply::json(views.first().ok_or_else(ApiError::no_route)?)
}
