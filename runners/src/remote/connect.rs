//! A connection to a host: through the bastion if there is one, its key checked, logged in.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::MethodKind;
use russh::client::{self, AuthResult, Config, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use tokio::net::TcpStream;

use super::credentials::Credential;
use super::host_keys::HostKeys;

/// A host that goes silent is given up after three of these.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where to, and as whom.
#[derive(Debug, Clone)]
pub struct Login {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub credential: Credential,
}

/// A connection that is logged in. Dropping it closes it.
pub struct Connection {
    pub handle: Handle<Client>,
    /// What the connection goes through.
    _bastion: Option<Handle<Client>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

/// Checks the host's key; the only thing that a host may ask of us.
#[derive(Debug)]
pub struct Client {
    host: String,
    port: u16,
    keys: HostKeys,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    HostKey(String),
    #[error("Authentication failed.")]
    Refused,
    #[error("{0}")]
    Ssh(#[from] russh::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the agent: {0}")]
    Agent(String),
}

impl client::Handler for Client {
    type Error = ConnectError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, ConnectError> {
        let key = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.clone(),
            // The key alone is looked at: we know no authorities.
            PublicKeyOrCertificate::Certificate(certificate) => certificate.public_key().clone().into(),
        };
        self.keys.check(&self.host, self.port, &key).await.map_err(ConnectError::HostKey)?;
        Ok(true)
    }
}

impl Connection {
    /// Both hops use the same user and credential (spec/runners.md §8). The caller bounds the time.
    pub async fn open(login: &Login, bastion: Option<&Login>, keys: &HostKeys) -> Result<Self, ConnectError> {
        let Some(bastion) = bastion else {
            return Ok(Self { handle: direct(login, keys).await?, _bastion: None });
        };
        let through = direct(bastion, keys).await?;
        let channel = through.channel_open_direct_tcpip(login.host.as_str(), login.port.into(), "127.0.0.1", 0).await?;
        let config = config(keys.known_algorithms(&login.host, login.port).await);
        let mut handle = client::connect_stream(config, channel.into_stream(), client(login, keys)).await?;
        authenticate(&mut handle, login).await?;
        Ok(Self { handle, _bastion: Some(through) })
    }
}

fn client(login: &Login, keys: &HostKeys) -> Client {
    Client { host: login.host.clone(), port: login.port, keys: keys.clone() }
}

fn config(known: Vec<Algorithm>) -> Arc<Config> {
    let mut config = Config { keepalive_interval: Some(KEEPALIVE), nodelay: true, ..Config::default() };
    if !known.is_empty() {
        let rest = config.preferred.key.iter().filter(|algorithm| !is_among(algorithm, &known)).cloned();
        let first = config.preferred.key.iter().filter(|algorithm| is_among(algorithm, &known)).cloned();
        config.preferred.key = Cow::Owned(first.chain(rest).collect());
    }
    Arc::new(config)
}

/// A key of RSA serves with any hash.
fn is_among(algorithm: &Algorithm, known: &[Algorithm]) -> bool {
    known.iter().any(|known| match (known, algorithm) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (known, algorithm) => known == algorithm,
    })
}

async fn direct(login: &Login, keys: &HostKeys) -> Result<Handle<Client>, ConnectError> {
    let config = config(keys.known_algorithms(&login.host, login.port).await);
    let stream = TcpStream::connect((login.host.as_str(), login.port)).await?;
    stream.set_nodelay(true)?;
    let mut handle = client::connect_stream(config, stream, client(login, keys)).await?;
    authenticate(&mut handle, login).await?;
    Ok(handle)
}

async fn authenticate(handle: &mut Handle<Client>, login: &Login) -> Result<(), ConnectError> {
    let accepted = match &login.credential {
        Credential::Password(password) => with_password(handle, &login.user, password).await?,
        Credential::Key(key) => {
            let hash = handle.best_supported_rsa_hash().await?.flatten();
            let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
            handle.authenticate_publickey(&login.user, key).await?.success()
        }
        Credential::Agent(socket) => with_agent(handle, &login.user, socket).await?,
    };
    if accepted { Ok(()) } else { Err(ConnectError::Refused) }
}

/// By the method `password`, or where the host has only that, by answering its single question.
async fn with_password(handle: &mut Handle<Client>, user: &str, password: &str) -> Result<bool, ConnectError> {
    let methods = match handle.authenticate_password(user, password).await? {
        AuthResult::Success => return Ok(true),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if methods.contains(&MethodKind::Password) || !methods.contains(&MethodKind::KeyboardInteractive) {
        return Ok(false);
    }
    use client::KeyboardInteractiveAuthResponse as Asked;
    let mut asked = handle.authenticate_keyboard_interactive_start(user, None).await?;
    // A question, and the empty round that some hosts end with.
    for _ in 0..3 {
        match asked {
            Asked::Success => return Ok(true),
            Asked::Failure { .. } => return Ok(false),
            Asked::InfoRequest { prompts, .. } => {
                let answers = prompts.iter().map(|_| password.to_owned()).collect();
                asked = handle.authenticate_keyboard_interactive_respond(answers).await?;
            }
        }
    }
    Ok(matches!(asked, Asked::Success))
}

async fn with_agent(handle: &mut Handle<Client>, user: &str, socket: &Path) -> Result<bool, ConnectError> {
    let failed = |error: &dyn std::fmt::Display| ConnectError::Agent(error.to_string());
    let mut agent = AgentClient::connect_uds(socket).await.map_err(|error| failed(&error))?;
    let identities = agent.request_identities().await.map_err(|error| failed(&error))?;
    let hash = handle.best_supported_rsa_hash().await?.flatten();
    for identity in identities {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = if matches!(key.algorithm(), Algorithm::Rsa { .. }) { hash } else { None };
        let tried = handle.authenticate_publickey_with(user, key, hash, &mut agent).await;
        if tried.map_err(|error| failed(&error))?.success() {
            return Ok(true);
        }
    }
    Ok(false)
}
