//! The datastore's keys (spec/api.md §7.4, spec/datastore.md).

use std::time::Duration;

use auth::Target;
use domain::datastore::{self, SetKey};
use model::{KeyValue, Scope};
use serde_json::Value;

use crate::context::Ctx;
use crate::http::list::Page;
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply, version};

pub(crate) const SET: Shape = Shape {
    fields: &[
        must("name", Kind::Text),
        must("value", Kind::Text),
        may("description", Kind::Text),
        may("secret", Kind::Boolean),
        may("encrypted", Kind::Boolean),
        may("ttl", Kind::Integer),
        may("scope", Kind::Text),
        may("user", Kind::Text),
        may("id", Kind::Text),
        may("uid", Kind::Text),
        may("expire_timestamp", Kind::Text),
    ],
    closed: true,
};

/// The scope of a single key; `all` means the system's.
fn scope(text: Option<&str>) -> Result<Scope, ApiError> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("system");
    if text == "all" {
        return Ok(Scope::System);
    }
    Scope::parse(text).ok_or_else(|| {
        let full = if text.starts_with("st2kv.") { text.to_owned() } else { format!("st2kv.{text}") };
        ApiError::bad_request(format!(
            "Scope {full} is not in allowed scopes list: ['system', 'user', 'st2kv.system', 'st2kv.user']."
        ))
    })
}

/// The user whose keys are meant: the caller. Another one is refused, as StackStorm does without RBAC too; with it,
/// administrators may name one, and observers for looking.
fn user<'a>(ctx: &'a Ctx, given: Option<&'a str>, permission: &str) -> Result<&'a str, ApiError> {
    match given.filter(|user| !user.is_empty()) {
        Some(user) if user != ctx.identity.user => {
            if ctx.gateway.auth.access.enabled() && ctx.identity.grants.may_anywhere(permission) {
                return Ok(user);
            }
            Err(ApiError::forbidden("\"user\" attribute can only be provided by admins when RBAC is enabled"))
        }
        _ => Ok(&ctx.identity.user),
    }
}

/// 403 unless the caller may do this to the key. Keys of a user's scope are that user's own, which [`user`] made sure.
fn require(ctx: &Ctx, permission: &str, scope: Scope, name: &str) -> Result<(), ApiError> {
    match scope {
        Scope::System => ctx.require(permission, Target::plain(KeyValue::uid_of(Scope::System, name))),
        Scope::User => {
            ctx.is_own();
            Ok(())
        }
    }
}

/// The system keys that the caller may see: all, or those that grants name.
async fn system_keys(ctx: &Ctx, prefix: Option<&str>, page: &Page) -> Result<Vec<KeyValue>, ApiError> {
    const PERMISSION: &str = "key_value_pair_view";
    let grants = &ctx.identity.grants;
    if grants.may_anywhere(PERMISSION) {
        return Ok(datastore::list(ctx.services(), Scope::System, "", prefix, page.limit, page.offset).await?);
    }
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = page.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut pairs = Vec::new();
    for name in grants.system_keys().filter(|name| name.starts_with(prefix.unwrap_or_default())) {
        let target = Target::plain(KeyValue::uid_of(Scope::System, name));
        if grants.may_on(PERMISSION, &target)
            && let Some(pair) = datastore::get(ctx.services(), Scope::System, "", name).await?
        {
            pairs.push(pair.doc);
        }
    }
    Ok(pairs.into_iter().skip(skip).take(take).collect())
}

/// In API shape; a secret that can't be decrypted shows its ciphertext, as upstream lists do.
fn show(ctx: &Ctx, pair: &KeyValue, decrypt: bool) -> Result<Value, ApiError> {
    let plain = if decrypt && pair.secret { Some(datastore::reveal(ctx.services(), pair)?) } else { None };
    Ok(Value::Object(datastore::to_api(pair, plain)))
}

/// `GET /keys`: without count headers.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    // Each key that is shown is looked at.
    ctx.is_own();
    let page = Page::parse(&ctx, Some(100), true)?;
    let text = ctx.query.text("scope").unwrap_or("system");
    let scopes = match text {
        "all" => vec![Scope::System, Scope::User],
        text => vec![Scope::parse(text).ok_or_else(|| {
            let full = if text.starts_with("st2kv.") { text.to_owned() } else { format!("st2kv.{text}") };
            ApiError::bad_request(format!("Invalid scope: {full}"))
        })?],
    };
    let user = user(&ctx, ctx.query.text("user"), "key_value_pair_view")?;
    let decrypt = ctx.query.flag("decrypt")?;
    let (prefix, name) = (ctx.query.text("prefix"), ctx.query.text("name"));
    let mut items = Vec::new();
    for scope in scopes {
        let pairs = match scope {
            Scope::System => system_keys(&ctx, prefix, &page).await?,
            Scope::User => datastore::list(ctx.services(), scope, user, prefix, page.limit, page.offset).await?,
        };
        for pair in pairs {
            let wanted = name.is_none_or(|name| KeyValue::stored_name(scope, user, name) == pair.name);
            if wanted {
                items.push(show(&ctx, &pair, decrypt)?);
            }
        }
    }
    if decrypt {
        tracing::info!(user = ctx.identity.user, count = items.len(), "keys were shown decrypted");
    }
    Reply::json(&items)
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("The key \"{name}\" does not exist in the StackStorm datastore."))
}

/// `GET /keys/{name}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.params.get("name");
    let scope = scope(ctx.query.text("scope"))?;
    let user = user(&ctx, ctx.query.text("user"), "key_value_pair_view")?;
    require(&ctx, "key_value_pair_view", scope, name)?;
    let pair = datastore::get(ctx.services(), scope, user, name).await?.ok_or_else(|| unknown(name))?;
    let decrypt = ctx.query.flag("decrypt")?;
    if decrypt && pair.secret {
        tracing::info!(user = ctx.identity.user, key = name, "a key was shown decrypted");
    }
    Ok(Reply::json(&show(&ctx, &pair, decrypt)?)?.version(pair.rev))
}

/// The revision that `If-Match` wants the key to have still.
async fn expected(ctx: &Ctx, scope: Scope, user: &str, name: &str) -> Result<Option<u64>, ApiError> {
    if !ctx.headers.contains_key(http::header::IF_MATCH) {
        return Ok(None);
    }
    let pair = datastore::get(ctx.services(), scope, user, name).await?.ok_or_else(version::failed)?;
    Ok(Some(ctx.unchanged(pair)?.rev))
}

/// `PUT /keys/{name}`.
pub async fn set(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&SET)?;
    let name = ctx.params.get("name").to_owned();
    let scope_text = body.take_text("scope");
    let scope = scope(scope_text.as_deref().or(ctx.query.text("scope")))?;
    let user_text = body.take_text("user");
    let user = user(&ctx, user_text.as_deref().or(ctx.query.text("user")), "key_value_pair_set")?;
    require(&ctx, "key_value_pair_set", scope, &name)?;
    let expected = expected(&ctx, scope, user, &name).await?;
    let ttl = match body.get("ttl").and_then(Value::as_i64) {
        Some(ttl) if ttl < 0 => return Err(ApiError::bad_request(format!("{ttl} is less than the minimum of 0"))),
        Some(ttl) => Some(Duration::from_secs(ttl.unsigned_abs())),
        None => None,
    };
    let encrypted = body.take_bool("encrypted").unwrap_or(false);
    if encrypted && !ctx.identity.is_admin {
        return Err(ApiError::forbidden("Pre-encrypted option can only be used by admins"));
    }
    let input = SetKey {
        value: body.take_text("value").unwrap_or_default(),
        description: body.take_text("description"),
        secret: body.take_bool("secret").unwrap_or(false),
        encrypted,
        ttl,
        expected,
    };
    let pair = datastore::set(ctx.services(), scope, user, &name, input).await?;
    Reply::json(&show(&ctx, &pair, false)?)
}

/// `DELETE /keys/{name}`.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = ctx.params.get("name");
    let scope = scope(ctx.query.text("scope"))?;
    let user = user(&ctx, ctx.query.text("user"), "key_value_pair_delete")?;
    require(&ctx, "key_value_pair_delete", scope, name)?;
    expected(&ctx, scope, user, name).await?;
    if !datastore::delete(ctx.services(), scope, user, name).await? {
        return Err(unknown(name));
    }
    Ok(Reply::no_content())
}
