//! Single sign-on for browsers (spec/api.md §8): to the identity provider and back.
//!
//! Nothing of a sign-on under way is kept here, for the way back may lead to another node: it goes with the browser,
//! in a cookie that only this cluster can sign.

use std::time::Duration;

use auth::SsoError;
use auth::sso::{Pending, Provider};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{Method, StatusCode};
use model::{Timestamp, Token};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use url::form_urlencoded::{byte_serialize, parse};

use super::tokens;
use crate::context::Ctx;
use crate::http::{ApiError, Reply};

/// The cookie of a sign-on under way.
const COOKIE: &str = "squall-sign-on";
/// What StackStorm's web UI reads after a sign-on.
const UI_COOKIE: &str = "st2-auth-token";
const PURPOSE: &str = "sign-on";
/// Whoever takes longer at the provider begins anew.
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct UnderWay {
    pending: Pending,
    /// Where the browser goes in the end.
    back: String,
    until: Timestamp,
}

/// `GET /sso`.
pub async fn enabled(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&json!({"enabled": ctx.gateway.auth.sso.is_some()}))
}

fn provider(ctx: &Ctx) -> Result<&Provider, ApiError> {
    ctx.gateway.auth.sso.as_deref().ok_or_else(|| ApiError::not_found("Single sign-on is not configured."))
}

/// `GET /sso/request`: sends the browser to the provider.
pub async fn request(ctx: Ctx) -> Result<Reply, ApiError> {
    let provider = provider(&ctx)?;
    let (url, pending) = provider.begin().await.map_err(fault)?;
    let back = way_back(&ctx, provider);
    let until = ctx.services().now().plus(LONGEST);
    let text = json!(UnderWay { pending, back, until }).to_string();
    let sealed = ctx.gateway.authenticator.seal(PURPOSE, &text);
    let cookie = format!("{COOKIE}={sealed}; {}", attributes(&ctx, LONGEST, true));
    let reply = Reply { status: StatusCode::TEMPORARY_REDIRECT, ..Reply::no_content() };
    Ok(reply.header(LOCATION, &url).header(SET_COOKIE, &cookie).header(CACHE_CONTROL, "no-store"))
}

/// `GET` and `POST /sso/callback`: the browser comes back.
pub async fn callback(ctx: Ctx) -> Result<Reply, ApiError> {
    let provider = provider(&ctx)?;
    let field = |name: &str| -> Option<String> {
        if ctx.method == Method::POST {
            return parse(&ctx.body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        }
        ctx.query.text(name).map(str::to_owned)
    };
    if let Some(error) = field("error") {
        return Err(fault(SsoError::Refused(format!("the provider says: {error}"))));
    }
    let (Some(state), Some(code)) = (field("state"), field("code")) else {
        return Err(fault(SsoError::Refused("no code came back".to_owned())));
    };
    let now = ctx.services().now();
    let known = cookie(&ctx).and_then(|sealed| ctx.gateway.authenticator.unseal(PURPOSE, &sealed));
    let under_way = known.and_then(|text| serde_json::from_str::<UnderWay>(&text).ok());
    let Some(under_way) = under_way.filter(|under_way| under_way.until > now) else {
        return Err(fault(SsoError::Refused("no sign-on is under way in this browser".to_owned())));
    };
    let person = provider.finish(under_way.pending, &state, &code).await.map_err(fault)?;
    let user = tokens::ensure_user(&ctx, &person.user).await?;
    if let Some(groups) = &person.groups {
        tokens::sync_roles_of(&ctx, &user.name, groups).await;
    }
    let ttl = ctx.gateway.auth.token_ttl;
    let token = tokens::issue(&ctx, &user.name, ttl).await?;
    tracing::info!(user = user.name, "signed on at the identity provider");
    signed_on(&ctx, &token, ttl, &under_way.back)
}

/// The page that hands the token to the UI and leads back to it.
fn signed_on(ctx: &Ctx, token: &Token, ttl: Duration, back: &str) -> Result<Reply, ApiError> {
    let json = serde_json::to_string(&token.to_api()).map_err(|error| ApiError::internal(error.to_string()))?;
    // Scripts decode it with decodeURIComponent, which leaves a plus alone.
    let encoded = byte_serialize(json.as_bytes()).collect::<String>().replace('+', "%20");
    let for_ui = format!("{UI_COOKIE}={encoded}; {}", attributes(ctx, ttl, false));
    let over = format!("{COOKIE}=; {}", attributes(ctx, Duration::ZERO, true));
    let back = back.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let page = format!(
        "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0; url={back}\">\
         <title>Signed on</title></head><body><a href=\"{back}\">Go on</a></body></html>"
    );
    Ok(Reply::raw("text/html; charset=UTF-8", page)
        .header(SET_COOKIE, &for_ui)
        .header(SET_COOKIE, &over)
        .header(CACHE_CONTROL, "no-store")
        .header(REFERRER_POLICY, "no-referrer")
        .header(CONTENT_SECURITY_POLICY, "default-src 'none'"))
}

/// The page that asked for the sign-on if it is one of ours, for a link to elsewhere would hand people over to anybody;
/// else the front page.
fn way_back(ctx: &Ctx, provider: &Provider) -> String {
    let own = Url::parse(provider.redirect_url()).map(|url| url.origin());
    let asked = ctx.header("referer").and_then(|text| Url::parse(text).ok());
    if let Some(asked) = asked {
        let origin = asked.origin();
        let is_ours = own.as_ref().is_ok_and(|own| *own == origin);
        if is_ours || ctx.gateway.cors.names(&origin.ascii_serialization()) {
            return asked.to_string();
        }
    }
    own.map_or_else(|_| "/".to_owned(), |own| format!("{}/", own.ascii_serialization()))
}

/// `Lax`, whatever other cookies have: the way back begins at the provider's site.
fn attributes(ctx: &Ctx, life: Duration, hidden: bool) -> String {
    let secure = if ctx.gateway.auth.cookie_secure { "; Secure" } else { "" };
    let hidden = if hidden { "; HttpOnly" } else { "" };
    format!("Max-Age={}; Path=/; SameSite=Lax{secure}{hidden}", life.as_secs())
}

fn cookie(ctx: &Ctx) -> Option<String> {
    let lines = ctx.headers.get_all(http::header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

/// The reason is for the log alone.
fn fault(error: SsoError) -> ApiError {
    let detail = Some(error.to_string());
    match error {
        SsoError::Refused(reason) => {
            tracing::warn!(reason, "sign-on refused");
            ApiError { detail, ..ApiError::unauthorized("Invalid or missing credentials") }
        }
        SsoError::Options(_) | SsoError::Unavailable(_) => {
            ApiError { detail, ..ApiError::unavailable("The identity provider can't be asked at the moment.") }
        }
    }
}
