//! How to reach Redis.

use std::fmt;
use std::time::Duration;

use coordinator::CoordinatorError;
use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

/// See [`RedisOptions::new`].
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://host:port/db`, or `rediss://…` for TLS; may hold credentials.
    pub url: String,
    /// Instead of those in the URL.
    pub username: Option<String>,
    pub password: Option<String>,
    /// Begins all names: clusters may share a server.
    pub prefix: String,
    pub tls: RedisTls,
    /// Every call is over after this long.
    pub timeout: Duration,
}

/// With `rediss`: PEM texts.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// Authorities that the server's certificate may come from; the system's if none is given.
    pub ca: Option<Vec<u8>>,
    /// Certificate and key that this node shows.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisOptions {
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            prefix: prefix.into(),
            tls: RedisTls::default(),
            timeout: Duration::from_secs(3),
        }
    }

    pub(crate) fn client(&self) -> Result<Client, CoordinatorError> {
        // The URL stays out of errors: it may hold a password.
        let misuse = |error: redis::RedisError| {
            CoordinatorError::Misuse(format!(
                "the URL or the certificates of Redis can't be used ({})",
                error.kind_text()
            ))
        };
        let info: ConnectionInfo = self.url.as_str().into_connection_info().map_err(misuse)?;
        let mut settings = info.redis_settings().clone();
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let info = info.set_redis_settings(settings);
        if !self.url.starts_with("rediss:") {
            return Client::open(info).map_err(misuse);
        }
        let identity = self.tls.identity.clone();
        let client_tls = identity.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        Client::build_with_tls(info, TlsCertificates { client_tls, root_cert: self.tls.ca.clone() }).map_err(misuse)
    }
}

/// The kind of an error without its text.
trait KindText {
    fn kind_text(&self) -> String;
}

impl KindText for redis::RedisError {
    fn kind_text(&self) -> String {
        format!("{:?}", self.kind())
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTls").field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_show_nowhere() {
        let mut options = RedisOptions::new("redis://u:sesame@host:port/x", "p");
        options.password = Some("tulip".to_owned());
        let error = options.client().unwrap_err();
        let shown = format!("{options:?} {error} {error:?}");
        assert!(!shown.contains("sesame") && !shown.contains("tulip"), "{shown}");
        options.url = "redis://u:sesame@127.0.0.1:1/0".to_owned();
        assert!(options.client().is_ok());
    }
}
