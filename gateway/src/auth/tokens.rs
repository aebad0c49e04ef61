//! The auth service's endpoints (spec/api.md §8).

use std::time::{Duration, Instant};

use base64::Engine as _;
use http::StatusCode;
use http::header::HeaderName;
use model::{Id, Object, Token, User};
use serde_json::json;
use store::{Query as Find, StoreError, StoreExt};

use ::auth::AuthBackend;
use ::auth::rbac::sync_groups;

use super::AuthMode;
use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may};
use crate::http::{ApiError, Reply};

pub(crate) const TOKEN_REQUEST: Shape = Shape {
    fields: &[
        may("ttl", Kind::Integer),
        may("user", Kind::Text),
        may("impersonate_user", Kind::Text),
        may("nickname_origin", Kind::Text),
    ],
    closed: false,
};

fn refused() -> ApiError {
    ApiError::unauthorized("Invalid or missing credentials")
}

/// User and password of a Basic `Authorization` header.
fn basic(ctx: &Ctx) -> Option<(String, String)> {
    let (scheme, encoded) = ctx.header("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| (user.to_owned(), password.to_owned()))
}

/// The name of who logs in, checked.
async fn login(ctx: &Ctx) -> Result<String, ApiError> {
    let backend = match &ctx.gateway.auth.mode {
        AuthMode::Standalone(backend) => backend,
        AuthMode::Proxy { trusted } => {
            let from = ctx.peer.map(|peer| peer.ip().to_canonical());
            if !from.is_some_and(|from| trusted.contains(&from)) {
                tracing::warn!(?from, "a login that doesn't come from a trusted front end is refused");
                return Err(refused());
            }
            let forwarded = ctx.header("x-forwarded-user").filter(|user| !user.is_empty()).map(str::to_owned);
            // Keys of users are stored as `user:name`: a name with a colon could be another user's key.
            return forwarded
                .or_else(|| basic(ctx).map(|(user, _)| user))
                .filter(|user| !user.contains(':'))
                .ok_or_else(refused);
        }
    };
    let (user, password) = basic(ctx).ok_or_else(refused)?;
    let from = ctx.peer.map(|peer| peer.ip());
    let throttle = &ctx.gateway.throttle;
    if let Some(wait) = throttle.wait(&user, from, Instant::now()) {
        let seconds = wait.as_secs().max(1);
        let fault = format!("Too many failed logins of this user: try again in {seconds} seconds.");
        return Err(ApiError { retry_after: Some(seconds), ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, fault) });
    }
    let valid = backend.authenticate(&user, &password).await.map_err(|error| ApiError {
        detail: Some(error.to_string()),
        ..ApiError::unavailable("Passwords can't be checked at the moment.")
    })?;
    if !valid {
        throttle.failed(&user, from, Instant::now());
        tracing::warn!(user, "login refused");
        return Err(refused());
    }
    throttle.succeeded(&user, from);
    sync_roles(ctx, backend.as_ref(), &user).await;
    Ok(user)
}

/// The roles that the backend's groups bring.
async fn sync_roles(ctx: &Ctx, backend: &dyn AuthBackend, user: &str) {
    if !syncs(ctx) || !backend.knows_groups() {
        return;
    }
    match backend.groups(user).await {
        Ok(groups) => sync_roles_of(ctx, user, &groups).await,
        Err(error) => not_synced(user, &error),
    }
}

fn syncs(ctx: &Ctx) -> bool {
    ctx.gateway.auth.sync_groups && ctx.gateway.auth.access.enabled()
}

/// The roles that the user's groups bring. A failure doesn't keep anybody from logging in: the roles stay as they are.
pub(super) async fn sync_roles_of(ctx: &Ctx, user: &str, groups: &[String]) {
    if !syncs(ctx) {
        return;
    }
    match sync_groups(ctx.services().store.as_ref(), user, groups).await {
        Ok(true) => ctx.roles_changed(),
        Ok(false) => {}
        Err(error) => not_synced(user, &error),
    }
}

fn not_synced(user: &str, error: &dyn std::fmt::Display) {
    tracing::warn!(user, %error, "the user's groups can't be brought in: roles stay as they are");
}

/// `POST /tokens`.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    // A body that can't be parsed is refused before the credentials are looked at.
    let mut body = ctx.object(&TOKEN_REQUEST)?;
    let caller = login(&ctx).await?;
    let caller = ensure_user(&ctx, &caller).await?;
    let user = match requested_user(&ctx, &caller, &mut body).await? {
        Some(name) => ensure_user(&ctx, &name).await?,
        None => caller,
    };
    let ttl = token_ttl(&ctx, &user, &body)?;
    let token = issue(&ctx, &user.name, ttl).await?;
    let api_url = ctx.gateway.api_url.as_deref().unwrap_or("http://127.0.0.1:9101");
    Ok(Reply::created(&token.to_api())?.header(HeaderName::from_static("x-api-url"), api_url))
}

/// A new token of this user.
pub(super) async fn issue(ctx: &Ctx, user: &str, ttl: Duration) -> Result<Token, ApiError> {
    let now = ctx.services().now();
    let token = Token {
        id: Id::fresh(now),
        user: user.to_owned(),
        token: uuid::Uuid::new_v4().simple().to_string(),
        expiry: now.plus(ttl),
        metadata: Object::new(),
        service: false,
    };
    ctx.services().store.insert(&token).await?;
    Ok(token)
}

fn token_ttl(ctx: &Ctx, user: &User, body: &Object) -> Result<Duration, ApiError> {
    let auth = &ctx.gateway.auth;
    let max = if user.is_service { auth.service_token_ttl } else { auth.token_ttl };
    let Some(ttl) = body.get("ttl").filter(|ttl| !ttl.is_null()) else { return Ok(max) };
    let seconds = ttl.as_i64().unwrap_or(i64::MAX);
    if seconds < 1 {
        return Err(ApiError::bad_request(format!("{ttl} is less than the minimum of 1")));
    }
    let given = Duration::from_secs(seconds.unsigned_abs());
    if given > max {
        return Err(ApiError::bad_request(format!(
            "TTL specified {ttl} is greater than max allowed {}.",
            max.as_secs()
        )));
    }
    Ok(given)
}

/// The other user that a service account asks a token for.
async fn requested_user(ctx: &Ctx, caller: &User, body: &mut Object) -> Result<Option<String>, ApiError> {
    let other = body.take_text("user").filter(|name| !name.is_empty());
    let nickname = body.take_text("impersonate_user").filter(|name| !name.is_empty());
    if other.is_none() && nickname.is_none() {
        return Ok(None);
    }
    if !caller.is_service {
        return Err(ApiError::bad_request("Current user is not a service and cannot request impersonated tokens"));
    }
    let Some(nickname) = nickname else { return Ok(other) };
    let Some(origin) = body.take_text("nickname_origin").filter(|origin| !origin.is_empty()) else {
        return Err(ApiError::bad_request(format!("Nickname origin is not provided for nickname '{nickname}'")));
    };
    let users = ctx.services().store.search::<User>(&Find::all()).await?;
    let found = users.into_iter().find(|user| user.nicknames.get(&origin).and_then(|n| n.as_str()) == Some(&nickname));
    match found {
        Some(user) => Ok(Some(user.doc.name)),
        None => Err(ApiError::bad_request(format!("Could not locate user {nickname}@{origin}"))),
    }
}

/// The user's row, made at the first login.
pub async fn ensure_user(ctx: &Ctx, name: &str) -> Result<User, ApiError> {
    let store = &ctx.services().store;
    let find = Find::eq("name", name);
    if let Some(user) = store.first::<User>(&find).await? {
        return Ok(user.doc);
    }
    let id = Id::fresh(ctx.services().now());
    let user = User { id, name: name.to_owned(), is_service: false, nicknames: Object::new() };
    match store.insert(&user).await {
        Ok(()) => Ok(user),
        // Another login of the same user came first.
        Err(StoreError::Duplicate { .. }) => {
            store.first::<User>(&find).await?.map(|user| user.doc).ok_or_else(|| ApiError::internal("user vanished"))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) const VALIDATE: Shape = Shape { fields: &[may("token", Kind::Text)], closed: false };

/// `POST /tokens/validate`.
pub async fn validate(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&VALIDATE)?;
    let token = body.take_text("token").filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| ApiError::bad_request("Token is not provided."))?;
    let now = ctx.services().now();
    let found = ctx.services().store.first::<Token>(&Find::eq("token", token)).await?;
    Reply::json(&json!({"valid": found.is_some_and(|token| token.expiry > now)}))
}
