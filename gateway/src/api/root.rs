//! `GET /` and `GET /user`.

use serde_json::json;

use crate::auth::{Location, Method};
use crate::context::Ctx;
use crate::http::{ApiError, Reply};

/// The release of StackStorm whose API this is.
const COMPATIBLE_VERSION: &str = "3.9.0";

pub async fn version(_: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&json!({"version": COMPATIBLE_VERSION, "docs_url": "http://docs.stackstorm.com/3.9"}))
}

/// Who the caller is (spec/api.md §7.17).
pub async fn user(ctx: Ctx) -> Result<Reply, ApiError> {
    let identity = &ctx.identity;
    let location = match identity.location {
        Location::Query => "query",
        // A cookie is reported as a header.
        Location::Header | Location::Cookie => "header",
    };
    let authentication = match &identity.method {
        Method::Token { expiry } => json!({
            "method": "authentication token",
            "location": location,
            "token_expire": expiry.datetime().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }),
        Method::ApiKey => json!({"method": "API key", "location": location}),
        Method::Disabled => json!({"method": "none", "location": "none"}),
    };
    let access = &ctx.gateway.auth.access;
    Reply::json(&json!({
        "username": identity.user,
        "authentication": authentication,
        "rbac": {
            "enabled": access.enabled(),
            "roles": identity.grants.roles().collect::<Vec<_>>(),
            "is_admin": identity.is_admin,
        },
    }))
}
