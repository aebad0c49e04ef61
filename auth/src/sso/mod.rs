//! Sign-on at an identity provider: OpenID Connect's authorization code flow, with PKCE, state and nonce
//! (OpenID Connect Core 1.0 §3.1, RFC 7636).
//!
//! A sign-on has two halves, which different nodes may serve: [`Provider::begin`] says where the browser goes and what
//! has to be kept meanwhile ([`Pending`]; the gateway leaves it, signed, with the browser), and [`Provider::finish`]
//! makes a [`Person`] of what the browser comes back with.

mod claims;
mod http;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::{CoreAuthenticationFlow, CoreProviderMetadata};
use openidconnect::{
    AccessTokenHash, AuthorizationCode, ClientId, ClientSecret, CsrfToken, IssuerUrl, Nonce, OAuth2TokenResponse,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use self::claims::{Client, Token};
use self::http::Http;

/// What a provider said of itself and its keys counts for this long; keys are changed with an overlap of hours.
const FRESH: Duration = Duration::from_secs(300);

/// Where people sign on, and what of them is believed.
#[derive(Clone)]
pub struct SsoOptions {
    /// As the provider names itself; its description is at `<issuer>/.well-known/openid-configuration`.
    pub issuer: String,
    pub client_id: String,
    /// None for public clients.
    pub client_secret: Option<String>,
    /// Where the provider sends the browser back to: this service's `/auth/v1/sso/callback`, as browsers see it.
    pub redirect_url: String,
    /// Besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that names the user.
    pub user_claim: String,
    /// The claim that lists the user's groups; none: groups aren't known.
    pub groups_claim: Option<String>,
    /// Only members of one of these may sign on; empty: everybody whom the provider lets in.
    pub allowed_groups: Vec<String>,
    /// Authority of the provider's certificate, besides the usual ones.
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
}

impl fmt::Debug for SsoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SsoOptions")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Why somebody isn't signed on; the texts hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SsoError {
    /// The options can't be.
    #[error("{0}")]
    Options(String),
    /// What came back is not to be believed, or not enough.
    #[error("{0}")]
    Refused(String),
    /// The provider doesn't answer as it should.
    #[error("{0}")]
    Unavailable(String),
}

/// What has to be there when the browser comes back. Whoever knows it can't sign on with it: the code is needed too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    state: String,
    nonce: String,
    verifier: String,
}

/// Who signed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub user: String,
    /// None if groups aren't known.
    pub groups: Option<Vec<String>>,
}

/// An identity provider.
#[derive(Debug)]
pub struct Provider {
    options: SsoOptions,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    http: Http,
    described: Mutex<Option<(Instant, Arc<CoreProviderMetadata>)>>,
}

impl Provider {
    /// The provider isn't asked before it is needed: it may come up later.
    pub fn new(options: SsoOptions) -> Result<Self, SsoError> {
        let invalid = |key: &str, error: &dyn fmt::Display| SsoError::Options(format!("{key}: {error}"));
        let issuer = IssuerUrl::new(options.issuer.clone()).map_err(|error| invalid("issuer", &error))?;
        let redirect =
            RedirectUrl::new(options.redirect_url.clone()).map_err(|error| invalid("redirect_url", &error))?;
        let http =
            Http::new(options.timeout, options.ca_file.as_deref()).map_err(|error| invalid("ca_file", &error))?;
        Ok(Self { options, issuer, redirect, http, described: Mutex::default() })
    }

    /// Whether [`Person::groups`] has anything to say.
    pub fn knows_groups(&self) -> bool {
        self.options.groups_claim.is_some()
    }

    /// This service's address for the way back.
    pub fn redirect_url(&self) -> &str {
        &self.options.redirect_url
    }

    /// The address at the provider that the browser is sent to.
    pub async fn begin(&self) -> Result<(String, Pending), SsoError> {
        let client = self.client().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .set_pkce_challenge(challenge);
        for scope in &self.options.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.url();
        let pending = Pending {
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: verifier.secret().clone(),
        };
        Ok((url.to_string(), pending))
    }

    /// Trades the code for the person, if it all belongs together.
    pub async fn finish(&self, pending: Pending, state: &str, code: &str) -> Result<Person, SsoError> {
        if !bool::from(pending.state.as_bytes().ct_eq(state.as_bytes())) {
            return Err(SsoError::Refused("the answer belongs to another sign-on".to_owned()));
        }
        let client = self.client().await?;
        let verifier = PkceCodeVerifier::new(pending.verifier);
        let http = self.http.as_function();
        let answer: Token = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| SsoError::Unavailable(error.to_string()))?
            .set_pkce_verifier(verifier)
            .request_async(&http)
            .await
            .map_err(http::refusal)?;
        self.person(&client, &answer, &Nonce::new(pending.nonce))
    }

    fn person(&self, client: &Client, answer: &Token, nonce: &Nonce) -> Result<Person, SsoError> {
        let refused = |error: &dyn fmt::Display| SsoError::Refused(error.to_string());
        let token = answer.id_token().ok_or_else(|| refused(&"the provider gave no ID token"))?;
        let verifier = client.id_token_verifier();
        let claims = token.claims(&verifier, nonce).map_err(|error| refused(&error))?;
        if let Some(expected) = claims.access_token_hash() {
            let algorithm = token.signing_alg().map_err(|error| refused(&error))?;
            let key = token.signing_key(&verifier).map_err(|error| refused(&error))?;
            let actual =
                AccessTokenHash::from_token(answer.access_token(), algorithm, key).map_err(|error| refused(&error))?;
            if actual != *expected {
                return Err(refused(&"the access token is not the ID token's"));
            }
        }
        let person = claims::person(claims, &self.options)?;
        let allowed = &self.options.allowed_groups;
        let groups = person.groups.as_deref().unwrap_or_default();
        if !allowed.is_empty() && !allowed.iter().any(|group| groups.contains(group)) {
            return Err(refused(&format!("{} is in none of the groups that may sign on", person.user)));
        }
        Ok(person)
    }

    async fn client(&self) -> Result<Client, SsoError> {
        let described = self.describe().await?;
        let secret = self.options.client_secret.clone().map(ClientSecret::new);
        let id = ClientId::new(self.options.client_id.clone());
        Ok(Client::from_provider_metadata(CoreProviderMetadata::clone(&described), id, secret)
            .set_redirect_uri(self.redirect.clone()))
    }

    async fn describe(&self) -> Result<Arc<CoreProviderMetadata>, SsoError> {
        let known = self.described.lock().clone();
        if let Some((at, described)) = known
            && at.elapsed() < FRESH
        {
            return Ok(described);
        }
        let http = self.http.as_function();
        let described = CoreProviderMetadata::discover_async(self.issuer.clone(), &http)
            .await
            .map_err(|error| SsoError::Unavailable(format!("{}: {error}", self.options.issuer)))?;
        let described = Arc::new(described);
        *self.described.lock() = Some((Instant::now(), described.clone()));
        Ok(described)
    }
}
