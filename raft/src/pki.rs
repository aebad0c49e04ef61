//! The cluster's own certificate authority: a key and a certificate in a directory, node certificates issued from it,
//! and join tokens with which a node gets its certificate from a running member.
//!
//! * `squall cluster init-ca` → [`init_ca`]; `squall cluster cert` → [`issue`]; `squall cluster token` →
//!   [`mint_token`].
//! * A node certificate's common name is the node's name; it serves both ends of a connection. Host names aren't
//!   checked, so nodes may move; they are put in for other tools.
//! * A token holds the authority's fingerprint (so that the new node knows whom to trust), its end, and a nonce; it is
//!   authenticated by a key derived from the authority's. Whoever has it can become a node until it ends: it is a
//!   secret.
//!
//! All functions block for short file operations.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::network::tls::fingerprint;

/// How long an authority lasts, and a node's certificate.
const CA_DAYS: u64 = 20 * 365;
const NODE_DAYS: u64 = 3 * 365;
/// Certificates begin a little in the past: clocks differ.
const SLACK: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Longest life of a token.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);
const TOKEN_PREFIX: &str = "squall-join-1";

/// What can go wrong with certificates and tokens.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{path}: {reason}", path = path.display())]
    File { path: PathBuf, reason: String },
    #[error("'{0}' can't be a node's name in a certificate: 1 to 64 printable characters")]
    Name(String),
    #[error("a certificate can't be made: {0}")]
    Make(String),
    /// Says no more than that: whoever offers a wrong token learns nothing.
    #[error("the join token is not valid")]
    Token,
    #[error("the join token has expired")]
    TokenExpired,
    #[error("a token lives from one second to {} days", MAX_TOKEN_TTL.as_secs() / 86_400)]
    TokenLife,
}

/// Where an authority's files are: `ca.pem` and `ca.key` (mode 0600).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFiles {
    pub ca: PathBuf,
    pub key: PathBuf,
}

impl AuthorityFiles {
    pub fn within(dir: &Path) -> Self {
        Self { ca: dir.join("ca.pem"), key: dir.join("ca.key") }
    }
}

/// Makes the authority of a cluster in `dir`. Never replaces one.
pub fn init_ca(dir: &Path, cluster: &str) -> Result<AuthorityFiles, PkiError> {
    check_name(cluster)?;
    let files = AuthorityFiles::within(dir);
    for path in [&files.ca, &files.key] {
        if path.symlink_metadata().is_ok() {
            return Err(PkiError::File { path: path.clone(), reason: "exists already".to_owned() });
        }
    }
    fs::create_dir_all(dir).map_err(|error| file_error(dir, &error))?;
    let key = KeyPair::generate().map_err(make)?;
    let mut params = params(cluster, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(make)?;
    write_new(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    write_new(&files.ca, certificate.pem().as_bytes(), 0o644)?;
    Ok(files)
}

/// Issues a node's certificate into `into`: `NAME.pem` (with the authority's behind it) and `NAME.key` (mode 0600).
/// `hosts`: DNS names and addresses of the node, for other tools. Replaces former files: nodes notice.
pub fn issue(ca_dir: &Path, into: &Path, node: &str, hosts: &[String]) -> Result<(PathBuf, PathBuf), PkiError> {
    check_name(node)?;
    if node.contains('/') || node.starts_with('.') {
        return Err(PkiError::Name(node.to_owned()));
    }
    let authority = Authority::open(&AuthorityFiles::within(ca_dir))?;
    let key = KeyPair::generate().map_err(make)?;
    let mut params = node_params(node, NODE_DAYS);
    for host in hosts {
        params.subject_alt_names.extend(CertificateParams::new(vec![host.clone()]).map_err(make)?.subject_alt_names);
    }
    let certificate = params.signed_by(&key, &authority.issuer).map_err(make)?;
    fs::create_dir_all(into).map_err(|error| file_error(into, &error))?;
    let (cert_path, key_path) = (into.join(format!("{node}.pem")), into.join(format!("{node}.key")));
    let chain = format!("{}{}", certificate.pem(), authority.pem);
    replace(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
    replace(&cert_path, chain.as_bytes(), 0o644)?;
    Ok((cert_path, key_path))
}

/// A token with which nodes can join until `ttl` is over. A secret; not written anywhere.
pub fn mint_token(ca_dir: &Path, ttl: Duration) -> Result<String, PkiError> {
    if ttl < Duration::from_secs(1) || ttl > MAX_TOKEN_TTL {
        return Err(PkiError::TokenLife);
    }
    let authority = Authority::open(&AuthorityFiles::within(ca_dir))?;
    let until = since_epoch(SystemTime::now()) + ttl.as_secs();
    let claims = Claims { ca: authority.fingerprint(), until, nonce: format!("{:032x}", rand::random::<u128>()) };
    let claims = serde_json::to_vec(&claims).map_err(|error| PkiError::Make(error.to_string()))?;
    let claims = URL_SAFE_NO_PAD.encode(claims);
    let mac = URL_SAFE_NO_PAD.encode(authority.mac(&claims)?.finalize().into_bytes());
    Ok(format!("{TOKEN_PREFIX}.{claims}.{mac}"))
}

/// What a token says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Claims {
    /// SHA-256 of the authority's certificate, hex.
    pub ca: String,
    /// Seconds since 1970.
    pub until: u64,
    nonce: String,
}

/// Reads a token without the authority's key: unproven.
pub(crate) fn read_token(token: &str) -> Result<Claims, PkiError> {
    let (_, claims, _) = split(token)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| PkiError::Token)?;
    serde_json::from_slice(&claims).map_err(|_| PkiError::Token)
}

fn split(token: &str) -> Result<(&str, &str, &str), PkiError> {
    let mut parts = token.trim().splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(TOKEN_PREFIX), Some(claims), Some(mac)) => Ok((TOKEN_PREFIX, claims, mac)),
        _ => Err(PkiError::Token),
    }
}

/// An authority with its key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
    secret: [u8; 32],
}

impl Authority {
    pub fn open(files: &AuthorityFiles) -> Result<Self, PkiError> {
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| file_error(path, &error));
        let (pem, key) = (read(&files.ca)?, read(&files.key)?);
        let bad = |path: &Path, reason: String| PkiError::File { path: path.to_owned(), reason };
        let key = KeyPair::from_pem(&key).map_err(|error| bad(&files.key, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| bad(&files.ca, error.to_string()))?;
        let secret = Sha256::digest(key.serialized_der()).into();
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| bad(&files.ca, error.to_string()))?;
        Ok(Self { issuer, pem, der, secret })
    }

    fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }

    fn mac(&self, claims: &str) -> Result<Hmac<Sha256>, PkiError> {
        let failed = |_| PkiError::Make("a key of the wrong length".to_owned());
        // A key of its own, so that a token's tag says nothing about the authority's key.
        let mut derive = <Hmac<Sha256> as Mac>::new_from_slice(&self.secret).map_err(failed)?;
        derive.update(b"squall join token, key");
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&derive.finalize().into_bytes()).map_err(failed)?;
        mac.update(claims.as_bytes());
        Ok(mac)
    }

    /// Whether this authority made the token and it is still good.
    pub fn check_token(&self, token: &str, now: SystemTime) -> Result<(), PkiError> {
        let (_, claims, mac) = split(token)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| PkiError::Token)?;
        // In constant time.
        self.mac(claims)?.verify_slice(&mac).map_err(|_| PkiError::Token)?;
        let claims = read_token(token)?;
        if claims.ca != self.fingerprint() {
            return Err(PkiError::Token);
        }
        if since_epoch(now) >= claims.until { Err(PkiError::TokenExpired) } else { Ok(()) }
    }

    /// A certificate for the key of a signing request; gives it with the authority's behind it, and that alone. Only
    /// the key is taken from the request.
    pub fn sign(&self, request: &str, node: &str) -> Result<(String, String), PkiError> {
        check_name(node)?;
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(make)?;
        request.params = node_params(node, NODE_DAYS);
        let certificate = request.signed_by(&self.issuer).map_err(make)?;
        Ok((format!("{}{}", certificate.pem(), self.pem), self.pem.clone()))
    }
}

/// A new key and a request for its certificate, both PEM.
pub(crate) fn signing_request(node: &str) -> Result<(String, String), PkiError> {
    check_name(node)?;
    let key = KeyPair::generate().map_err(make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(node);
    let request = params.serialize_request(&key).map_err(make)?.pem().map_err(make)?;
    Ok((key.serialize_pem(), request))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn params(name: &str, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - SLACK).into();
    params.not_after = (now + DAY * u32::try_from(days).unwrap_or(u32::MAX)).into();
    params.distinguished_name = named(name);
    params.serial_number = Some(SerialNumber::from_slice(&(rand::random::<u128>() >> 1).to_be_bytes()));
    params.use_authority_key_identifier_extension = true;
    params
}

fn node_params(node: &str, days: u64) -> CertificateParams {
    let mut params = params(node, days);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if let Ok(named) = CertificateParams::new(vec![node.to_owned()]) {
        params.subject_alt_names = named.subject_alt_names;
    }
    params
}

fn check_name(name: &str) -> Result<(), PkiError> {
    let good = (1..=64).contains(&name.len()) && name.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ');
    if good { Ok(()) } else { Err(PkiError::Name(name.to_owned())) }
}

fn since_epoch(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn make(error: rcgen::Error) -> PkiError {
    PkiError::Make(error.to_string())
}

fn file_error(path: &Path, error: &io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), reason: error.to_string() }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| file_error(path, &error))
}

/// Replaces a file in one step, with this mode from the beginning.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    write_new(&temporary, bytes, mode)?;
    fs::rename(&temporary, path).map_err(|error| file_error(path, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::network::tls::speaks_for;

    #[test]
    fn an_authority_is_made_once_and_issues_named_certificates_with_guarded_keys() {
        let dir = tempfile::tempdir().unwrap();
        let files = init_ca(dir.path(), "blue").unwrap();
        assert!(init_ca(dir.path(), "blue").unwrap_err().to_string().contains("exists already"));
        let hosts = ["node1.example.com".to_owned(), "10.0.0.1".to_owned()];
        let (cert, key) = issue(dir.path(), &dir.path().join("out"), "n_1", &hosts).unwrap();
        for secret in [&files.key, &key] {
            assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let certificate = CertificateDer::from_pem_file(&cert).unwrap();
        assert_eq!(speaks_for(&certificate).as_deref(), Some("n_1"));
        issue(dir.path(), &dir.path().join("out"), "n_1", &[]).unwrap();
        for name in ["", "a/b", "../x", &"x".repeat(65), "ü"] {
            assert!(issue(dir.path(), dir.path(), name, &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn tokens_prove_themselves_until_they_end() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        init_ca(dir.path(), "blue").unwrap();
        init_ca(other.path(), "blue").unwrap();
        let token = mint_token(dir.path(), Duration::from_secs(60)).unwrap();
        let authority = Authority::open(&AuthorityFiles::within(dir.path())).unwrap();
        let foreign = Authority::open(&AuthorityFiles::within(other.path())).unwrap();
        let now = SystemTime::now();
        authority.check_token(&token, now).unwrap();
        authority.check_token(&format!(" {token}\n"), now).unwrap();
        let late = authority.check_token(&token, now + Duration::from_secs(61));
        assert!(matches!(late, Err(PkiError::TokenExpired)));
        assert!(matches!(foreign.check_token(&token, now), Err(PkiError::Token)));
        assert_ne!(token, mint_token(dir.path(), Duration::from_secs(60)).unwrap());

        // Every change of a character breaks it.
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            if forged != token {
                assert!(authority.check_token(&forged, now).is_err(), "{forged}");
            }
        }
        assert!(matches!(mint_token(dir.path(), Duration::ZERO), Err(PkiError::TokenLife)));
        assert!(authority.check_token("", now).is_err());
    }

    #[test]
    fn a_request_gets_the_name_that_was_checked_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), "blue").unwrap();
        let authority = Authority::open(&AuthorityFiles::within(dir.path())).unwrap();
        let (_, request) = signing_request("mallory").unwrap();
        let (chain, ca) = authority.sign(&request, "n1").unwrap();
        assert!(chain.ends_with(&ca));
        let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        assert_eq!(speaks_for(&certificate).as_deref(), Some("n1"));
        assert!(authority.sign("nonsense", "n1").is_err());
    }
}
