//! Reading executions: lists, one, children, attributes, filters.

use domain::view::{self, ViewOptions};
use futures::future::try_join_all;
use model::{Execution, Id, Object, Versioned};
use serde_json::{Map, Value};
use store::{Cond, Order, Query as Find, Store, StoreExt};

use super::find;
use crate::context::Ctx;
use crate::http::list::{Attributes, Filter, List, ListSpec, Projection};
use crate::http::{ApiError, Reply};

const ATTRIBUTES: Attributes = Attributes {
    known: &[
        "id",
        "action",
        "runner",
        "liveaction",
        "status",
        "start_timestamp",
        "end_timestamp",
        "elapsed_seconds",
        "parameters",
        "result",
        "result_size",
        "context",
        "trigger",
        "trigger_type",
        "trigger_instance",
        "rule",
        "parent",
        "children",
        "log",
        "delay",
        "web_url",
        "workflow_execution",
        "task_execution",
    ],
    excludable: &["result", "trigger_instance", "status"],
    mandatory: &["id"],
    cut: &["action", "runner", "liveaction", "rule", "trigger", "trigger_type", "trigger_instance"],
};

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[
        ("action", Filter::Text("action")),
        ("status", Filter::Text("status")),
        ("liveaction", Filter::Text("liveaction")),
        ("parent", Filter::Text("parent")),
        ("rule", Filter::Text("rule")),
        ("runner", Filter::Text("runner")),
        ("trigger", Filter::Text("trigger")),
        ("trigger_type", Filter::Text("trigger_type")),
        ("trigger_instance", Filter::Text("trigger_instance")),
        ("user", Filter::Text("user")),
        ("timestamp", Filter::Time("start_timestamp")),
        ("timestamp_gt", Filter::After("start_timestamp")),
        ("timestamp_lt", Filter::Before("start_timestamp")),
    ],
    sortable: &[
        ("action", "action"),
        ("status", "status"),
        ("parent", "parent"),
        ("rule", "rule"),
        ("runner", "runner"),
        ("timestamp", "start_timestamp"),
        ("trigger", "trigger"),
        ("trigger_type", "trigger_type"),
        ("trigger_instance", "trigger_instance"),
        ("user", "user"),
    ],
    order: &[Order::Desc("start_timestamp"), Order::Asc("action")],
    attributes: ATTRIBUTES,
    offset: true,
};

/// What masking needs of action and runner is shown too when a part of them is asked for.
fn with_masking_keys(projection: Projection) -> Projection {
    let Projection::Include(mut paths) = projection else { return projection };
    for (top, keys) in [
        ("action", &["uid", "ref", "pack", "parameters", "output_schema"][..]),
        ("runner", &["name", "runner_parameters", "output_key"][..]),
    ] {
        if paths.iter().any(|path| path.split_once('.').is_some_and(|(first, _)| first == top)) {
            paths.extend(keys.iter().map(|key| format!("{top}.{key}")));
        }
    }
    Projection::Include(paths)
}

/// Sorting that other parameters ask for.
fn order(ctx: &Ctx, list: &mut List) {
    let only_after = ctx.query.text("timestamp_gt").is_some() && ctx.query.text("timestamp_lt").is_none();
    if ctx.query.text("sort_asc").is_some() {
        list.find.order = vec![Order::Asc("start_timestamp")];
    } else if ctx.query.text("sort_desc").is_some() {
        list.find.order = vec![Order::Desc("start_timestamp")];
    } else if only_after && ctx.query.text("sort").is_none() {
        list.find.order = vec![Order::Asc("start_timestamp")];
    }
}

/// `GET /executions`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut list = SPEC.parse(&ctx)?;
    order(&ctx, &mut list);
    if let Some(user) = ctx.only_user() {
        list.find.conds.push(Cond::Eq("user", user.into()));
    }
    list.projection = with_masking_keys(std::mem::take(&mut list.projection));
    let (rows, total) = list.fetch::<Execution>(&ctx).await?;
    let with_blobs = matches!(&list.projection, Projection::Include(_)) && list.projection.shows("result");
    let options = ViewOptions { show_secrets: ctx.show_secrets()?, with_blobs, fresh: false };
    let services = ctx.services();
    let items = try_join_all(rows.iter().map(|row| view::execution(services, row, options))).await?;
    list.reply(items, total)
}

/// Largest `max_result_size`.
const MAX_RESULT_SIZE: i64 = 14 * 1024 * 1024;

/// `GET /executions/{id}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let projection = with_masking_keys(Projection::parse(&ctx, &ATTRIBUTES)?);
    let max_result_size = ctx.query.integer("max_result_size")?;
    if let Some(max) = max_result_size
        && !(0..=MAX_RESULT_SIZE).contains(&max)
    {
        return Err(ApiError::bad_request(format!(
            "max_result_size query parameter must be between 0 and {MAX_RESULT_SIZE}"
        )));
    }
    let execution = find(&ctx, ctx.params.get("id")).await?;
    let fits = max_result_size.is_none_or(|max| execution.result_size <= max.unsigned_abs());
    let with_blobs = fits && projection.shows("result");
    let options = ViewOptions { show_secrets: ctx.show_secrets()?, with_blobs, fresh: false };
    let mut object = view::execution(ctx.services(), &execution, options).await?;
    if !fits {
        object.remove("result");
    }
    Ok(Reply::json(&projection.apply(&ATTRIBUTES, object))?.version(execution.rev))
}

/// `GET /executions/{id}/attribute/{attribute}`: the bare value, not masked.
pub async fn attribute(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.params.get("attribute");
    if !ATTRIBUTES.excludable.contains(&name) {
        return Err(ApiError::bad_request(format!(
            "Invalid attribute \"{name}\" specified. Valid attributes are: {}",
            ATTRIBUTES.excludable.join(", ")
        )));
    }
    let execution = find(&ctx, ctx.params.get("id")).await?;
    let value = match name {
        "status" => Value::from(execution.status.as_str()),
        "result" => match view::result(ctx.services(), &execution).await? {
            Value::Null => Value::Object(Map::new()),
            value => value,
        },
        _ => execution.cause.as_ref().map_or_else(|| Value::Object(Map::new()), |cause| cause.trigger_instance.clone()),
    };
    Reply::json(&value)
}

/// Executions below one that are shown at most.
const MAX_DESCENDANTS: usize = 10_000;

/// `GET /executions/{id}/children`: all descendants, depth first.
pub async fn children(ctx: Ctx) -> Result<Reply, ApiError> {
    let depth = ctx.query.integer("depth")?.unwrap_or(-1);
    let parent = find(&ctx, ctx.params.get("id")).await?;
    let mut found: Vec<Versioned<Execution>> = Vec::new();
    // (execution, level of its children); taken from the end.
    let mut open = vec![(parent.id, 1)];
    while let Some((id, level)) = open.pop() {
        if depth >= 0 && level > depth {
            continue;
        }
        for child in children_of(&ctx, id).await?.into_iter().rev() {
            open.push((child.id, level + 1));
            found.push(child);
        }
        if found.len() > MAX_DESCENDANTS {
            return Err(ApiError::bad_request(format!(
                "The execution has more than {MAX_DESCENDANTS} descendants: give a \"depth\", or list them by \"parent\"."
            )));
        }
    }
    let mut ordered = depth_first(&parent, found);
    if ctx.query.text("result_fmt") == Some("sorted") {
        ordered.sort_by_key(|execution| execution.start_timestamp);
    }
    let services = ctx.services();
    let options = ViewOptions::default();
    let items: Vec<Object> =
        try_join_all(ordered.iter().map(|execution| view::execution(services, execution, options))).await?;
    Reply::json(&items)
}

async fn children_of(ctx: &Ctx, id: Id) -> Result<Vec<Versioned<Execution>>, ApiError> {
    let find = Find::eq("parent", id).order(Order::Asc("start_timestamp")).limit(MAX_DESCENDANTS as u64);
    Ok(ctx.services().store.search::<Execution>(&find).await?)
}

fn depth_first(parent: &Execution, found: Vec<Versioned<Execution>>) -> Vec<Versioned<Execution>> {
    let mut by_parent: std::collections::HashMap<Id, Vec<Versioned<Execution>>> = std::collections::HashMap::new();
    for execution in found {
        if let Some(parent) = execution.parent {
            by_parent.entry(parent).or_default().push(execution);
        }
    }
    for children in by_parent.values_mut() {
        children.sort_by_key(|child| std::cmp::Reverse((child.start_timestamp, child.id)));
    }
    let mut ordered = Vec::new();
    let mut open = by_parent.remove(&parent.id).unwrap_or_default();
    while let Some(execution) = open.pop() {
        let children = by_parent.remove(&execution.id).unwrap_or_default();
        ordered.push(execution);
        open.extend(children);
    }
    ordered
}

/// Distinct values that a filter offers at most.
const MAX_FILTER_VALUES: u64 = 1000;

/// `GET /executions/views/filters`: the values that occur.
pub async fn filters(ctx: Ctx) -> Result<Reply, ApiError> {
    const TYPES: [&str; 7] = ["action", "status", "rule", "runner", "trigger", "trigger_type", "user"];
    let wanted = ctx.query.list("types");
    let store = &ctx.services().store;
    let collection = <Execution as model::Resource>::COLLECTION;
    let visible = ctx.only_user().map_or_else(Find::all, |user| Find::eq("user", user));
    let mut filters = Object::new();
    for field in TYPES.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        let keys = store.distinct(collection, field, &visible, MAX_FILTER_VALUES).await?;
        let mut values: Vec<Value> = keys
            .into_iter()
            .filter_map(|key| match key {
                model::Key::Text(text) => Some(Value::from(text)),
                model::Key::Int(_) => None,
            })
            .collect();
        let nullable = matches!(field, "rule" | "trigger" | "trigger_type");
        if nullable && has_null(store.as_ref(), field, &visible).await? {
            values.insert(0, Value::Null);
        }
        filters.insert(field.to_owned(), values.into());
    }
    Reply::json(&filters)
}

async fn has_null(store: &dyn Store, field: &'static str, visible: &Find) -> Result<bool, ApiError> {
    let find = visible.clone().and(Cond::Absent(field)).limit(1);
    Ok(!store.find(<Execution as model::Resource>::COLLECTION, &find).await?.is_empty())
}
