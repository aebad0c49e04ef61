//! Traces (spec/model.md §8.24, spec/api.md §7.16), put together from what belongs to them.

use std::collections::{HashMap, HashSet};

use domain::executions::follow_up::{ACTION_TRIGGER, NOTIFY_TRIGGER};
use model::trace::{EXECUTION_TAG, INSTANCE_TAG, uid_of};
use model::{Execution, Id, Key, Object, Resource, RuleEnforcement, Timestamp, TriggerInstance, Versioned};
use serde_json::{Value, json};
use store::{Cond, Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::{Attributes, ListSpec, Page, Projection, count_headers};
use crate::http::{ApiError, Reply};

/// What both collections know of a trace that begins with one of their documents.
pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[],
    sortable: &[],
    order: &[Order::Desc("trace_start"), Order::Asc("trace_tag")],
    attributes: Attributes::plain(&[
        "id",
        "uid",
        "trace_tag",
        "start_timestamp",
        "trigger_instances",
        "rules",
        "action_executions",
    ]),
    offset: true,
};

/// Where a trace begins.
#[derive(Debug)]
enum Root {
    Execution(Box<Versioned<Execution>>),
    Instance(Box<Versioned<TriggerInstance>>),
}

impl Root {
    fn id(&self) -> Id {
        match self {
            Self::Execution(execution) => execution.id,
            Self::Instance(instance) => instance.id,
        }
    }

    fn start(&self) -> Timestamp {
        match self {
            Self::Execution(execution) => execution.start_timestamp,
            Self::Instance(instance) => instance.occurrence_time,
        }
    }

    fn tag(&self) -> String {
        match self {
            Self::Execution(execution) => execution.trace_tag(),
            Self::Instance(instance) => instance.trace_tag(),
        }
    }
}

/// `GET /traces`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let page = Page::parse(&ctx, SPEC.default_limit, SPEC.offset)?;
    let projection = Projection::parse(&ctx, &SPEC.attributes)?;
    let ascending = ctx.query.text("sort_asc").is_some();
    let (roots, total) = find(&ctx, page, ascending).await?;
    let items = shown(&ctx, &roots).await?;
    let items: Vec<Object> = items.into_iter().map(|item| projection.apply(&SPEC.attributes, item)).collect();
    Ok(count_headers(Reply::json(&items)?, total, page.limit))
}

/// `GET /traces/{id}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("id");
    let unknown = || ApiError::unknown_id(text);
    let id: Id = text.parse().map_err(|_| unknown())?;
    let root = root(&ctx, id).await?.ok_or_else(unknown)?;
    let items = shown(&ctx, &[root]).await?;
    Reply::json(&items.into_iter().next().ok_or_else(unknown)?)
}

/// What begins the trace with this id, if the caller may see it: under isolation events are nobody's.
async fn root(ctx: &Ctx, id: Id) -> Result<Option<Root>, ApiError> {
    let store = &ctx.services().store;
    if let Some(execution) = store.read::<Execution>(id).await? {
        let seen = execution.begins_trace() && ctx.only_user().is_none_or(|user| execution.user() == Some(user));
        return Ok(seen.then(|| Root::Execution(Box::new(execution))));
    }
    if ctx.only_user().is_some() {
        return Ok(None);
    }
    let instance = store.read::<TriggerInstance>(id).await?;
    Ok(instance.filter(|instance| instance.begins_trace()).map(|row| Root::Instance(Box::new(row))))
}

/// 400 unless there is a trace with the id that a request's context names (spec/api.md §7.2 step 7).
pub(crate) async fn require(ctx: &Ctx, context: &Object) -> Result<(), ApiError> {
    let named = context.get("trace_context").and_then(|trace| trace.get("id_")).filter(|id| !id.is_null());
    let Some(named) = named else { return Ok(()) };
    let text = named.as_str().map_or_else(|| named.to_string(), str::to_owned);
    let found = match text.parse::<Id>() {
        Ok(id) => root(ctx, id).await?.is_some(),
        Err(_) => false,
    };
    if found { Ok(()) } else { Err(ApiError::bad_request(format!("Unable to find Trace with id=\"{text}\""))) }
}

/// Which traces a request asks for: conditions that hold for either collection, or nothing at all.
async fn wanted(ctx: &Ctx) -> Result<Option<Vec<Cond>>, ApiError> {
    let store = &ctx.services().store;
    let mut conds = vec![Cond::Present("trace_start")];
    let mut ids: Option<HashSet<Id>> = ctx.query.ids("id")?.map(HashSet::from_iter);
    let mut only = |found: HashSet<Id>| {
        let both = match ids.take() {
            Some(ids) => ids.intersection(&found).copied().collect(),
            None => found,
        };
        ids = Some(both);
    };
    if let Some(text) = ctx.query.text("execution") {
        let execution = match text.parse::<Id>() {
            Ok(id) => store.read::<Execution>(id).await?,
            Err(_) => None,
        };
        only(execution.iter().map(|execution| execution.trace()).collect());
    }
    if let Some(text) = ctx.query.text("trigger_instance") {
        let instance = match text.parse::<Id>() {
            Ok(id) => store.read::<TriggerInstance>(id).await?,
            Err(_) => None,
        };
        only(instance.iter().map(|instance| instance.trace()).collect());
    }
    if let Some(rule) = ctx.query.text("rule") {
        let matches = Find::eq("rule_id", rule).order(Order::Desc("enforced_at")).limit(ctx.gateway.limits.max_rows);
        let matches = store.search::<RuleEnforcement>(&matches).await?;
        let instances = matches.iter().map(|row| row.trigger_instance_id).collect();
        let instances = store.search::<TriggerInstance>(&Find::filter(Cond::IdIn(instances))).await?;
        only(instances.iter().map(|instance| instance.trace()).collect());
    }
    if let Some(tag) = ctx.query.text("trace_tag") {
        // Tags that nobody gave are in no index: they say what they begin with.
        if let Some(id) = tag.strip_prefix(INSTANCE_TAG).and_then(|id| id.parse::<Id>().ok()) {
            only(HashSet::from([id]));
        } else if let Some(liveaction) = tag.strip_prefix(EXECUTION_TAG).filter(|id| id.parse::<Id>().is_ok()) {
            let execution = store.first::<Execution>(&Find::eq("liveaction", liveaction)).await?;
            only(execution.iter().map(|execution| execution.id).collect());
        } else {
            conds.push(Cond::Eq("trace_tag", tag.into()));
        }
    }
    match ids {
        Some(ids) if ids.is_empty() => return Ok(None),
        Some(ids) => conds.push(Cond::IdIn(ids.into_iter().collect())),
        None => {}
    }
    Ok(Some(conds))
}

/// A page of traces, and how many there are: each collection gives as many as the page may need.
async fn find(ctx: &Ctx, page: Page, ascending: bool) -> Result<(Vec<Root>, u64), ApiError> {
    let Some(conds) = wanted(ctx).await? else { return Ok((Vec::new(), 0)) };
    let store = &ctx.services().store;
    let max = ctx.gateway.limits.max_rows;
    let up_to = page.limit.map_or(max + 1, |limit| page.offset.saturating_add(limit).min(max + 1));
    let order = if ascending { Order::Asc("trace_start") } else { Order::Desc("trace_start") };
    let find = Find { conds, order: vec![order], limit: Some(up_to), offset: 0 };
    let (of_users, instances) = match ctx.only_user() {
        Some(user) => (find.clone().and(Cond::Eq("user", user.into())), Vec::new()),
        None => (find.clone(), store.search::<TriggerInstance>(&find).await?),
    };
    let executions = store.search::<Execution>(&of_users).await?;
    let got = (executions.len() + instances.len()) as u64;
    if got > max {
        let text = format!("More than {max} records match: use \"limit\" and \"offset\" to get them page by page.");
        return Err(ApiError::bad_request(text));
    }
    let complete = |rows: usize| (rows as u64) < up_to;
    let of_executions = match complete(executions.len()) {
        true => executions.len() as u64,
        false => store.total::<Execution>(&of_users).await?,
    };
    let of_instances = match complete(instances.len()) {
        true => instances.len() as u64,
        false => store.total::<TriggerInstance>(&find).await?,
    };
    let mut roots: Vec<Root> = executions.into_iter().map(|row| Root::Execution(Box::new(row))).collect();
    roots.extend(instances.into_iter().map(|row| Root::Instance(Box::new(row))));
    roots.sort_by_key(|root| (root.start(), root.id()));
    if !ascending {
        roots.reverse();
    }
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = page.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok((roots.into_iter().skip(skip).take(take).collect(), of_executions + of_instances))
}

/// What belongs to traces, by trace.
#[derive(Debug, Default)]
struct Parts {
    executions: Vec<Value>,
    rules: Vec<Value>,
    instances: Vec<Value>,
}

/// Traces with all that belongs to them.
async fn shown(ctx: &Ctx, roots: &[Root]) -> Result<Vec<Object>, ApiError> {
    let mut executions = followers::<Execution>(ctx, roots).await?;
    let mut instances = followers::<TriggerInstance>(ctx, roots).await?;
    for root in roots {
        match root {
            Root::Execution(execution) => executions.push((**execution).clone()),
            Root::Instance(instance) => instances.push((**instance).clone()),
        }
    }
    if let Some(user) = ctx.only_user() {
        executions.retain(|row| row.user() == Some(user));
    }
    executions.sort_by_key(|row| (row.start_timestamp, row.id));
    instances.sort_by_key(|row| (row.occurrence_time, row.id));
    let mut parts: HashMap<Id, Parts> = HashMap::new();
    for row in &executions {
        parts.entry(row.trace()).or_default().executions.push(of_execution(row));
    }
    let mut traces = HashMap::new();
    for row in &instances {
        traces.insert(row.id, row.trace());
        parts.entry(row.trace()).or_default().instances.push(of_instance(row));
    }
    for row in matches(ctx, traces.keys()).await? {
        if let Some(parts) = traces.get(&row.trigger_instance_id).and_then(|trace| parts.get_mut(trace)) {
            let cause = json!({"type": "trigger_instance", "id": row.trigger_instance_id});
            parts.rules.push(component(row.rule.id, &row.rule.reference, row.enforced_at, cause));
        }
    }
    Ok(roots.iter().map(|root| to_api(root, parts.remove(&root.id()).unwrap_or_default())).collect())
}

fn to_api(root: &Root, parts: Parts) -> Object {
    model::resource::to_object(&json!({
        "id": root.id(),
        "uid": uid_of(root.id()),
        "trace_tag": root.tag(),
        "start_timestamp": root.start(),
        "trigger_instances": parts.instances,
        "rules": parts.rules,
        "action_executions": parts.executions,
    }))
}

fn component(id: Id, reference: &str, at: Timestamp, cause: Value) -> Value {
    json!({"object_id": id, "ref": reference, "updated_at": at, "caused_by": cause})
}

fn of_execution(row: &Execution) -> Value {
    let cause = match (row.parent, &row.cause) {
        (Some(parent), _) => json!({"type": "action_execution", "id": parent}),
        (None, Some(cause)) => {
            let rule = row.context.get("rule").and_then(|rule| rule.get("id")).and_then(Value::as_str).unwrap_or("");
            json!({"type": "rule", "id": format!("{rule}:{}", cause.trigger_instance_id)})
        }
        (None, None) => json!({}),
    };
    component(row.id, &row.action, row.start_timestamp, cause)
}

fn of_instance(row: &TriggerInstance) -> Value {
    let cause = match row.payload.get("execution_id") {
        Some(id) if row.trigger == ACTION_TRIGGER || row.trigger == NOTIFY_TRIGGER => {
            json!({"type": "action_execution", "id": id})
        }
        _ => json!({}),
    };
    component(row.id, &row.trigger, row.occurrence_time, cause)
}

/// Documents that name one of the traces.
async fn followers<T: Resource>(ctx: &Ctx, roots: &[Root]) -> Result<Vec<Versioned<T>>, ApiError> {
    let traces: Vec<Key> = roots.iter().map(|root| root.id().into()).collect();
    if traces.is_empty() {
        return Ok(Vec::new());
    }
    let find = Find::filter(Cond::In("trace", traces)).limit(ctx.gateway.limits.max_rows);
    Ok(ctx.services().store.search::<T>(&find).await?)
}

/// What rules made of these trigger instances, in the order in which they did.
async fn matches(ctx: &Ctx, ids: impl Iterator<Item = &Id>) -> Result<Vec<Versioned<RuleEnforcement>>, ApiError> {
    let ids: Vec<Key> = ids.map(|id| Key::from(*id)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let find = Find::filter(Cond::In("trigger_instance", ids)).limit(ctx.gateway.limits.max_rows);
    let mut rows = ctx.services().store.search::<RuleEnforcement>(&find).await?;
    rows.sort_by_key(|row| (row.enforced_at, row.id));
    Ok(rows)
}
