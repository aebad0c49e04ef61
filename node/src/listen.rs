//! The ports of a node, and the file that tells where it listens.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use gateway::{Mount, Socket, Tls};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};

use crate::config::{Config, Role};

/// `sun_path` of sockaddr_un, less the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Where a running node listens; `addresses.json` of the data directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Addresses {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub combined: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<SocketAddr>,
    /// What `combined` serves, over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<SocketAddr>,
    /// Sends everybody to the one with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<SocketAddr>,
    /// The API for this node's own actions, when the others are for health checks alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The same as a socket in the data directory ([`local`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// Takes the ports, so that one that is taken is an error before anything else happens.
///
/// A node without the API role answers nothing but health checks on them. Its own actions and sensors still need the
/// API: they get it on a port of this machine alone.
pub async fn bind(config: &Config) -> Result<Ports> {
    let Config { listen, node, .. } = config;
    let wanted = [
        (listen.combined, Mount::Combined, "listen.combined"),
        (listen.auth, Mount::Auth, "listen.auth"),
        (listen.api, Mount::Api, "listen.api"),
        (listen.stream, Mount::Stream, "listen.stream"),
    ];
    let serves_api = node.has(Role::Api);
    let (mut listeners, mut addresses) = (Vec::new(), Addresses::default());
    for (address, mount, key) in wanted {
        let Some(address) = address else { continue };
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("can't listen on {address} (key `{key}`)"))?;
        *addresses.slot(mount) = Some(listener.local_addr()?);
        listeners.push((listener.into(), if serves_api { mount } else { Mount::Health }));
    }
    if serves_api {
        bind_tls(config, &mut listeners, &mut addresses).await?;
    }
    anyhow::ensure!(!listeners.is_empty(), "no address to listen on: give at least one under [listen]");
    if !serves_api && (node.has(Role::Runner) || node.has(Role::Sensors)) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("can't listen for this node's actions")?;
        addresses.local = Some(listener.local_addr()?);
        listeners.push((listener.into(), Mount::Api));
    }
    Ok(Ports { listeners, addresses })
}

/// The port with TLS, and the one that sends there.
async fn bind_tls(config: &Config, listeners: &mut Vec<(Socket, Mount)>, addresses: &mut Addresses) -> Result<()> {
    let Some(address) = config.listen.tls else {
        anyhow::ensure!(config.listen.redirect.is_none(), "`listen.redirect` needs `listen.tls`");
        return Ok(());
    };
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("can't listen on {address} (key `listen.tls`)"))?;
    let own = listener.local_addr()?;
    addresses.tls = Some(own);
    listeners.push((listener.into(), Mount::Tls));
    if let Some(address) = config.listen.redirect {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("can't listen on {address} (key `listen.redirect`)"))?;
        addresses.redirect = Some(listener.local_addr()?);
        listeners.push((listener.into(), Mount::Redirect(own.port())));
    }
    Ok(())
}

/// The API as a socket in the data directory, for this node's own actions and sensors; none if the node has neither
/// role, or if the path is longer than the system takes (they use the port then).
///
/// The caller holds the data directory: a socket that is there was left by a node that ended.
pub fn local(config: &Config, data_dir: &Path) -> Result<Option<(PathBuf, UnixListener)>> {
    if !config.node.has(Role::Runner) && !config.node.has(Role::Sensors) {
        return Ok(None);
    }
    let path = std::path::absolute(data_dir)?.join("api.sock");
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        tracing::info!(path = %path.display(), "the path is too long for a socket: actions use the port");
        return Ok(None);
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("can't remove {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("can't listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Some((path, listener)))
}

/// Certificate and key of the port with TLS.
pub fn tls(config: &Config) -> Result<Option<Arc<Tls>>> {
    let listen = &config.listen;
    if listen.tls.is_none() {
        return Ok(None);
    }
    let (Some(certificate), Some(key)) = (&listen.certificate, &listen.key) else {
        anyhow::bail!("`listen.tls` needs `listen.certificate` and `listen.key`");
    };
    Ok(Some(Arc::new(Tls::open(certificate, key).context("section [listen]")?)))
}

/// The ports, taken.
#[derive(Debug)]
pub struct Ports {
    pub listeners: Vec<(Socket, Mount)>,
    pub addresses: Addresses,
}

impl Addresses {
    fn slot(&mut self, mount: Mount) -> &mut Option<SocketAddr> {
        match mount {
            Mount::Combined | Mount::Health => &mut self.combined,
            Mount::Tls => &mut self.tls,
            Mount::Redirect(_) => &mut self.redirect,
            Mount::Auth => &mut self.auth,
            Mount::Api => &mut self.api,
            Mount::Stream => &mut self.stream,
        }
    }

    /// Base of the API as this machine reaches it, with `/v1`.
    pub fn api_url(&self) -> String {
        match (self.local.or(self.api), self.combined) {
            (Some(api), _) => format!("http://{}/v1", reachable(api)),
            (None, Some(combined)) => format!("http://{}/api/v1", reachable(combined)),
            (None, None) => String::new(),
        }
    }

    fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("addresses.json")
    }

    /// Appears when the node is ready.
    pub fn write(&self, data_dir: &Path) -> Result<()> {
        let path = Self::file(data_dir);
        let partial = path.with_extension("partial");
        let text = serde_json::to_string(self)?;
        std::fs::write(&partial, text)
            .and_then(|()| std::fs::rename(&partial, &path))
            .with_context(|| format!("can't write {}", path.display()))
    }

    /// Those of the node that runs on this directory; none if none does, or did until it crashed.
    pub fn read(data_dir: &Path) -> Result<Option<Self>> {
        let path = Self::file(data_dir);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let addresses: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
                let listens = |address: SocketAddr| {
                    std::net::TcpStream::connect_timeout(&reachable(address), std::time::Duration::from_secs(1)).is_ok()
                };
                let one = addresses.combined.or(addresses.api).or(addresses.local);
                Ok(one.is_some_and(listens).then_some(addresses))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }

    /// A file that stays behind only misleads until the next start.
    pub fn remove(&self, data_dir: &Path) {
        let _ = std::fs::remove_file(Self::file(data_dir));
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// An address that listens everywhere is reached by loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST)
        } else {
            std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
        };
        address.set_ip(loopback);
    }
    address
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("auth", self.auth),
            ("api", self.api),
            ("stream", self.stream),
            ("combined", self.combined),
            ("own actions", self.local),
        ];
        let texts: Vec<String> =
            named.iter().filter_map(|(name, address)| Some(format!("{name} {}", (*address)?))).collect();
        f.write_str(&texts.join(", "))
    }
}
