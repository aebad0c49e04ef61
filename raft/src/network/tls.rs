//! Mutual TLS between nodes: rustls with ring, TLS 1.3 only.
//!
//! Both sides verify the cluster's authority. A certificate speaks for one name: its common name, or without one its
//! only DNS name. Whoever dials a known member wants exactly that name; host names don't matter, so nodes may move.
//! The files are looked at every [`LOOK`]; new connections use what they then hold.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::error::RaftError;
use crate::options::TlsFiles;

/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_secs(1);

/// The current certificates of this node.
pub struct Tls {
    files: TlsFiles,
    /// Nodes without a certificate may connect, to enroll only.
    enrolls: bool,
    current: RwLock<Arc<Loaded>>,
}

struct Loaded {
    changed: [Option<SystemTime>; 3],
    server: Arc<ServerConfig>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Whom our own certificate names.
    name: String,
    /// Whom the authority's certificate names: the cluster.
    authority: Option<String>,
}

impl Tls {
    /// Reads the files. Blocks.
    pub fn load(files: TlsFiles, enrolls: bool) -> Result<Self, RaftError> {
        let loaded = read(&files, enrolls)?;
        Ok(Self { files, enrolls, current: RwLock::new(Arc::new(loaded)) })
    }

    /// Reads the files again if they were changed; damaged ones change nothing. Blocks.
    pub fn refresh(&self) {
        let changed = stamps(&self.files);
        if self.current.read().changed == changed {
            return;
        }
        match read(&self.files, self.enrolls) {
            Ok(loaded) => {
                tracing::info!(name = loaded.name, "the node's certificate was read again");
                *self.current.write() = Arc::new(loaded);
            }
            // Half-written, perhaps. Said once per change of the files at most every look.
            Err(error) => tracing::warn!(%error, "the changed certificate can't be used; the former one stays"),
        }
    }

    pub fn server(&self) -> Arc<ServerConfig> {
        self.current.read().server.clone()
    }

    /// For a connection to the node of this name, or to whoever has a certificate.
    pub fn client(&self, expected: Option<&str>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let current = self.current.read().clone();
        let provider = provider();
        let verifier = MemberVerifier {
            roots: current.roots.clone(),
            algorithms: provider.signature_verification_algorithms,
            expected: expected.map(str::to_owned),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(current.chain.clone(), current.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// The node's name by its own certificate.
    pub fn name(&self) -> String {
        self.current.read().name.clone()
    }

    /// The cluster's name by its authority.
    pub fn authority(&self) -> Option<String> {
        self.current.read().authority.clone()
    }
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn stamps(files: &TlsFiles) -> [Option<SystemTime>; 3] {
    let stamp = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [stamp(&files.ca), stamp(&files.cert), stamp(&files.key)]
}

fn read(files: &TlsFiles, enrolls: bool) -> Result<Loaded, RaftError> {
    let refuse = |path: &PathBuf, reason: String| RaftError::Certificate { path: path.clone(), reason };
    // Before reading: a change in between is seen at the next look.
    let changed = stamps(files);
    let certificates = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>, RaftError> {
        let found: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).map_err(|error| refuse(path, error.to_string()))?.collect();
        let found = found.map_err(|error| refuse(path, error.to_string()))?;
        if found.is_empty() { Err(refuse(path, "holds no certificate".to_owned())) } else { Ok(found) }
    };
    let mut roots = RootCertStore::empty();
    let authorities = certificates(&files.ca)?;
    let first_authority = authorities[0].clone();
    let authority = common_name(&first_authority);
    for certificate in authorities {
        roots.add(certificate).map_err(|error| refuse(&files.ca, error.to_string()))?;
    }
    let roots = Arc::new(roots);
    let chain = certificates(&files.cert)?;
    let name = speaks_for(&chain[0])
        .ok_or_else(|| refuse(&files.cert, "names no node: neither a common name nor one DNS name".to_owned()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refuse(&files.key, error.to_string()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    let verifier = if enrolls { verifier.allow_unauthenticated() } else { verifier };
    let verifier = verifier.build().map_err(|error| refuse(&files.ca, error.to_string()))?;
    let mut shown = chain.clone();
    if enrolls && !shown.contains(&first_authority) {
        // New nodes know the authority by its fingerprint only: it must be shown.
        shown.push(first_authority);
    }
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| refuse(&files.cert, error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(shown, key.clone_key())
        .map_err(|error| refuse(&files.cert, error.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would outlive its certificate.
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Loaded { changed, server: Arc::new(server), roots, chain, key, name, authority })
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The one name that a certificate speaks for.
pub fn speaks_for(certificate: &CertificateDer<'_>) -> Option<String> {
    if let Some(name) = common_name(certificate) {
        return Some(name);
    }
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut names = names.value.general_names.iter().filter_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let first = names.next()?;
    // With several, it would be anybody's guess.
    names.next().is_none().then_some(first)
}

/// SHA-256 of a certificate, hex.
pub fn fingerprint(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Accepts certificates of the cluster's authority that speak for the expected node.
#[derive(Debug)]
struct MemberVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    expected: Option<String>,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)?;
        match (&self.expected, speaks_for(end_entity)) {
            (Some(expected), Some(name)) if *expected == name => Ok(ServerCertVerified::assertion()),
            (None, Some(_)) => Ok(ServerCertVerified::assertion()),
            (expected, name) => Err(rustls::Error::General(format!(
                "the certificate is that of node '{}', not of '{}'",
                name.as_deref().unwrap_or("?"),
                expected.as_deref().unwrap_or("?"),
            ))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// For a node that has no certificate yet and knows of the authority only its fingerprint.
pub fn pinned(authority: &str) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider();
    let verifier =
        PinnedVerifier { authority: authority.to_owned(), algorithms: provider.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts certificates of the authority with this fingerprint, which the other side must show too.
#[derive(Debug)]
struct PinnedVerifier {
    authority: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates.iter().find(|shown| fingerprint(shown) == self.authority);
        let authority = authority.ok_or_else(|| {
            rustls::Error::General("the node doesn't belong to the authority that the join token names".to_owned())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let member = MemberVerifier { roots: Arc::new(roots), algorithms: self.algorithms, expected: None };
        member.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The fixed name that is sent in clear at the start of a connection; certificates are checked for node names instead.
pub fn sni() -> io::Result<ServerName<'static>> {
    ServerName::try_from("node.squall").map_err(|error| io::Error::other(error.to_string()))
}
