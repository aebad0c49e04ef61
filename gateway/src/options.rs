//! What a gateway is built with, and its limits.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::Services;
use domain::action_token::ActionTokens;
use serde_json::Value;

use crate::auth::AuthOptions;
use crate::auth::rate::Rate;
use crate::metrics::Metrics;
use crate::tls::Tls;

/// Everything that [`crate::Gateway::build`] needs.
#[derive(Debug)]
pub struct GatewayOptions {
    pub services: Arc<Services>,
    pub auth: AuthOptions,
    /// Checks the tokens that running actions carry; none: only stored tokens are known.
    pub action_tokens: Option<ActionTokens>,
    /// `api.allow_origin`.
    pub allow_origin: Vec<String>,
    /// `auth.api_url`: the API's public address, as clients are told at login.
    pub api_url: Option<String>,
    /// What `/healthz/ready` asks.
    pub readiness: Arc<dyn Readiness>,
    /// What `/v1/cluster` asks; none: these paths don't exist.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// What `/metrics` shows; none: the path doesn't exist.
    pub metrics: Option<Arc<dyn Metrics>>,
    pub limits: Limits,
    /// For the ports that are mounted as [`crate::Mount::Tls`].
    pub tls: Option<Arc<Tls>>,
    /// A line at level info for each request, with the target `access`.
    pub access_log: bool,
}

/// Bounds of what requests may take (DESIGN §2 rule 9).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request body (`api.max_body_size`).
    pub max_body_size: usize,
    /// A body must have arrived by then.
    pub body_timeout: Duration,
    /// Connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// Requests that are worked on at a time, event streams aside; more get 429.
    pub max_in_flight: usize,
    /// Requests of one user (of one address, if nobody is logged in); none: as many as it likes.
    pub rate: Option<Rate>,
    /// Largest `limit` for those who are no administrators (`api.max_page_size`).
    pub max_page_size: u64,
    /// Most records that a list without limit answers.
    pub max_rows: u64,
    /// Largest file that pack views show.
    pub max_file_size: u64,
    /// Event stream clients at a time.
    pub max_streams: usize,
    /// Events that a slow stream client may be behind before it is cut off.
    pub stream_backlog: usize,
    /// `stream.heartbeat`.
    pub heartbeat: Duration,
    /// Requests under way get this long when the gateway stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_size: 8 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            max_connections: 4096,
            max_in_flight: 1024,
            rate: None,
            max_page_size: 100,
            max_rows: 50_000,
            max_file_size: 500_000,
            max_streams: 1024,
            stream_backlog: 1024,
            heartbeat: Duration::from_secs(25),
            drain: Duration::from_secs(10),
        }
    }
}

/// State of one thing that the node depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    pub ready: bool,
    /// Why it isn't ready, or a short fact about it.
    pub detail: String,
}

/// Tells whether the node can serve.
#[async_trait]
pub trait Readiness: Debug + Send + Sync {
    /// All dependencies, in a stable order. Answers within a second or two whatever they do.
    async fn check(&self) -> Vec<Dependency>;

    /// Names what is away, if the node knows that it can't serve the API: then each request gets 503 at once instead
    /// of waiting for what won't answer (DESIGN §2 rule 7). Asked for every request, so it must cost nothing.
    fn refusal(&self) -> Option<String> {
        None
    }

    /// Whether the node is about to stop: clients are told to use another connection for their next request.
    fn is_stopping(&self) -> bool {
        false
    }
}

/// The group of nodes, as `/v1/cluster` shows and changes it. The node implements it over its consensus group.
#[async_trait]
pub trait Cluster: Debug + Send + Sync {
    /// Leader, term, members, sessions, duties, partitions, lag, state hash.
    async fn status(&self) -> Result<Value, ClusterError>;

    /// Removes a member by name; its session, duties and sensors go to others.
    async fn remove(&self, member: &str) -> Result<(), ClusterError>;

    /// Makes another voter the leader: the named one, or the one that lags least. Returns its name.
    async fn transfer(&self, to: Option<&str>) -> Result<String, ClusterError>;
}

/// Why the group didn't do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    #[error("{0}")]
    NotFound(String),
    /// It can't be done in the group's present state.
    #[error("{0}")]
    Refused(String),
    /// No leader, or no answer in time: try again.
    #[error("{0}")]
    Unavailable(String),
}

/// Ready when the store and the bus are.
#[derive(Debug)]
pub struct PortsReady(pub Arc<Services>);

#[async_trait]
impl Readiness for PortsReady {
    async fn check(&self) -> Vec<Dependency> {
        const DEADLINE: Duration = Duration::from_secs(1);
        let late = |_| Err("no answer within a second".to_owned());
        let store = async { self.0.store.check().await.map_err(|e| e.to_string()) };
        let bus = async { self.0.bus.check().await.map_err(|e| e.to_string()) };
        let (store, bus) = tokio::join!(tokio::time::timeout(DEADLINE, store), tokio::time::timeout(DEADLINE, bus));
        [("store", store.unwrap_or_else(late)), ("bus", bus.unwrap_or_else(late))]
            .into_iter()
            .map(|(name, state)| Dependency {
                name: name.to_owned(),
                ready: state.is_ok(),
                detail: state.err().unwrap_or_else(|| "ok".to_owned()),
            })
            .collect()
    }
}
