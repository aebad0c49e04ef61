//! The servers that a node stands on: store, bus, workflow state, coordinator. The defaults are the embedded ones.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secret::{self, Secret, ServerUrl};
use super::{ConfigError, Span};

/// TLS towards one server. With a key here (or a URL that asks for it) the connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Authorities that the server's certificate may come from; the system's if none is given.
    pub ca_file: Option<PathBuf>,
    /// Certificate that this node shows, with its key.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl Tls {
    /// Certificate and key go together.
    pub(super) fn check(&self, section: &str) -> Result<(), ConfigError> {
        let missing = match (&self.cert_file, &self.key_file) {
            (Some(_), None) => "key_file",
            (None, Some(_)) => "cert_file",
            _ => return Ok(()),
        };
        Err(ConfigError(format!("key `{section}.tls.{missing}`: certificate and key go together")))
    }

    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

/// Where resources are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `sqlite` (embedded, in the data directory) or `mongodb://…`, `mongodb+srv://…`.
    pub url: ServerUrl,
    /// Holds the URL instead.
    pub url_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    /// MongoDB's database.
    pub database: String,
    /// Begins the names of collections, so that clusters can share a database; the cluster's name if none is given.
    pub prefix: Option<String>,
    /// How long a call may take before it counts as unavailable.
    pub timeout: Span,
    pub tls: Tls,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: ServerUrl::new("sqlite"),
            url_file: None,
            username: None,
            password: None,
            password_file: None,
            database: "squall".to_owned(),
            prefix: None,
            timeout: Span::secs(10),
            tls: Tls::default(),
        }
    }
}

/// What carries events and jobs between nodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// `amqp://…` or `amqps://…` of each broker; none: events stay in this process.
    pub urls: Vec<ServerUrl>,
    /// Holds the URLs instead, one a line.
    pub urls_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub tls: Tls,
}

/// Where workflows keep their state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workflow {
    /// `sqlite` (embedded) or `postgres://…`.
    pub url: ServerUrl,
    /// Holds the URL instead.
    pub url_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    /// Connections at a time.
    pub pool_size: u32,
    pub tls: Tls,
}

impl Default for Workflow {
    fn default() -> Self {
        Self {
            url: ServerUrl::new("sqlite"),
            url_file: None,
            username: None,
            password: None,
            password_file: None,
            pool_size: 8,
            tls: Tls::default(),
        }
    }
}

/// Who decides which execution gets a permit next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoordinatorBackend {
    /// The consensus group itself.
    #[default]
    Raft,
    Redis,
    ZooKeeper,
}

/// Permits and locks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coordinator {
    pub backend: CoordinatorBackend,
    /// `redis://…`, `rediss://…`, or `zookeeper://host:port,host:port/chroot`.
    pub url: Option<ServerUrl>,
    /// Holds the URL instead.
    pub url_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub tls: Tls,
}

impl Store {
    pub fn is_embedded(&self) -> bool {
        self.url_file.is_none() && self.url.scheme() == "sqlite"
    }

    /// The URL, from its file if one is given.
    pub fn server_url(&self) -> Result<ServerUrl, ConfigError> {
        from_file("store", &self.url, self.url_file.as_ref())
    }

    pub fn secret(&self) -> Result<Option<String>, ConfigError> {
        secret::given("store.password", self.password.as_ref(), self.password_file.as_deref())
    }
}

impl Bus {
    pub fn is_embedded(&self) -> bool {
        self.urls_file.is_none() && self.urls.is_empty()
    }

    pub fn server_urls(&self) -> Result<Vec<ServerUrl>, ConfigError> {
        match &self.urls_file {
            None => Ok(self.urls.clone()),
            Some(path) => {
                Ok(secret::read_file("bus.urls_file", path)?.split_whitespace().map(ServerUrl::new).collect())
            }
        }
    }

    pub fn secret(&self) -> Result<Option<String>, ConfigError> {
        secret::given("bus.password", self.password.as_ref(), self.password_file.as_deref())
    }
}

impl Workflow {
    pub fn is_embedded(&self) -> bool {
        self.url_file.is_none() && self.url.scheme() == "sqlite"
    }

    pub fn server_url(&self) -> Result<ServerUrl, ConfigError> {
        from_file("workflow", &self.url, self.url_file.as_ref())
    }

    pub fn secret(&self) -> Result<Option<String>, ConfigError> {
        secret::given("workflow.password", self.password.as_ref(), self.password_file.as_deref())
    }
}

impl Coordinator {
    pub fn server_url(&self) -> Result<ServerUrl, ConfigError> {
        let none = ServerUrl::new("");
        from_file("coordinator", self.url.as_ref().unwrap_or(&none), self.url_file.as_ref())
    }

    pub fn secret(&self) -> Result<Option<String>, ConfigError> {
        secret::given("coordinator.password", self.password.as_ref(), self.password_file.as_deref())
    }
}

fn from_file(section: &str, url: &ServerUrl, file: Option<&PathBuf>) -> Result<ServerUrl, ConfigError> {
    file.map_or_else(
        || Ok(url.clone()),
        |path| secret::read_file(&format!("{section}.url_file"), path).map(ServerUrl::new),
    )
}
