//! Who is calling: passwords for logging in, tokens and API keys for everything else (spec/api.md §3, §8).
//!
//! * Passwords are checked by an [`AuthBackend`] of the crate `auth`.
//! * [`authenticator::Authenticator`] finds the [`Identity`] behind a request's credentials, from a small cache.
//! * [`tokens`] and [`sso`] are the endpoints of the auth service; [`throttle`] slows down guessing.
//! * [`access`] knows what an identity's roles grant, [`guard`] holds each request against it.

pub mod access;
pub mod authenticator;
pub mod guard;
pub mod rate;
pub mod sso;
pub mod throttle;
pub mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::auth::sso::Provider;
use ::auth::{AuthBackend, Grants};
use model::Timestamp;

use self::access::Access;

/// How users prove who they are.
#[derive(Debug, Clone)]
pub struct AuthOptions {
    /// `auth.enable`: when false nobody is asked, and everybody is the system user.
    pub enabled: bool,
    pub mode: AuthMode,
    /// `auth.token_ttl`: longest and default life of a token.
    pub token_ttl: Duration,
    /// The same for service accounts (`auth.service_token_ttl`).
    pub service_token_ttl: Duration,
    /// `api.auth_cookie_secure`.
    pub cookie_secure: bool,
    /// `api.auth_cookie_same_site`.
    pub cookie_same_site: SameSite,
    /// What identities may do.
    pub access: Access,
    /// `rbac.sync_remote_groups`: at a login, the backend's groups give and take roles.
    pub sync_groups: bool,
    /// Where browsers may sign on.
    pub sso: Option<Arc<Provider>>,
}

/// Who checks passwords.
#[derive(Debug, Clone)]
pub enum AuthMode {
    Standalone(Arc<dyn AuthBackend>),
    /// A front end did and tells the user in `X-Forwarded-User`.
    Proxy {
        /// Addresses of the front ends that are believed.
        trusted: Vec<IpAddr>,
    },
}

impl AuthOptions {
    /// Standalone with StackStorm's defaults.
    pub fn standalone(backend: Arc<dyn AuthBackend>) -> Self {
        Self {
            enabled: true,
            mode: AuthMode::Standalone(backend),
            token_ttl: Duration::from_secs(86_400),
            service_token_ttl: Duration::from_secs(86_400),
            cookie_secure: true,
            cookie_same_site: SameSite::Lax,
            access: Access::off(),
            sync_groups: false,
            sso: None,
        }
    }
}

/// `SameSite` of the session cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    None,
    Unset,
}

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub method: Method,
    pub location: Location,
    pub is_admin: bool,
    /// What the user's roles grant.
    pub grants: Arc<Grants>,
    /// Sees only what is the user's own (`rbac.permission_isolation`).
    pub isolated: bool,
    /// Calls with the token of an action or a sensor, which ends with it and may not do everything
    /// ([`crate::table::is_for_people`]).
    pub is_action: bool,
}

/// By what the caller was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    Token {
        expiry: Timestamp,
    },
    ApiKey,
    /// Nobody was asked.
    Disabled,
}

/// Where the credential was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    Header,
    Query,
    Cookie,
}

impl Identity {
    /// Of an endpoint without authentication.
    pub fn anonymous() -> Self {
        Self {
            user: String::new(),
            method: Method::Disabled,
            location: Location::Header,
            is_admin: false,
            grants: Arc::default(),
            isolated: false,
            is_action: false,
        }
    }
}
