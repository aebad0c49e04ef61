//! Who is calling: passwords for logging in, tokens and API keys for everything else (spec/api.md §3, §8).
//!
//! * [`AuthBackend`] is the port that checks passwords; [`htpasswd::FlatFile`] is the adapter for Apache's files.
//! * [`authenticator::Authenticator`] finds the [`Identity`] behind a request's credentials, from a small cache.
//! * [`tokens`] are the endpoints of the auth service; [`throttle`] slows down guessing.
//! * [`access`] is the port that decides what an identity may do.

pub mod access;
pub mod authenticator;
pub mod htpasswd;
pub mod throttle;
pub mod tokens;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::Timestamp;

use self::access::{Access, AllowAll};

/// Checks a user's password.
#[async_trait]
pub trait AuthBackend: Debug + Send + Sync {
    /// Whether the password is this user's. An error means that it could not be checked; its text holds no secret.
    async fn authenticate(&self, user: &str, password: &str) -> Result<bool, BackendError>;
}

/// The backend could not check a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

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
    /// What identities may do; [`AllowAll`] when RBAC is off.
    pub access: Arc<dyn Access>,
}

/// Who checks passwords.
#[derive(Debug, Clone)]
pub enum AuthMode {
    Standalone(Arc<dyn AuthBackend>),
    /// A trusted front end did and tells the user in `X-Forwarded-User`.
    Proxy,
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
            access: Arc::new(AllowAll),
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
        Self { user: String::new(), method: Method::Disabled, location: Location::Header, is_admin: false }
    }
}
