//! Who may log in, and who may do what.

use std::net::IpAddr;
use std::path::PathBuf;

use auth::backend::helper::{HelperOptions, Protocol};
use auth::backend::ldap::{Depth, LdapOptions, Membership, Password, Protection};
use serde::{Deserialize, Serialize};

use super::secret::{self, Secret};
use super::sso::Oidc;
use super::{ConfigError, Span};

/// Who checks passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The backend.
    #[default]
    Standalone,
    /// A front end did: it tells the user in `X-Forwarded-User`.
    Proxy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Apache's password file.
    #[default]
    FlatFile,
    Ldap,
    /// A program that asks PAM, or anything else.
    Pam,
}

/// Authentication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Without it every request is the system user's.
    pub enable: bool,
    pub mode: Mode,
    /// In proxy mode: addresses of the front ends that are believed. Others can't log in.
    pub trusted_proxies: Vec<IpAddr>,
    pub backend: Backend,
    /// flat_file: users and password hashes (bcrypt, apr1, SHA); `<data_dir>/htpasswd` if none is given.
    pub htpasswd_file: Option<PathBuf>,
    /// Longest life of a token.
    pub token_ttl: Span,
    /// Life of the tokens that actions and sensors get.
    pub service_token_ttl: Span,
    /// What `X-API-URL` tells clients; the API's own address if none is given.
    pub api_url: Option<String>,
    pub ldap: LdapConfig,
    pub pam: Pam,
    pub oidc: Oidc,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enable: true,
            mode: Mode::Standalone,
            trusted_proxies: vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])],
            backend: Backend::FlatFile,
            htpasswd_file: None,
            token_ttl: Span::days(1),
            service_token_ttl: Span::days(1),
            api_url: None,
            ldap: LdapConfig::default(),
            pam: Pam::default(),
            oidc: Oidc::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LdapTls {
    /// Passwords cross the network in clear.
    #[default]
    None,
    StartTls,
    Ldaps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupCheck {
    #[default]
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LdapScope {
    Base,
    OneLevel,
    #[default]
    Subtree,
}

/// A directory service (backend `ldap`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LdapConfig {
    /// `host` or `host:port`, tried in their order.
    pub hosts: Vec<String>,
    pub port: u16,
    pub tls: LdapTls,
    /// Authority of the servers' certificates; the system's if none is given.
    pub ca_file: Option<PathBuf>,
    /// The account that searches.
    pub bind_dn: String,
    pub bind_password: Option<Secret>,
    pub bind_password_file: Option<PathBuf>,
    /// Where users are searched, and groups unless `base_ou_group` says otherwise.
    pub base_ou: String,
    pub base_ou_group: Option<String>,
    /// Groups whose members may log in: distinguished names, or their common names.
    pub group_dns: Vec<String>,
    /// Whether a user must be in all of them or in one.
    pub group_dns_check: GroupCheck,
    pub id_attr: String,
    /// Filter of users, with {id_attr} and {username}.
    pub account_pattern: String,
    /// Filter of a user's groups, with {user_dn} and {username}.
    pub group_pattern: String,
    pub scope: LdapScope,
    pub network_timeout: Span,
}

impl Default for LdapConfig {
    fn default() -> Self {
        let usual = LdapOptions::default();
        Self {
            hosts: Vec::new(),
            port: usual.port,
            tls: LdapTls::None,
            ca_file: None,
            bind_dn: String::new(),
            bind_password: None,
            bind_password_file: None,
            base_ou: String::new(),
            base_ou_group: None,
            group_dns: Vec::new(),
            group_dns_check: GroupCheck::And,
            id_attr: usual.id_attr,
            account_pattern: usual.account_pattern,
            group_pattern: usual.group_pattern,
            scope: LdapScope::Subtree,
            network_timeout: Span(usual.timeout),
        }
    }
}

impl LdapConfig {
    pub fn options(&self) -> Result<LdapOptions, ConfigError> {
        let key = "auth.ldap.bind_password";
        let password = secret::given(key, self.bind_password.as_ref(), self.bind_password_file.as_deref())?;
        Ok(LdapOptions {
            hosts: self.hosts.clone(),
            port: self.port,
            protection: match self.tls {
                LdapTls::None => Protection::Plain,
                LdapTls::StartTls => Protection::StartTls,
                LdapTls::Ldaps => Protection::Tls,
            },
            ca_file: self.ca_file.clone(),
            bind_dn: self.bind_dn.clone(),
            bind_password: Password(password.unwrap_or_default()),
            base_ou: self.base_ou.clone(),
            base_ou_group: self.base_ou_group.clone(),
            group_dns: self.group_dns.clone(),
            membership: match self.group_dns_check {
                GroupCheck::And => Membership::All,
                GroupCheck::Or => Membership::Any,
            },
            id_attr: self.id_attr.clone(),
            account_pattern: self.account_pattern.clone(),
            group_pattern: self.group_pattern.clone(),
            scope: match self.scope {
                LdapScope::Base => Depth::Base,
                LdapScope::OneLevel => Depth::OneLevel,
                LdapScope::Subtree => Depth::Subtree,
            },
            timeout: self.network_timeout.0,
            ..LdapOptions::default()
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HelperProtocol {
    /// The password and a zero byte on standard input; the user as an argument.
    #[default]
    Chkpwd,
    /// Two lines on standard input: user and password.
    Lines,
}

/// The program that checks passwords (backend `pam`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pam {
    pub program: PathBuf,
    /// `{user}` stands for the user's name.
    pub arguments: Vec<String>,
    pub protocol: HelperProtocol,
    pub timeout: Span,
}

impl Default for Pam {
    fn default() -> Self {
        let usual = HelperOptions::default();
        Self {
            program: usual.program,
            arguments: usual.arguments,
            protocol: HelperProtocol::Chkpwd,
            timeout: Span(usual.timeout),
        }
    }
}

impl Pam {
    pub fn options(&self) -> HelperOptions {
        HelperOptions {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            protocol: match self.protocol {
                HelperProtocol::Chkpwd => Protocol::Chkpwd,
                HelperProtocol::Lines => Protocol::Lines,
            },
            timeout: self.timeout.0,
        }
    }
}

/// Role-based access control. Off: everybody who logs in may do everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rbac {
    pub enable: bool,
    /// At a login, the groups that the backend knows bring and take roles.
    pub sync_remote_groups: bool,
    /// Users see only their own executions, rules and API keys.
    pub permission_isolation: bool,
    /// What `squall rbac apply` reads: roles/, assignments/, mappings/; `<content.base_path>/rbac` if none is given.
    pub definitions_dir: Option<PathBuf>,
}

/// What types can't say.
pub fn check(auth: &Auth, rbac: &Rbac) -> Result<(), ConfigError> {
    let fail = |text: &str| Err(ConfigError(text.to_owned()));
    if rbac.enable && !auth.enable {
        return fail("key `rbac.enable`: needs `auth.enable`, for without it nobody has a name");
    }
    let signs_on = auth.oidc.issuer.is_some() && auth.oidc.groups_claim.is_some();
    let knows_groups = (auth.mode == Mode::Standalone && auth.backend == Backend::Ldap) || signs_on;
    if rbac.sync_remote_groups && !knows_groups {
        return fail("key `rbac.sync_remote_groups`: only the backend ldap and `auth.oidc.groups_claim` know groups");
    }
    auth.oidc.check()?;
    if auth.token_ttl.0.as_secs() == 0 || auth.service_token_ttl.0.as_secs() == 0 {
        return fail("keys `auth.token_ttl` and `auth.service_token_ttl`: at least 1s");
    }
    if auth.mode == Mode::Proxy || auth.backend != Backend::Ldap {
        return Ok(());
    }
    let ldap = &auth.ldap;
    let missing = [
        ("hosts", ldap.hosts.is_empty()),
        ("bind_dn", ldap.bind_dn.is_empty()),
        ("bind_password", ldap.bind_password.is_none() && ldap.bind_password_file.is_none()),
        ("base_ou", ldap.base_ou.is_empty()),
        ("group_dns", ldap.group_dns.is_empty()),
    ];
    if let Some((name, _)) = missing.iter().find(|(_, is_missing)| *is_missing) {
        return Err(ConfigError(format!("key `auth.ldap.{name}`: the backend ldap needs it")));
    }
    for (name, pattern) in [("account_pattern", &ldap.account_pattern), ("group_pattern", &ldap.group_pattern)] {
        if !pattern.contains("{username}") && !pattern.contains("{user_dn}") {
            return Err(ConfigError(format!("key `auth.ldap.{name}`: names no user: {{username}} is missing")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let rbac = Rbac::default();
        let mut auth = Auth { backend: Backend::Ldap, ..Auth::default() };
        assert!(check(&auth, &rbac).unwrap_err().0.contains("`auth.ldap.hosts`"));
        auth.ldap.hosts = vec!["ldap.example".to_owned()];
        auth.ldap.bind_dn = "cn=squall".to_owned();
        auth.ldap.bind_password_file = Some("/run/secret".into());
        auth.ldap.base_ou = "dc=example".to_owned();
        assert!(check(&auth, &rbac).unwrap_err().0.contains("`auth.ldap.group_dns`"));
        auth.ldap.group_dns = vec!["ops".to_owned()];
        check(&auth, &Rbac { sync_remote_groups: true, ..Rbac::default() }).unwrap();
        let flat = Auth::default();
        assert!(check(&flat, &Rbac { sync_remote_groups: true, ..Rbac::default() }).is_err());
        let open = Auth { enable: false, ..Auth::default() };
        assert!(check(&open, &Rbac { enable: true, ..Rbac::default() }).is_err());
    }
}
