//! LDAP: the user is searched as a service account, must be in certain groups, and binds with the password
//! (spec/auth-rbac.md §2.2).

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ldap3::{LdapConnAsync, LdapConnSettings, ResultEntry, Scope, SearchEntry, ldap_escape};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{AuthBackend, BackendError};

/// invalidCredentials.
const INVALID_CREDENTIALS: u32 = 49;
/// busy, unavailable, other: the server's trouble, not the user's.
const TROUBLE: [u32; 3] = [51, 52, 80];
/// Groups found at logins are remembered for this many users.
const REMEMBERED: usize = 1000;

/// A password that debug output doesn't show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    #[default]
    Plain,
    StartTls,
    /// `ldaps://`.
    Tls,
}

/// How deep below its base a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    Base,
    OneLevel,
    #[default]
    Subtree,
}

/// Which of the groups a user has to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Membership {
    #[default]
    All,
    Any,
}

/// Where the directory is and how it is laid out; the names are those of StackStorm's keyword arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdapOptions {
    /// `host` or `host:port`, tried in their order.
    pub hosts: Vec<String>,
    pub port: u16,
    pub protection: Protection,
    /// Authority of the server's certificate; the system's if none is given.
    pub ca_file: Option<PathBuf>,
    pub bind_dn: String,
    pub bind_password: Password,
    pub base_ou: String,
    /// `base_ou` if none is given.
    pub base_ou_group: Option<String>,
    /// Groups that may log in: distinguished names, or their common names. None: nobody may.
    pub group_dns: Vec<String>,
    pub membership: Membership,
    pub id_attr: String,
    /// With `{id_attr}` and `{username}`.
    pub account_pattern: String,
    /// With `{user_dn}` and `{username}`.
    pub group_pattern: String,
    pub scope: Depth,
    /// For the connection, and for each answer.
    pub timeout: Duration,
    /// How long groups found at a login are good for bringing in roles.
    pub groups_ttl: Duration,
}

impl Default for LdapOptions {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            port: 389,
            protection: Protection::Plain,
            ca_file: None,
            bind_dn: String::new(),
            bind_password: Password::default(),
            base_ou: String::new(),
            base_ou_group: None,
            group_dns: Vec::new(),
            membership: Membership::All,
            id_attr: "uid".to_owned(),
            account_pattern: "{id_attr}={username}".to_owned(),
            group_pattern: "(|(&(objectClass=*)(|(member={user_dn})(uniqueMember={user_dn})(memberUid={username}))))"
                .to_owned(),
            scope: Depth::Subtree,
            timeout: Duration::from_secs(10),
            groups_ttl: Duration::from_secs(120),
        }
    }
}

/// Users of a directory service.
#[derive(Debug)]
pub struct Ldap {
    options: LdapOptions,
    tls: Option<Arc<rustls::ClientConfig>>,
    found: Mutex<HashMap<String, (Instant, Vec<String>)>>,
}

fn error(text: impl Into<String>) -> BackendError {
    BackendError(text.into())
}

fn failed(doing: &str, reason: &ldap3::LdapError) -> BackendError {
    error(format!("LDAP: {doing}: {reason}"))
}

impl Ldap {
    /// Reads the authority's file; connects to nobody.
    pub fn new(options: LdapOptions) -> Result<Self, BackendError> {
        let tls = match &options.ca_file {
            None => None,
            Some(path) => {
                let refuse = |reason: String| error(format!("LDAP: {}: {reason}", path.display()));
                let mut roots = rustls::RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refuse(e.to_string()))? {
                    let certificate = certificate.map_err(|e| refuse(e.to_string()))?;
                    roots.add(certificate).map_err(|e| refuse(e.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(refuse("holds no certificate".to_owned()));
                }
                let config =
                    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                        .with_safe_default_protocol_versions()
                        .map_err(|e| refuse(e.to_string()))?;
                Some(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
            }
        };
        Ok(Self { options, tls, found: Mutex::default() })
    }

    async fn connect(&self) -> Result<(LdapConnAsync, ldap3::Ldap), BackendError> {
        let mut last = error("LDAP: no host is configured");
        let scheme = if self.options.protection == Protection::Tls { "ldaps" } else { "ldap" };
        for host in &self.options.hosts {
            let mut settings = LdapConnSettings::new()
                .set_conn_timeout(self.options.timeout)
                .set_starttls(self.options.protection == Protection::StartTls);
            if let Some(tls) = &self.tls {
                settings = settings.set_config(tls.clone());
            }
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let url = if has_port {
                format!("{scheme}://{host}")
            } else {
                format!("{scheme}://{host}:{}", self.options.port)
            };
            // The library's limit doesn't cover the handshake.
            let connecting = tokio::time::timeout(self.options.timeout, LdapConnAsync::with_settings(settings, &url));
            last = match connecting.await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(reason)) => failed(&url, &reason),
                Err(_) => error(format!("LDAP: {url}: no answer within {:?}", self.options.timeout)),
            };
            tracing::warn!(host, error = %last, "a directory server can't be reached");
        }
        Err(last)
    }

    /// The groups of the user if the password is right and the groups suffice.
    async fn log_in(&self, user: &str, password: &str) -> Result<Option<Vec<String>>, BackendError> {
        let (connection, ldap) = self.connect().await?;
        let session = Session { ldap, options: &self.options };
        // Nothing is spawned: the connection is driven as long as somebody waits for its answers.
        tokio::select! {
            biased;
            outcome = session.log_in(user, password) => outcome,
            ended = connection.drive() => Err(match ended {
                Ok(()) => error("LDAP: the server closed the connection"),
                Err(reason) => failed("the connection broke", &reason),
            }),
        }
    }
}

/// One connection's questions.
struct Session<'a> {
    ldap: ldap3::Ldap,
    options: &'a LdapOptions,
}

impl Session<'_> {
    async fn log_in(mut self, user: &str, password: &str) -> Result<Option<Vec<String>>, BackendError> {
        let options = self.options;
        let bound = self.bind(&options.bind_dn, &options.bind_password.0).await?;
        if !bound {
            return Err(error("LDAP: the service account's credentials are refused"));
        }
        let Some(user_dn) = self.find_user(user).await? else { return Ok(None) };
        let groups = self.find_groups(user, &user_dn).await?;
        if !suffice(&groups, &options.group_dns, options.membership) {
            tracing::info!(user, "the user isn't in the groups that may log in");
            return Ok(None);
        }
        if !self.bind(&user_dn, password).await? {
            return Ok(None);
        }
        Ok(Some(groups))
    }

    async fn bind(&mut self, dn: &str, password: &str) -> Result<bool, BackendError> {
        let answer = self.ldap.with_timeout(self.options.timeout).simple_bind(dn, password).await;
        let answer = answer.map_err(|reason| failed("bind", &reason))?;
        match answer.rc {
            0 => Ok(true),
            INVALID_CREDENTIALS => Ok(false),
            code if TROUBLE.contains(&code) => Err(error(format!("LDAP: bind: the server answers code {code}"))),
            code => {
                tracing::info!(dn, code, "the directory service refuses a bind");
                Ok(false)
            }
        }
    }

    async fn search(&mut self, base: &str, filter: &str) -> Result<Vec<String>, BackendError> {
        let scope = match self.options.scope {
            Depth::Base => Scope::Base,
            Depth::OneLevel => Scope::OneLevel,
            Depth::Subtree => Scope::Subtree,
        };
        // "1.1": no attributes, only names.
        let answer = self.ldap.with_timeout(self.options.timeout).search(base, scope, filter, vec!["1.1"]).await;
        let answer = answer.and_then(ldap3::SearchResult::success);
        let (entries, _) = answer.map_err(|reason| failed("search", &reason))?;
        let is_entry = |entry: &ResultEntry| !entry.is_ref() && !entry.is_intermediate();
        Ok(entries.into_iter().filter(is_entry).map(|entry| SearchEntry::construct(entry).dn).collect())
    }

    /// Exactly one entry is the user.
    async fn find_user(&mut self, user: &str) -> Result<Option<String>, BackendError> {
        let options = self.options;
        let filter = fill(&options.account_pattern, &[("id_attr", &options.id_attr), ("username", &ldap_escape(user))]);
        let mut found = self.search(&options.base_ou, &parenthesised(filter)).await?;
        if found.len() > 1 {
            tracing::warn!(user, count = found.len(), "several entries of the directory fit the user's name");
            return Ok(None);
        }
        Ok(found.pop())
    }

    async fn find_groups(&mut self, user: &str, user_dn: &str) -> Result<Vec<String>, BackendError> {
        let options = self.options;
        let filter =
            fill(&options.group_pattern, &[("user_dn", &ldap_escape(user_dn)), ("username", &ldap_escape(user))]);
        let base = options.base_ou_group.as_deref().unwrap_or(&options.base_ou);
        self.search(base, &parenthesised(filter)).await
    }
}

/// Puts values in for `{names}`, each once: a value is not looked through for further names.
fn fill(pattern: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(pattern.len() + 32);
    let mut rest = pattern;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        let tail = &rest[start..];
        let value = values.iter().find_map(|(name, value)| {
            let after = tail.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        rest = if let Some((value, after)) = value {
            filled.push_str(value);
            after
        } else {
            filled.push('{');
            &tail[1..]
        };
    }
    filled.push_str(rest);
    filled
}

fn parenthesised(filter: String) -> String {
    if filter.starts_with('(') { filter } else { format!("({filter})") }
}

/// Names are compared without regard to case; a required name without `=` is a group's common name.
fn suffice(groups: &[String], required: &[String], membership: Membership) -> bool {
    let is_in = |wanted: &String| groups.iter().any(|group| is_same(group, wanted));
    match membership {
        _ if required.is_empty() => false,
        Membership::All => required.iter().all(is_in),
        Membership::Any => required.iter().any(is_in),
    }
}

fn is_same(dn: &str, wanted: &str) -> bool {
    if wanted.contains('=') {
        return plain(dn) == plain(wanted);
    }
    let first = dn.split(',').next().unwrap_or(dn);
    first.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("cn") && value.trim().to_lowercase() == wanted.to_lowercase()
    })
}

/// Lower case, without blanks around the parts.
fn plain(dn: &str) -> String {
    dn.split(',').map(|part| part.trim().to_lowercase()).collect::<Vec<_>>().join(",")
}

#[async_trait]
impl AuthBackend for Ldap {
    async fn authenticate(&self, user: &str, password: &str) -> Result<bool, BackendError> {
        // A bind without password succeeds as nobody (RFC 4513 §5.1.2).
        if user.is_empty() || password.is_empty() {
            return Ok(false);
        }
        let Some(groups) = self.log_in(user, password).await? else { return Ok(false) };
        let mut found = self.found.lock();
        let ttl = self.options.groups_ttl;
        if found.len() >= REMEMBERED {
            found.retain(|_, (at, _)| at.elapsed() < ttl);
            if found.len() >= REMEMBERED {
                found.clear();
            }
        }
        found.insert(user.to_owned(), (Instant::now(), groups));
        Ok(true)
    }

    fn knows_groups(&self) -> bool {
        true
    }

    /// Those of the last login.
    async fn groups(&self, user: &str) -> Result<Vec<String>, BackendError> {
        let found = self.found.lock().get(user).cloned();
        match found {
            Some((at, groups)) if at.elapsed() < self.options.groups_ttl => Ok(groups),
            _ => Err(error("LDAP: the user's groups aren't known any more")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled_once() {
        let name = ldap_escape("a*)(uid={user_dn}");
        let filled = fill("(&(x={username})(y={user_dn}){z})", &[("username", &name), ("user_dn", "cn=a")]);
        assert_eq!(filled, "(&(x=a\\2a\\29\\28uid={user_dn})(y=cn=a){z})");
        assert_eq!(
            parenthesised(fill("{id_attr}={username}", &[("id_attr", "uid"), ("username", "ana")])),
            "(uid=ana)"
        );
    }

    #[test]
    fn groups_by_name_and_by_common_name() {
        let groups = ["cn=Devs,ou=groups,dc=acme".to_owned(), "cn=ops,ou=groups,dc=acme".to_owned()];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let full = names(&["CN=devs, OU=groups, DC=acme", "ops"]);
        assert!(suffice(&groups, &full, Membership::All));
        let more = names(&["devs", "qa"]);
        assert!(!suffice(&groups, &more, Membership::All) && suffice(&groups, &more, Membership::Any));
        assert!(!suffice(&groups, &[], Membership::All) && !suffice(&groups, &[], Membership::Any));
        assert!(!suffice(&groups, &names(&["acme"]), Membership::Any));
    }

    #[test]
    fn the_password_of_the_service_account_is_not_shown() {
        let options = LdapOptions { bind_password: Password("hunter2".to_owned()), ..LdapOptions::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
