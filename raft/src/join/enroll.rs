//! How a node with nothing but a join token gets its certificate from a running member.
//!
//! The token names the authority by its fingerprint, so the new node speaks to nobody else; the member that holds the
//! authority's key checks that the authority made the token. The node's key never leaves the node.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::RaftError;
use crate::group::Inner;
use crate::network::peers::{answer, client_with};
use crate::network::proto::Request;
use crate::network::tls::{fingerprint, pinned};
use crate::network::wire::{Enroll, Enrolled};
use crate::options::{ClusterOptions, Options};
use crate::pki::{self, Authority, AuthorityFiles, PkiError};
use crate::types::encode;

/// How long a node tries before its start fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Deadline of one try.
const TRY: Duration = Duration::from_secs(3);
/// Pause between rounds over the seeds.
const PAUSE: Duration = Duration::from_millis(500);

/// As a member with the authority's key: issues a certificate for a good token.
pub async fn issue(inner: &Arc<Inner>, enroll: Enroll) -> Enrolled {
    let Some((options, key)) =
        inner.cluster.as_ref().and_then(|cluster| Some((&cluster.options, cluster.options.ca_key.clone()?)))
    else {
        return Enrolled::Refused("this node doesn't hold the authority's key".to_owned());
    };
    // A token is for new nodes; it must not buy the identity of one that is there.
    if inner.live_core().is_ok_and(|core| {
        core.reader.with(|applied| applied.state.sessions.values().any(|session| session.name == enroll.name))
    }) {
        return Enrolled::Refused(format!("a node '{}' is there", enroll.name));
    }
    let files = AuthorityFiles { ca: options.tls.ca.clone(), key };
    let name = enroll.name.clone();
    let signed = tokio::task::spawn_blocking(move || -> Result<(String, String), PkiError> {
        let authority = Authority::open(&files)?;
        authority.check_token(&enroll.token, SystemTime::now())?;
        authority.sign(&enroll.request, &enroll.name)
    });
    match signed.await {
        Ok(Ok((chain, ca))) => {
            tracing::info!(node = name, "a certificate was issued for a join token");
            Enrolled::Issued { chain, ca }
        }
        Ok(Err(error @ (PkiError::Token | PkiError::TokenExpired | PkiError::Name(_) | PkiError::Make(_)))) => {
            tracing::warn!(node = name, %error, "a join was refused");
            Enrolled::Refused(error.to_string())
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the authority's files can't be used");
            Enrolled::Refused("this node's authority can't be used at the moment".to_owned())
        }
        Err(_) => Enrolled::Refused("this node can't sign at the moment".to_owned()),
    }
}

/// As a new node: gets a certificate if there is none yet and a token is given.
pub async fn if_needed(options: &Options) -> Result<(), RaftError> {
    let Some(cluster) = &options.cluster else { return Ok(()) };
    let Some(token) = &cluster.join_token else { return Ok(()) };
    if cluster.tls.cert.exists() && cluster.tls.key.exists() {
        return Ok(());
    }
    let refuse = |reason: String| RaftError::Certificate { path: cluster.tls.cert.clone(), reason };
    let claims = pki::read_token(token).map_err(|error| refuse(error.to_string()))?;
    let (key, request) = pki::signing_request(&options.node_name).map_err(|error| refuse(error.to_string()))?;
    let enroll = Enroll { token: token.trim().to_owned(), name: options.node_name.clone(), request };
    let began = Instant::now();
    loop {
        let mut last = "no seed was asked".to_owned();
        for seed in cluster.peers.iter().filter(|seed| **seed != cluster.advertise) {
            match ask(seed, &claims.ca, &enroll).await {
                Ok(Enrolled::Issued { chain, ca }) => {
                    let (cluster, expected) = (cluster.clone(), claims.ca.clone());
                    return crate::group::blocking(move || keep(&cluster, &expected, &chain, &ca, &key)).await;
                }
                Ok(Enrolled::Refused(reason)) => last = format!("{seed}: {reason}"),
                Err(reason) => last = format!("{seed}: {reason}"),
            }
        }
        if began.elapsed() >= PATIENCE {
            return Err(refuse(format!("no member issued a certificate for the join token; last: {last}")));
        }
        tracing::info!(last, "no certificate yet");
        let pause = PAUSE.mul_f64(rand::rng().random_range(0.7..1.3));
        tokio::time::sleep(pause).await;
    }
}

async fn ask(seed: &str, ca: &str, enroll: &Enroll) -> Result<Enrolled, String> {
    let config = pinned(ca).map_err(|error| error.to_string())?;
    let mut client = client_with(seed, move || Ok(config.clone())).map_err(|error| error.to_string())?;
    let body = encode(enroll).map_err(|error| error.to_string())?;
    let request = Request { body, name: enroll.name.clone(), ..Request::default() };
    answer(client.enroll(request), TRY).await.map_err(|error| error.to_string())
}

/// Writes what was issued, if it is what was asked for.
fn keep(cluster: &ClusterOptions, expected: &str, chain: &str, ca: &str, key: &str) -> Result<(), RaftError> {
    let refuse = |path: &Path, reason: String| RaftError::Certificate { path: path.to_owned(), reason };
    let authority = CertificateDer::from_pem_slice(ca.as_bytes());
    let authority = authority.map_err(|error| refuse(&cluster.tls.ca, error.to_string()))?;
    if fingerprint(&authority) != expected {
        return Err(refuse(&cluster.tls.ca, "another authority than the token names answered".to_owned()));
    }
    let write = |path: &Path, text: &str, mode: u32| {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error: io::Error| refuse(path, error.to_string()))?;
        }
        pki::replace(path, text.as_bytes(), mode).map_err(|error| refuse(path, error.to_string()))
    };
    if !cluster.tls.ca.exists() {
        write(&cluster.tls.ca, ca, 0o644)?;
    }
    write(&cluster.tls.key, key, 0o600)?;
    write(&cluster.tls.cert, chain, 0o644)
}
