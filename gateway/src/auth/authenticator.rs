//! From a request's credentials to an identity (spec/api.md §3), without reading the store each time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Services;
use domain::action_token::{ActionTokenError, ActionTokens, PREFIX};
use http::HeaderMap;
use model::{ApiKey, Execution, Timestamp, Token, User};
use parking_lot::RwLock;
use store::{Query as Find, StoreExt};

use super::access::Access;
use super::{AuthOptions, Identity, Location, Method, SameSite};
use crate::http::{ApiError, Query};

/// A credential that was found valid is not looked up again for this long, on nodes that don't hear of its end.
const TRUST: Duration = Duration::from_secs(15);
/// Credentials that are remembered.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Credential {
    Token(String),
    /// Hash of the key.
    ApiKey(String),
}

#[derive(Debug, Clone)]
struct Known {
    user: Arc<str>,
    /// None for API keys.
    expiry: Option<Timestamp>,
    since: Instant,
    /// No role limits it.
    operator: bool,
    is_action: bool,
}

/// Finds out who calls.
#[derive(Debug)]
pub struct Authenticator {
    services: Arc<Services>,
    enabled: bool,
    access: Access,
    action_tokens: Option<ActionTokens>,
    cookie_secure: bool,
    cookie_same_site: SameSite,
    known: RwLock<HashMap<Credential, Known>>,
}

/// What a request brought along, in the order in which it counts.
fn credential(headers: &HeaderMap, query: &Query) -> Option<(Credential, Location)> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).filter(|text| !text.is_empty());
    let token = |text: &str| Credential::Token(text.to_owned());
    let key = |text: &str| Credential::ApiKey(ApiKey::hash_of(text));
    if let Some(text) = header("x-auth-token") {
        return Some((token(text), Location::Header));
    }
    if let Some(text) = header("st2-api-key") {
        return Some((key(text), Location::Header));
    }
    if let Some(text) = query.text("x-auth-token") {
        return Some((token(text), Location::Query));
    }
    if let Some(text) = query.text("st2-api-key") {
        return Some((key(text), Location::Query));
    }
    let cookies = headers.get_all(http::header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let text = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == "auth-token" && !value.is_empty())?
        .1;
    Some((token(text), Location::Cookie))
}

impl Authenticator {
    pub fn new(services: Arc<Services>, options: &AuthOptions, action_tokens: Option<ActionTokens>) -> Self {
        Self {
            services,
            enabled: options.enabled,
            access: options.access.clone(),
            action_tokens,
            cookie_secure: options.cookie_secure,
            cookie_same_site: options.cookie_same_site,
            known: RwLock::default(),
        }
    }

    /// The caller, and the session cookie to set if there is one.
    pub async fn identify(&self, headers: &HeaderMap, query: &Query) -> Result<(Identity, Option<String>), ApiError> {
        if !self.enabled {
            let user = self.services.settings.system_user.clone();
            return Ok((self.unlimited(user, Method::Disabled, Location::Header), None));
        }
        let Some((credential, location)) = credential(headers, query) else {
            return Err(ApiError::unauthorized("Unauthorized - One of Token or API key required."));
        };
        let now = self.services.now();
        let known = self.lookup(&credential, now).await?;
        let method = match known.expiry {
            Some(expiry) => Method::Token { expiry },
            None => Method::ApiKey,
        };
        let cookie = match (&credential, location, known.expiry) {
            (Credential::Token(token), Location::Header | Location::Query, Some(expiry)) => {
                Some(self.cookie(token, expiry, now))
            }
            _ => None,
        };
        let user = known.user.to_string();
        if known.operator {
            return Ok((self.unlimited(user, method, location), None));
        }
        let grants = self.access.grants(&user).await?;
        let is_admin = grants.is_admin();
        let isolated = self.access.isolates() && !is_admin && user != self.services.settings.system_user;
        Ok((Identity { user, method, location, is_admin, grants, isolated, is_action: known.is_action }, cookie))
    }

    fn unlimited(&self, user: String, method: Method, location: Location) -> Identity {
        Identity {
            user,
            method,
            location,
            is_admin: true,
            grants: self.access.everything(),
            isolated: false,
            is_action: false,
        }
    }

    async fn lookup(&self, credential: &Credential, now: Timestamp) -> Result<Known, ApiError> {
        if let Credential::Token(token) = credential
            && token.starts_with(PREFIX)
        {
            return self.verify_action_token(token, now).await;
        }
        let cached = self.known.read().get(credential).filter(|known| known.since.elapsed() < TRUST).cloned();
        let known = match cached {
            Some(known) => known,
            None => {
                let known = match credential {
                    Credential::Token(token) => self.read_token(token, now).await?,
                    Credential::ApiKey(hash) => self.read_key(hash).await?,
                };
                self.remember(credential.clone(), known.clone());
                known
            }
        };
        check_expiry(known.expiry, now)?;
        Ok(known)
    }

    /// Tokens of running actions are signed, not stored. They end with their execution (spec/auth-rbac.md §4), if not
    /// before; a sensor's names no execution.
    async fn verify_action_token(&self, token: &str, now: Timestamp) -> Result<Known, ApiError> {
        let unknown = || ApiError::unauthorized("Unauthorized");
        let tokens = self.action_tokens.as_ref().ok_or_else(unknown)?;
        match tokens.verify(token, now) {
            Ok(token) => {
                let execution = self.services.store.read::<Execution>(token.execution).await?;
                if execution.is_some_and(|execution| execution.status.is_completed()) {
                    return Err(ApiError::unauthorized("Unauthorized - Token has expired."));
                }
                let user = token.user.as_str().into();
                let operator = token.operator;
                let expiry = Some(token.expiry);
                Ok(Known { user, expiry, since: Instant::now(), operator, is_action: !operator })
            }
            Err(ActionTokenError::Expired) => Err(ApiError::unauthorized("Unauthorized - Token has expired.")),
            Err(ActionTokenError::Malformed | ActionTokenError::Forged) => Err(unknown()),
        }
    }

    async fn read_token(&self, token: &str, now: Timestamp) -> Result<Known, ApiError> {
        let store = &self.services.store;
        let Some(found) = store.first::<Token>(&Find::eq("token", token)).await? else {
            return Err(ApiError::unauthorized("Unauthorized"));
        };
        check_expiry(Some(found.expiry), now)?;
        self.check_user(&found.user).await?;
        let user = found.user.as_str().into();
        Ok(Known { user, expiry: Some(found.expiry), since: Instant::now(), operator: false, is_action: false })
    }

    async fn read_key(&self, hash: &str) -> Result<Known, ApiError> {
        let Some(found) = self.services.store.first::<ApiKey>(&Find::eq("key_hash", hash)).await? else {
            return Err(ApiError::unauthorized(format!("Unauthorized - ApiKey with key_hash={hash} not found.")));
        };
        if !found.enabled {
            return Err(ApiError::unauthorized("Unauthorized - API key is disabled."));
        }
        self.check_user(&found.user).await?;
        Ok(Known {
            user: found.user.as_str().into(),
            expiry: None,
            since: Instant::now(),
            operator: false,
            is_action: false,
        })
    }

    /// The user may have been removed after the credential was made.
    async fn check_user(&self, user: &str) -> Result<(), ApiError> {
        match self.services.store.first::<User>(&Find::eq("name", user)).await? {
            Some(_) => Ok(()),
            None => Err(ApiError::unauthorized("Unauthorized")),
        }
    }

    fn remember(&self, credential: Credential, known: Known) {
        let mut map = self.known.write();
        if map.len() >= REMEMBERED {
            map.retain(|_, known| known.since.elapsed() < TRUST);
            if map.len() >= REMEMBERED {
                map.clear();
            }
        }
        map.insert(credential, known);
    }

    /// A text that a browser brings back; without a secret nothing can be signed, and nothing is believed.
    pub fn seal(&self, purpose: &str, text: &str) -> String {
        self.action_tokens.as_ref().map(|tokens| tokens.seal(purpose, text)).unwrap_or_default()
    }

    /// The text, if it was sealed by a node of this cluster for this purpose.
    pub fn unseal(&self, purpose: &str, sealed: &str) -> Option<String> {
        self.action_tokens.as_ref()?.unseal(purpose, sealed)
    }

    /// Called after tokens or keys changed: nothing that is remembered counts any more.
    pub fn forget(&self) {
        self.known.write().clear();
    }

    /// Called after roles or assignments changed.
    pub fn forget_roles(&self) {
        self.access.forget();
    }

    fn cookie(&self, token: &str, expiry: Timestamp, now: Timestamp) -> String {
        let mut cookie = format!(
            "auth-token={token}; Max-Age={}; Path=/; expires={}",
            expiry.since(now).as_secs(),
            expiry.datetime().format("%a, %d-%b-%Y %H:%M:%S GMT")
        );
        if self.cookie_secure {
            cookie.push_str("; secure");
        }
        cookie.push_str("; HttpOnly");
        cookie.push_str(match self.cookie_same_site {
            SameSite::Strict => "; SameSite=strict",
            SameSite::Lax => "; SameSite=lax",
            SameSite::None => "; SameSite=none",
            SameSite::Unset => "",
        });
        cookie
    }
}

fn check_expiry(expiry: Option<Timestamp>, now: Timestamp) -> Result<(), ApiError> {
    match expiry {
        Some(expiry) if expiry <= now => Err(ApiError::unauthorized("Unauthorized - Token has expired.")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(headers: &[(&'static str, &'static str)], query: &str) -> Option<(bool, Location)> {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect();
        let (credential, location) = credential(&headers, &Query::parse(Some(query)))?;
        Some((matches!(credential, Credential::Token(_)), location))
    }

    #[test]
    fn the_first_credential_present_decides() {
        let all = [("x-auth-token", "t"), ("st2-api-key", "k"), ("cookie", "a=b; auth-token=c")];
        assert_eq!(location(&all, "x-auth-token=q"), Some((true, Location::Header)));
        assert_eq!(location(&all[1..], "x-auth-token=q"), Some((false, Location::Header)));
        assert_eq!(location(&all[2..], "x-auth-token=q"), Some((true, Location::Query)));
        assert_eq!(location(&all[2..], "st2-api-key=q"), Some((false, Location::Query)));
        assert_eq!(location(&all[2..], "st2-api-key="), Some((true, Location::Cookie)));
        assert_eq!(location(&[("x-auth-token", "")], ""), None);
    }
}
