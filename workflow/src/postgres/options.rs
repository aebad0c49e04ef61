//! How to reach the database.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::error::OpenError;

/// Encryption; where not given, the URL's own `sslmode`, `sslrootcert`, `sslcert` and `sslkey` count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`.
    pub mode: Option<String>,
    /// PEM of the authorities that may have signed the server's certificate.
    pub root_cert: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

/// How to open a state on PostgreSQL. Its `Debug` shows no password.
#[derive(Clone)]
pub struct PostgresOptions {
    url: String,
    /// Instead of the one in the URL, so that it can come from a file.
    pub password: Option<String>,
    /// Where the tables lie; clusters that share a database have one each. Made if it isn't there.
    pub schema: String,
    pub tls: TlsOptions,
    /// Connections of this node. Each drain under way takes one; two are left to everything else.
    pub max_connections: u32,
    /// How long a call may take, waiting for a connection included, before it is `Unavailable`.
    pub timeout: Duration,
    /// How long the server works on one statement.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// How long a drain may sit idle before the server lets its workflow go.
    pub drain_timeout: Duration,
    /// Connections unused for this long are closed.
    pub idle_timeout: Duration,
}

impl PostgresOptions {
    /// For a URL such as `postgres://user:password@host:5432/database?sslmode=verify-full`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            schema: "squall".to_owned(),
            tls: TlsOptions::default(),
            max_connections: 16,
            timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(8),
            lock_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
        }
    }

    /// Checks everything that can be checked without the server.
    pub(super) fn connect_options(&self) -> Result<PgConnectOptions, OpenError> {
        let config = |option, reason: &str| OpenError::Config { option, reason: reason.to_owned() };
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.schema.is_empty()
            || self.schema.len() > 48
            || !self.schema.chars().all(letters)
            || self.schema.starts_with(|c: char| c.is_ascii_digit())
            || self.schema.starts_with("pg_")
        {
            return Err(config("schema", "must be 1 to 48 of a-z, 0-9 and _, not beginning with a digit or pg_"));
        }
        if self.max_connections < 3 {
            return Err(config("max_connections", "must be at least 3"));
        }
        // The error of the parser may quote the URL, password and all.
        let mut options = PgConnectOptions::from_str(&self.url).map_err(|_| {
            config("url", "is not of the form postgres://user:password@host:port/database?option=value")
        })?;
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        if let Some(mode) = &self.tls.mode {
            let mode = PgSslMode::from_str(mode)
                .map_err(|_| config("tls.mode", "must be disable, allow, prefer, require, verify-ca or verify-full"))?;
            options = options.ssl_mode(mode);
        }
        for (option, path) in [
            ("tls.root_cert", &self.tls.root_cert),
            ("tls.client_cert", &self.tls.client_cert),
            ("tls.client_key", &self.tls.client_key),
        ] {
            if let Some(path) = path
                && let Err(error) = std::fs::metadata(path)
            {
                return Err(OpenError::Config { option, reason: format!("{}: {error}", path.display()) });
            }
        }
        if let Some(path) = &self.tls.root_cert {
            options = options.ssl_root_cert(path);
        }
        if let (Some(cert), Some(key)) = (&self.tls.client_cert, &self.tls.client_key) {
            options = options.ssl_client_cert(cert).ssl_client_key(key);
        } else if self.tls.client_cert.is_some() || self.tls.client_key.is_some() {
            return Err(config("tls.client_cert", "client_cert and client_key go together"));
        }
        Ok(options
            .application_name(&format!("squall {}", self.schema))
            .statement_cache_capacity(64)
            .disable_statement_logging())
    }

    /// What a new connection is told first.
    pub(super) fn session(&self) -> String {
        format!(
            "SET search_path TO \"{}\"; SET statement_timeout = {}; SET lock_timeout = {}; \
             SET idle_in_transaction_session_timeout = {}; SET synchronous_commit = on; \
             SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning",
            self.schema,
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
            self.drain_timeout.as_millis(),
        )
    }

    /// The channel on which nodes of this cluster tell each other of work.
    pub(super) fn channel(&self) -> String {
        format!("{}_workflow", self.schema)
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = PgConnectOptions::from_str(&self.url).map_or_else(
            |_| "(not a URL)".to_owned(),
            |options| {
                format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or_default())
            },
        );
        f.debug_struct("PostgresOptions")
            .field("server", &server)
            .field("schema", &self.schema)
            .field("tls", &self.tls)
            .field("max_connections", &self.max_connections)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        let mut options = PostgresOptions::new("postgres://me:geheim@db.example:5433/squall?sslmode=bogus");
        options.password = Some("geheim".to_owned());
        let error = options.connect_options().unwrap_err();
        for text in [format!("{options:?}"), format!("{error}"), format!("{error:?}")] {
            assert!(!text.contains("geheim"), "{text}");
        }
        let options = PostgresOptions::new("postgres://me:geheim@db.example:5433/squall");
        assert!(format!("{options:?}").contains("db.example:5433/squall"));
        let odd = PostgresOptions::new("postgres://me:gehe:im@@db:x/y");
        assert!(!format!("{odd:?} {:?}", odd.connect_options().unwrap_err()).contains("gehe"));
    }

    #[test]
    fn wrong_options_are_named() {
        let error_of = |change: &dyn Fn(&mut PostgresOptions)| {
            let mut options = PostgresOptions::new("postgres://localhost/squall");
            change(&mut options);
            options.connect_options().unwrap_err().to_string()
        };
        assert!(error_of(&|options| options.schema = "a\"b".to_owned()).contains("schema"));
        assert!(error_of(&|options| options.schema = "pg_x".to_owned()).contains("schema"));
        assert!(error_of(&|options| options.max_connections = 1).contains("max_connections"));
        assert!(error_of(&|options| options.tls.mode = Some("maybe".to_owned())).contains("tls.mode"));
        let missing = error_of(&|options| options.tls.root_cert = Some("/nowhere/ca.pem".into()));
        assert!(missing.contains("tls.root_cert") && missing.contains("/nowhere/ca.pem"), "{missing}");
        let alone = error_of(&|options| options.tls.client_cert = Some("/".into()));
        assert!(alone.contains("client_key"), "{alone}");
    }
}
