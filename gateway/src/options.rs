//! What a gateway is built with, and its limits.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::Services;
use domain::action_token::ActionTokens;

use crate::auth::AuthOptions;

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
    pub limits: Limits,
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
