//! Sign-on at an identity provider.

use std::path::PathBuf;

use auth::SsoOptions;
use serde::{Deserialize, Serialize};

use super::secret::{self, Secret};
use super::{ConfigError, Span};

/// OpenID Connect, for browsers; off without an issuer. Passwords go on working beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oidc {
    /// The provider as it names itself, `https://id.example.org/realms/ours`.
    pub issuer: Option<String>,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub client_secret_file: Option<PathBuf>,
    /// `https://…/auth/v1/sso/callback`, as browsers reach this cluster; the provider has to know it too.
    pub redirect_url: String,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that names the user.
    pub user_claim: String,
    /// The claim that lists the user's groups, for roles and `allowed_groups`.
    pub groups_claim: Option<String>,
    /// Only members of one of these may sign on; everybody if there are none.
    pub allowed_groups: Vec<String>,
    /// Authority of the provider's certificate, besides those of the system.
    pub ca_file: Option<PathBuf>,
    pub timeout: Span,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: String::new(),
            client_secret: None,
            client_secret_file: None,
            redirect_url: String::new(),
            scopes: vec!["profile".to_owned(), "email".to_owned()],
            user_claim: "preferred_username".to_owned(),
            groups_claim: None,
            allowed_groups: Vec::new(),
            ca_file: None,
            timeout: Span::secs(10),
        }
    }
}

impl Oidc {
    /// None if there is no provider.
    pub fn options(&self) -> Result<Option<SsoOptions>, ConfigError> {
        let Some(issuer) = self.issuer.clone() else { return Ok(None) };
        let key = "auth.oidc.client_secret";
        Ok(Some(SsoOptions {
            issuer,
            client_id: self.client_id.clone(),
            client_secret: secret::given(key, self.client_secret.as_ref(), self.client_secret_file.as_deref())?,
            redirect_url: self.redirect_url.clone(),
            scopes: self.scopes.clone(),
            user_claim: self.user_claim.clone(),
            groups_claim: self.groups_claim.clone(),
            allowed_groups: self.allowed_groups.clone(),
            ca_file: self.ca_file.clone(),
            timeout: self.timeout.0,
        }))
    }

    /// What types can't say.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(issuer) = &self.issuer else { return Ok(()) };
        let fail = |key: &str, text: &str| Err(ConfigError(format!("key `auth.oidc.{key}`: {text}")));
        for (key, url) in [("issuer", issuer), ("redirect_url", &self.redirect_url)] {
            let parsed = url::Url::parse(url).ok().filter(|url| url.has_host());
            match parsed {
                None => return fail(key, "is no URL"),
                Some(url) if url.scheme() != "https" && !is_local(&url) => {
                    return fail(key, "needs https: tokens cross the network");
                }
                Some(_) => {}
            }
        }
        if self.client_id.is_empty() {
            return fail("client_id", "is missing");
        }
        if self.groups_claim.is_none() && !self.allowed_groups.is_empty() {
            return fail("allowed_groups", "needs `groups_claim`");
        }
        Ok(())
    }
}

fn is_local(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_checked() {
        let mut oidc = Oidc::default();
        oidc.check().unwrap();
        assert!(oidc.options().unwrap().is_none());
        oidc.issuer = Some("https://id.example.org".to_owned());
        assert!(oidc.check().unwrap_err().0.contains("`auth.oidc.redirect_url`"));
        oidc.redirect_url = "http://squall.example.org/auth/v1/sso/callback".to_owned();
        assert!(oidc.check().unwrap_err().0.contains("https"));
        oidc.redirect_url = "http://127.0.0.1:8080/auth/v1/sso/callback".to_owned();
        assert!(oidc.check().unwrap_err().0.contains("`auth.oidc.client_id`"));
        oidc.client_id = "squall".to_owned();
        oidc.check().unwrap();
        oidc.allowed_groups = vec!["ops".to_owned()];
        assert!(oidc.check().unwrap_err().0.contains("groups_claim"));
        oidc.groups_claim = Some("groups".to_owned());
        oidc.check().unwrap();
        oidc.client_secret = Some(toml::from_str::<Holder>("s = 'x'").unwrap().s);
        assert_eq!(oidc.options().unwrap().unwrap().client_secret.as_deref(), Some("x"));
        assert!(!format!("{oidc:?}").contains("'x'"));
    }

    #[derive(Deserialize)]
    struct Holder {
        s: Secret,
    }
}
