//! TLS of the ports that have it: certificate and key from files, read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The files are looked at this often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A client must have shaken hands by then.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("certificate {certificate} and key {key}: {reason}")]
    Pair { certificate: PathBuf, key: PathBuf, reason: String },
}

/// Certificate and key, as they are now.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    stamp: Stamp,
    looked: Instant,
}

/// When a file was changed, and its size; for both files.
type Stamp = [Option<(SystemTime, u64)>; 2];

fn stamp(paths: [&Path; 2]) -> Stamp {
    paths.map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|error| file(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(file(certificate, "holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, error.to_string()))?;
    let pair = |error: rustls::Error| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Tls {
    /// Reads the files (PEM). Errors name the file; neither tells what is in it.
    pub fn open(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let stamp = stamp([&certificate, &key]);
        let config = load(&certificate, &key)?;
        Ok(Self { certificate, key, current: Mutex::new(Current { config, stamp, looked: Instant::now() }) })
    }

    /// What new connections get. A pair that can't be used changes nothing: it may be half written.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let stamp = stamp([&self.certificate, &self.key]);
            if stamp != current.stamp {
                match load(&self.certificate, &self.key) {
                    Ok(config) => {
                        tracing::info!(certificate = %self.certificate.display(), "the TLS certificate was read again");
                        (current.config, current.stamp) = (config, stamp);
                    }
                    Err(error) => tracing::warn!(%error, "the new TLS certificate can't be used: the old one stays"),
                }
            }
        }
        current.config.clone()
    }

    /// Shakes hands.
    pub(crate) async fn accept<S>(self: &Arc<Self>, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let tls = self.clone();
        let config = tokio::task::spawn_blocking(move || tls.config()).await.map_err(io::Error::other)?;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time");
        tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await.map_err(late)?
    }
}
