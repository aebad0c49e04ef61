//! Roles, assignments and permissions (spec/api.md §6, spec/auth-rbac.md §4).

use auth::rbac::permissions::{KINDS, describe, find_kind};
use auth::rbac::{ApplyError, Definitions, apply as apply_definitions};
use model::{Object, Role, RoleAssignment};
use serde_json::Value;
use store::{Cond, Order, Query as Find, StoreExt};

use crate::context::Ctx;
use crate::http::list::count_headers;
use crate::http::{ApiError, Reply};

fn described(names: &[&str]) -> Value {
    Value::Object(names.iter().map(|name| ((*name).to_owned(), Value::from(describe(name)))).collect())
}

/// `GET /rbac/permission_types`.
pub async fn permission_types(_: Ctx) -> Result<Reply, ApiError> {
    let all: Object = KINDS.iter().map(|kind| (kind.name.to_owned(), described(kind.permissions))).collect();
    Reply::json(&all)
}

/// `GET /rbac/permission_types/{type}`.
pub async fn permission_types_of(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.params.get("type");
    let kind = find_kind(name).ok_or_else(|| ApiError::not_found(format!("Invalid resource type: {name}")))?;
    Reply::json(&described(kind.permissions))
}

/// `GET /rbac/roles`.
pub async fn roles(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut find = Find::all().order(Order::Asc("name"));
    if ctx.query.text("system").is_some() {
        find.conds.push(Cond::Eq("system", ctx.query.flag("system")?.into()));
    }
    let roles = ctx.services().store.search::<Role>(&find).await?;
    let shown: Vec<Object> = roles.iter().map(|role| role.to_api()).collect();
    Ok(count_headers(Reply::json(&shown)?, shown.len() as u64, None))
}

/// `GET /rbac/roles/{name or id}`.
pub async fn role(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("name");
    let store = &ctx.services().store;
    let found = match store.first::<Role>(&Find::eq("name", text)).await? {
        Some(role) => Some(role),
        None => match text.parse() {
            Ok(id) => store.read::<Role>(id).await?,
            Err(_) => None,
        },
    };
    let role = found.ok_or_else(|| ApiError::not_found(format!("Resource with a name or id \"{text}\" not found")))?;
    Reply::json(&role.to_api())
}

/// `GET /rbac/role_assignments`: all of them for administrators, the caller's own for others.
pub async fn assignments(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut find = Find::all().order(Order::Asc("user")).order(Order::Asc("role"));
    for (name, field) in [("user", "user"), ("role", "role"), ("source", "source")] {
        if let Some(value) = ctx.query.text(name) {
            find.conds.push(Cond::Eq(field, value.into()));
        }
    }
    if ctx.query.text("remote").is_some() {
        find.conds.push(Cond::Eq("is_remote", ctx.query.flag("remote")?.into()));
    }
    if !ctx.identity.is_admin {
        find.conds.push(Cond::Eq("user", ctx.identity.user.as_str().into()));
    }
    let rows = ctx.services().store.search::<RoleAssignment>(&find).await?;
    let shown: Vec<Object> = rows.iter().map(|row| row.to_api()).collect();
    Ok(count_headers(Reply::json(&shown)?, shown.len() as u64, None))
}

/// `GET /rbac/role_assignments/{id}`.
pub async fn assignment(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("id");
    let row = ctx.by_id::<RoleAssignment>(text).await?;
    if !ctx.identity.is_admin && row.user != ctx.identity.user {
        // Not even that it is there.
        return Err(ApiError::unknown_id(text));
    }
    Reply::json(&row.to_api())
}

/// `PUT /rbac/definitions`: roles, assignments and mappings become those of the body. `squall rbac apply` calls it.
pub async fn apply(ctx: Ctx) -> Result<Reply, ApiError> {
    let definitions: Definitions =
        serde_json::from_value(ctx.parsed_body()?).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let applied =
        apply_definitions(ctx.services().store.as_ref(), &definitions).await.map_err(|error| match error {
            ApplyError::Definitions(error) => ApiError::bad_request(error.to_string()),
            ApplyError::Store(error) => error.into(),
        })?;
    ctx.roles_changed();
    tracing::info!(user = ctx.identity.user, ?applied, "role definitions were applied");
    Reply::json(&applied)
}
