//! Where the servers are, and how to speak to them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use model::Collection;
use mongodb::options::{
    Acknowledgment, ClientOptions, Credential, ReadConcern, SelectionCriteria, Tls, TlsOptions, WriteConcern,
};

use crate::failure::OpenError;

/// How connections name themselves to the server.
pub(crate) const APP_NAME: &str = "squall";

/// A secret that doesn't show in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Certificates for TLS, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities that the servers' certificates may come from; the system's if none is given.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key (one file) that this client shows.
    pub cert_key_file: Option<PathBuf>,
}

/// Settings of a [`MongoStore`](crate::MongoStore).
#[derive(Clone)]
pub struct MongoOptions {
    /// `mongodb://…` or `mongodb+srv://…`; may hold credentials.
    pub uri: String,
    /// Instead of, or besides, what the URI says.
    pub username: Option<String>,
    /// Goes with `username`.
    pub password: Option<Password>,
    /// TLS, if the URI doesn't ask for it already.
    pub tls: Option<TlsFiles>,
    /// Holds the collections.
    pub database: String,
    /// Begins the collections' names, with a dot after it.
    pub prefix: String,
    /// How long a call may take, retries included, before it is `Unavailable`.
    pub deadline: Duration,
    /// Connections at a time.
    pub pool_size: u32,
    /// What is stored.
    pub collections: Vec<&'static Collection>,
}

impl MongoOptions {
    /// Everything else at its default: database `squall`, prefix `squall`, 10 s, 64 connections.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            username: None,
            password: None,
            tls: None,
            database: "squall".to_owned(),
            prefix: "squall".to_owned(),
            deadline: Duration::from_secs(10),
            pool_size: 64,
            collections: model::COLLECTIONS.to_vec(),
        }
    }

    /// The driver's options; the URI is read here, so its mistakes show.
    pub(crate) async fn client(&self) -> Result<ClientOptions, OpenError> {
        let mut client = ClientOptions::parse(self.uri.as_str())
            .await
            // The driver's text may quote the URI.
            .map_err(|error| OpenError::Uri(hide(&error.to_string(), &self.uri)))?;
        client.app_name = Some(APP_NAME.to_owned());
        client.max_pool_size = Some(self.pool_size);
        client.connect_timeout = Some(Duration::from_secs(2));
        client.server_selection_timeout = Some(self.deadline.min(Duration::from_secs(3)));
        client.heartbeat_freq = Some(Duration::from_secs(2));
        client.retry_writes = Some(true);
        client.retry_reads = Some(true);
        client.read_concern = Some(ReadConcern::majority());
        client.write_concern = Some(majority(self.deadline));
        client.selection_criteria = Some(SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Primary));
        if let Some(username) = &self.username {
            let mut credential = client.credential.take().unwrap_or_else(|| Credential::builder().build());
            credential.username = Some(username.clone());
            credential.password = self.password.as_ref().map(|password| password.0.clone());
            client.credential = Some(credential);
        }
        if let Some(files) = &self.tls {
            let mut tls = TlsOptions::default();
            tls.ca_file_path.clone_from(&files.ca_file);
            tls.cert_key_file_path.clone_from(&files.cert_key_file);
            client.tls = Some(Tls::Enabled(tls));
        }
        Ok(client)
    }
}

/// `w: majority`, journaled, given up by the server after `within`.
pub(crate) fn majority(within: Duration) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(within).build()
}

/// The text without the URI's credentials.
fn hide(text: &str, uri: &str) -> String {
    let credentials =
        uri.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(credentials, _)| credentials);
    match credentials {
        Some(credentials) => {
            let password = credentials.split_once(':').map_or(credentials, |(_, password)| password);
            text.replace(credentials, "***").replace(password, "***")
        }
        None => text.to_owned(),
    }
}

impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOptions")
            .field("database", &self.database)
            .field("prefix", &self.prefix)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn credentials_are_hidden() {
        let uri = "mongodb://ada:hunter2@host/?x=1";
        assert!(!hide("bad uri mongodb://ada:hunter2@host: hunter2", uri).contains("hunter2"));
        let mut options = MongoOptions::new(uri);
        options.password = Some(Password("hunter3".into()));
        assert!(!format!("{options:?} {:?}", options.password).contains("hunter"));
    }

    #[tokio::test]
    async fn a_bad_uri_is_said_without_its_password() {
        let error = MongoOptions::new("mongodb://ada:hunter2@/").client().await.unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
