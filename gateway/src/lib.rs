//! The node's HTTP side: authentication, StackStorm's REST API, webhooks, the event stream, health.
//!
//! * [`Gateway::build`] takes [`GatewayOptions`]; [`Gateway::serve`] serves listeners, each with a [`Mount`] that
//!   says which of StackStorm's services the port is.
//! * [`table`] is the list of all endpoints: method, path, permission, handler. Adding one is a row and a function.
//! * [`http`] parses parameters and bodies and maps errors, once for all; [`auth`] finds out who calls; [`api`] holds
//!   the handlers by resource; [`stream`] is the event stream.
//!
//! Handlers read the store through the domain's services and change resources only by calling `domain`.

pub mod api;
pub mod auth;
pub mod context;
pub mod gateway;
pub mod health;
pub mod http;
pub mod metrics;
pub mod openapi;
pub mod options;
pub mod server;
pub mod socket;
pub mod starting;
pub mod stream;
pub mod table;
pub mod tls;
pub mod webhooks;

pub use auth::access::Access;
pub use auth::rate::Rate;
pub use auth::{AuthMode, AuthOptions, SameSite};
pub use gateway::Mount;
pub use metrics::Metrics;
pub use options::{Cluster, ClusterError, Dependency, GatewayOptions, Limits, PortsReady, Readiness};
pub use server::Gateway;
pub use socket::Socket;
pub use starting::Starting;
pub use tls::{Tls, TlsError};
