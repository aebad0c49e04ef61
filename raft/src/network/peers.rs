//! The book of the other nodes, and the connections to them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::Rng;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};

use super::Client;
use super::MAX_MESSAGE;
use super::proto::node_client::NodeClient;
use super::proto::{Reply, Request};
use super::tls::{Tls, sni};
use super::wire::Contact;
use crate::state::NodeId;
use crate::types::{decode, encode};

/// Longest time to connect and shake hands.
const CONNECT: Duration = Duration::from_secs(1);
/// First and longest pause between dials of a node that can't be reached.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// An idle or silent connection is probed so often, and given up after as long without an answer.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// At most one line per node and this time about failing calls.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// What a call goes over: large transfers must not hold up heartbeats on the same TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes, appends, heartbeats.
    Consensus,
    /// Snapshots and everything asked for by callers.
    Bulk,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The node couldn't be reached or didn't answer; it may or may not have acted.
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The node refused to listen to us: wrong name, not a member, wrong cluster.
    #[error("refused: {0}")]
    Refused(String),
}

/// The other nodes as this one finds them.
pub struct Peers {
    me: NodeId,
    name: String,
    cluster: String,
    tls: Arc<Tls>,
    /// Where connections live, however busy the callers' runtimes are.
    runtime: Handle,
    book: Mutex<HashMap<NodeId, Entry>>,
    /// Cut off on purpose, by tests.
    cut: Mutex<HashSet<NodeId>>,
}

struct Entry {
    name: String,
    address: String,
    lanes: HashMap<Lane, Client>,
    dialing: Arc<Mutex<Dialing>>,
    heard: Option<Instant>,
    complained: Option<Instant>,
    failing: bool,
}

/// Back-off of dials to an address.
#[derive(Debug, Default)]
struct Dialing {
    pause: Duration,
    not_before: Option<Instant>,
}

impl Dialing {
    fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        // Full jitter over the upper half: nodes that lost the same peer don't dial in step.
        let pause = rand::rng().random_range(self.pause / 2..=self.pause);
        self.not_before = Some(now + pause);
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Peers {
    pub fn new(me: NodeId, name: String, cluster: String, tls: Arc<Tls>, runtime: Handle) -> Self {
        Self { me, name, cluster, tls, runtime, book: Mutex::default(), cut: Mutex::default() }
    }

    /// Notes where a node is. A changed address takes effect with the next call.
    pub fn learn(&self, contact: &Contact) {
        if contact.id == self.me || contact.address.is_empty() {
            return;
        }
        let mut book = self.book.lock();
        match book.get_mut(&contact.id) {
            Some(entry) if entry.address == contact.address && entry.name == contact.name => {}
            Some(entry) => {
                tracing::info!(node = contact.name, address = contact.address, "a node has moved");
                entry.name.clone_from(&contact.name);
                entry.address.clone_from(&contact.address);
                entry.lanes.clear();
                entry.dialing = Arc::default();
            }
            None => {
                book.insert(contact.id, Entry::new(contact));
            }
        }
    }

    /// Forgets nodes that are members no more.
    pub fn keep(&self, is_member: impl Fn(NodeId) -> bool) {
        self.book.lock().retain(|id, _| is_member(*id));
    }

    /// A node was heard from: it is up, so dial it without waiting.
    pub fn heard(&self, id: NodeId) {
        let mut book = self.book.lock();
        if let Some(entry) = book.get_mut(&id) {
            entry.heard = Some(Instant::now());
            entry.dialing.lock().reset();
        }
    }

    /// When a node was last heard from.
    pub fn last_heard(&self, id: NodeId) -> Option<Instant> {
        self.book.lock().get(&id).and_then(|entry| entry.heard)
    }

    pub fn contact(&self, id: NodeId) -> Option<Contact> {
        let book = self.book.lock();
        let entry = book.get(&id)?;
        Some(Contact { id, name: entry.name.clone(), address: entry.address.clone() })
    }

    /// Cuts the connection to a node, or mends it. For tests of partitions.
    pub fn set_cut(&self, id: NodeId, cut: bool) {
        let mut all = self.cut.lock();
        if cut {
            all.insert(id)
        } else {
            all.remove(&id)
        };
        self.heard(id);
    }

    pub fn is_cut(&self, id: NodeId) -> bool {
        self.cut.lock().contains(&id)
    }

    /// A client for a known node.
    pub fn client(&self, id: NodeId, lane: Lane) -> Result<Client, CallError> {
        if self.is_cut(id) {
            return Err(CallError::Unreachable("cut off by a test".to_owned()));
        }
        let mut book = self.book.lock();
        let entry = book.get_mut(&id).ok_or_else(|| CallError::Unreachable(format!("node {id:x} is not known")))?;
        if let Some(client) = entry.lanes.get(&lane) {
            return Ok(client.clone());
        }
        let client = self.connect(&entry.address, Some(entry.name.clone()), entry.dialing.clone())?;
        entry.lanes.insert(lane, client.clone());
        Ok(client)
    }

    /// A client for whoever listens at an address: for seeds.
    pub fn client_at(&self, address: &str) -> Result<Client, CallError> {
        self.connect(address, None, Arc::default())
    }

    fn connect(
        &self,
        address: &str,
        expected: Option<String>,
        dialing: Arc<Mutex<Dialing>>,
    ) -> Result<Client, CallError> {
        let tls = self.tls.clone();
        let config = move || tls.client(expected.as_deref()).map_err(io::Error::other);
        let _here = self.runtime.enter();
        connect(address, dialing, config)
    }

    /// An envelope to a node (0: whoever).
    pub fn request<T: Serialize>(&self, to: NodeId, body: &T) -> Result<Request, CallError> {
        let body = encode(body).map_err(|error| CallError::Refused(error.to_string()))?;
        Ok(Request { cluster: self.cluster.clone(), from: self.me, name: self.name.clone(), to, body })
    }

    /// Notes how a call to a node ended, and says so in the log, but not often.
    pub fn note<T>(&self, id: NodeId, outcome: &Result<T, CallError>) {
        let mut book = self.book.lock();
        let Some(entry) = book.get_mut(&id) else { return };
        match outcome {
            Ok(_) => {
                entry.heard = Some(Instant::now());
                if std::mem::take(&mut entry.failing) {
                    tracing::info!(node = entry.name, "the node answers again");
                }
            }
            Err(error) => {
                let now = Instant::now();
                let due = entry.complained.is_none_or(|at| now.duration_since(at) >= LOG_EVERY);
                if due || (!entry.failing && matches!(error, CallError::Refused(_))) {
                    entry.complained = Some(now);
                    entry.failing = true;
                    tracing::warn!(node = entry.name, address = entry.address, %error, "a node doesn't answer");
                }
            }
        }
    }
}

impl Entry {
    fn new(contact: &Contact) -> Self {
        Self {
            name: contact.name.clone(),
            address: contact.address.clone(),
            lanes: HashMap::new(),
            dialing: Arc::default(),
            heard: None,
            complained: None,
            failing: false,
        }
    }
}

/// A client with its own TLS, for a node that has no certificate yet.
pub fn client_with(
    address: &str,
    config: impl Fn() -> io::Result<Arc<ClientConfig>> + Clone + Send + 'static,
) -> Result<Client, CallError> {
    connect(address, Arc::default(), config)
}

/// A connection in the current runtime, made with the first call and again when it breaks. `config` is asked at each
/// dial, so that the current certificate is used.
fn connect(
    address: &str,
    dialing: Arc<Mutex<Dialing>>,
    config: impl Fn() -> io::Result<Arc<ClientConfig>> + Clone + Send + 'static,
) -> Result<Client, CallError> {
    let bad = |error: tonic::transport::Error| CallError::Unreachable(format!("'{address}': {error}"));
    // The scheme only satisfies the type; the connector speaks TLS.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(bad)?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (config, address, dialing) = (config.clone(), address.clone(), dialing.clone());
        async move {
            if dialing.lock().not_before.is_some_and(|at| Instant::now() < at) {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "not dialed again yet"));
            }
            let dialed = tokio::time::timeout(CONNECT, dial(&address, config)).await;
            let dialed = dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match &dialed {
                Ok(_) => dialing.lock().reset(),
                Err(_) => dialing.lock().failed(Instant::now()),
            }
            dialed
        }
    });
    let client = NodeClient::new(endpoint.connect_with_connector_lazy(connector));
    Ok(client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}

async fn dial(
    address: &str,
    config: impl Fn() -> io::Result<Arc<ClientConfig>>,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let config = config()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(sni()?, stream).await?))
}

/// Waits for a call's answer until the deadline, and reads it.
pub async fn answer<A: DeserializeOwned>(
    call: impl Future<Output = Result<tonic::Response<Reply>, tonic::Status>>,
    within: Duration,
) -> Result<A, CallError> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(reply)) => {
            decode(&reply.into_inner().body).map_err(|error| CallError::Refused(format!("unreadable answer: {error}")))
        }
        Ok(Err(status)) => Err(failure(&status)),
        Err(_) => Err(CallError::Timeout(within)),
    }
}

fn failure(status: &tonic::Status) -> CallError {
    match status.code() {
        tonic::Code::PermissionDenied
        | tonic::Code::Unauthenticated
        | tonic::Code::FailedPrecondition
        | tonic::Code::InvalidArgument
        | tonic::Code::Unimplemented => CallError::Refused(status.message().to_owned()),
        tonic::Code::DeadlineExceeded => CallError::Timeout(Duration::ZERO),
        _ => {
            // tonic's own text says only "transport error"; the cause says what it was.
            let mut text = status.message().to_owned();
            let mut cause = std::error::Error::source(status);
            while let Some(error) = cause {
                text = error.to_string();
                cause = error.source();
            }
            CallError::Unreachable(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_when_the_node_is_heard() {
        let now = Instant::now();
        let mut dialing = Dialing::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            dialing.failed(now);
            pauses.push(dialing.not_before.unwrap() - now);
        }
        assert!(pauses[0] <= BACKOFF.0 && pauses[11] <= BACKOFF.1 && pauses[11] >= BACKOFF.1 / 2, "{pauses:?}");
        dialing.reset();
        assert_eq!(dialing.not_before, None);
    }
}
