//! One HTTP connection: NTLM logs in connections, not requests, so that there must be no pool that picks another one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::client::WinrmError;
use super::ntlm::channel_hash;
use super::trust;

/// Bytes of an answer; hosts are told a smaller limit.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// For the connection with its handshakes.
const CONNECT: Duration = Duration::from_secs(30);

/// Where a host listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Without brackets.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// Whether the host's certificate must be one that the node trusts.
    pub verify: bool,
}

impl Endpoint {
    pub fn url(&self) -> String {
        format!("{}://{}/wsman", if self.tls { "https" } else { "http" }, self.authority())
    }

    fn authority(&self) -> String {
        let bracketed = self.host.contains(':');
        if bracketed { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

/// What a host said.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An open connection; ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Hash of the bindings to the host's certificate; none without TLS.
    pub channel: Option<[u8; 16]>,
    _driver: JoinSet<()>,
}

impl Connection {
    pub async fn open(endpoint: &Endpoint) -> Result<Self, WinrmError> {
        let opened = tokio::time::timeout(CONNECT, Self::open_without_limit(endpoint)).await;
        let late =
            |_| WinrmError::Http(format!("no connection to {} in {} s", endpoint.authority(), CONNECT.as_secs()));
        opened.map_err(late)?
    }

    async fn open_without_limit(endpoint: &Endpoint) -> Result<Self, WinrmError> {
        let failed = |error: std::io::Error| {
            WinrmError::Http(format!("Failed to establish a new connection to {}: {error}", endpoint.authority()))
        };
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
        // Requests are small and wait for each other.
        stream.set_nodelay(true).map_err(failed)?;
        if !endpoint.tls {
            return Self::over(stream, None).await;
        }
        let config = tls(endpoint.verify).await?;
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| WinrmError::Http(format!("\"{}\" is not the name of a host", endpoint.host)))?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let channel =
            certificate.and_then(|certificate| certificate_digest(certificate)).map(|hash| channel_hash(&hash));
        Self::over(stream, channel).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        channel: Option<[u8; 16]>,
    ) -> Result<Self, WinrmError> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(http)?;
        let mut driver = JoinSet::new();
        // Its errors are told to whoever waits for an answer.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { sender, channel, _driver: driver })
    }

    /// Whether the host still holds it.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Not cancel safe: a connection on which a request was given up is of no further use.
    pub async fn post(
        &mut self,
        endpoint: &Endpoint,
        headers: &[(header::HeaderName, String)],
        body: Vec<u8>,
    ) -> Result<Answer, WinrmError> {
        let mut request = Request::post("/wsman").header(header::HOST, endpoint.authority());
        request = request.header(header::USER_AGENT, concat!("squall/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| WinrmError::Http(error.to_string()))?;
        self.sender.ready().await.map_err(http)?;
        let (head, body) = self.sender.send_request(request).await.map_err(http)?.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        let body = body.map_err(|error| WinrmError::Http(error.to_string()))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

fn http(error: hyper::Error) -> WinrmError {
    WinrmError::Http(crate::http_request::chain(&error))
}

async fn tls(verify: bool) -> Result<Arc<ClientConfig>, WinrmError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| WinrmError::Http(error.to_string()))?;
    let config = if verify {
        // Read from files, each time: an authority added to the machine is trusted at once.
        let roots = tokio::task::spawn_blocking(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        });
        let roots = roots.await.map_err(|error| WinrmError::Http(error.to_string()))?;
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(trust::Anyone::default())).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

/// By the hash of the certificate's own signature, at least SHA-256 (RFC 5929 §4.1); none where that has no single one.
fn certificate_digest(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // SHA-384 and SHA-512 with RSA, with ECDSA.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(certificate).to_vec()),
        // RSASSA-PSS, Ed25519.
        "1.2.840.113549.1.1.10" | "1.3.101.112" => None,
        _ => Some(Sha256::digest(certificate).to_vec()),
    }
}
