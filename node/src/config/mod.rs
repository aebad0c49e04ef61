//! The node's configuration: defaults, then the file, then `SQUALL_…` of the environment, then the command line.
//!
//! Every key has a default; a key that doesn't exist is an error that names the nearest one.

mod access;
mod check;
mod cluster;
mod duration;
mod load;
mod secret;
mod sensors;
mod servers;
mod ssh;
mod sso;
mod telemetry;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use access::{Auth, Backend, Mode, Rbac};
pub use cluster::{Cluster, Role};
pub use duration::Span;
pub use load::{ConfigError, load};
pub use secret::ServerUrl;
pub use sensors::Sensors;
pub use servers::{Bus, Coordinator, CoordinatorBackend, Store, Workflow};
pub use ssh::Ssh;
pub use telemetry::Telemetry;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub node: Node,
    pub cluster: Cluster,
    pub store: Store,
    pub bus: Bus,
    pub workflow: Workflow,
    pub coordinator: Coordinator,
    pub listen: Listen,
    pub auth: Auth,
    pub rbac: Rbac,
    pub api: Api,
    pub content: Content,
    pub system: System,
    pub keyvalue: KeyValue,
    pub runners: Runners,
    pub ssh: Ssh,
    pub sensors: Sensors,
    pub timers: Timers,
    pub garbage_collector: GarbageCollector,
    pub raft: Raft,
    pub telemetry: Telemetry,
    pub log: Log,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Name in the group; the host's name if none is given.
    pub name: Option<String>,
    /// Where everything of this node is kept.
    pub data_dir: PathBuf,
    /// What the node does: api, scheduler, runner, timers, sensors, raft; all of them if nothing is given.
    pub roles: BTreeSet<Role>,
    /// How long a stop waits for running actions before it abandons them.
    pub stop_timeout: Span,
    /// How long a stopping node still serves, while it says that it isn't ready: so that a load balancer's health
    /// check takes it out before its ports close. More than the check's interval times its tries.
    pub stop_delay: Span,
}

impl Node {
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: PathBuf::from("/var/lib/squall"),
            roles: cluster::all_roles(),
            stop_timeout: Span::secs(30),
            stop_delay: Span::millis(0),
        }
    }
}

/// Addresses; one that is absent is not listened on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// `/auth`, `/api` and `/stream` on one port.
    pub combined: Option<SocketAddr>,
    /// The auth service alone, where StackStorm's clients look for it.
    pub auth: Option<SocketAddr>,
    pub api: Option<SocketAddr>,
    pub stream: Option<SocketAddr>,
    /// What `combined` serves, over TLS; needs `certificate` and `key`.
    pub tls: Option<SocketAddr>,
    /// Sends browsers that come without TLS to `tls`.
    pub redirect: Option<SocketAddr>,
    /// PEM file with the certificate and what it is signed by. Read again when it changes.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's key.
    pub key: Option<PathBuf>,
}

impl Listen {
    /// No address.
    pub fn none() -> Self {
        Self {
            combined: None,
            auth: None,
            api: None,
            stream: None,
            tls: None,
            redirect: None,
            certificate: None,
            key: None,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        Self { combined: local(8080), auth: local(9100), api: local(9101), stream: local(9102), ..Self::none() }
    }
}

/// The REST API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    pub mask_secrets: bool,
    /// Origins that browsers may call from; `*` for any.
    pub allow_origin: Vec<String>,
    /// Larger bodies are refused with 413.
    pub max_body_size: usize,
    /// Requests that are worked on at a time, streams aside; more get 429.
    pub max_in_flight: usize,
    /// Requests of one user each second, in the long run (of one address, if nobody is logged in); 0: as many as it
    /// likes. More get 429.
    pub rate: f64,
    /// How many of them may come at once.
    pub burst: f64,
    /// A line in the log for each request (docs/operations.md).
    pub access_log: bool,
    /// Whether the token cookie is for https only.
    pub auth_cookie_secure: bool,
    /// strict, lax, none or unset.
    pub auth_cookie_same_site: String,
    /// Base of executions' `web_url`.
    pub web_url: String,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            mask_secrets: true,
            allow_origin: vec!["http://127.0.0.1:3000".to_owned()],
            max_body_size: 8 * 1024 * 1024,
            max_in_flight: 1024,
            rate: 0.0,
            burst: 100.0,
            access_log: false,
            auth_cookie_secure: true,
            auth_cookie_same_site: "lax".to_owned(),
            web_url: "https://localhost".to_owned(),
        }
    }
}

/// Packs on disk, and where they come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Content {
    /// Indexes of packs (addresses or files); StackStorm Exchange's if none is given.
    pub index_urls: Vec<String>,
    /// The group that installed packs and their virtualenvs belong to, with the right to write.
    pub pack_group: Option<String>,
    /// Directories that hold packs, besides the system packs and `<data_dir>/packs`.
    pub packs_dirs: Vec<PathBuf>,
    /// `configs/`, `overrides/` and `virtualenvs/` lie below it; the data directory if none is given.
    pub base_path: Option<PathBuf>,
}

/// Behaviour that StackStorm keeps under `[system]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct System {
    /// User of executions that rules fire, and of local actions if it exists on this host.
    pub user: String,
    pub validate_trigger_payload: bool,
    pub validate_trigger_parameters: bool,
    pub validate_output_schema: bool,
}

impl Default for System {
    fn default() -> Self {
        Self {
            user: "stanley".to_owned(),
            validate_trigger_payload: true,
            validate_trigger_parameters: true,
            validate_output_schema: false,
        }
    }
}

/// The datastore.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyValue {
    /// StackStorm's key file for secrets; one is made in the data directory if none is given.
    pub encryption_key_path: Option<PathBuf>,
}

/// Where actions run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runners {
    /// Actions at a time.
    pub max_concurrent: usize,
    /// The interpreter for packs without a virtualenv; the first `python3` that works if none is given.
    pub python: Option<PathBuf>,
    /// Store output while an action runs.
    pub stream_output: bool,
    /// Bytes of stdout and of stderr that a result keeps.
    pub max_output_size: usize,
    /// Larger results (as JSON) fail the execution.
    pub max_result_size: usize,
    /// Bytes of address space of a Python action; unlimited if not given.
    pub python_memory: Option<u64>,
    /// Seconds of processor time of a Python action.
    pub python_cpu: Option<u64>,
    /// Open files of a Python action.
    pub python_open_files: Option<u64>,
    /// Bytes of memory of an action on this machine, all its processes together: by control groups, as the next two.
    pub action_memory: Option<u64>,
    /// Processes and threads of an action.
    pub action_processes: Option<u64>,
    /// Processors that an action may keep busy; 0.5 is half of one.
    pub action_cpus: Option<f64>,
}

impl Default for Runners {
    fn default() -> Self {
        Self {
            max_concurrent: 60,
            python: None,
            stream_output: true,
            max_output_size: 16 * 1024 * 1024,
            max_result_size: 64 * 1024 * 1024,
            python_memory: None,
            python_cpu: None,
            python_open_files: None,
            action_memory: None,
            action_processes: None,
            action_cpus: None,
        }
    }
}

/// Timers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timers {
    pub enable: bool,
    /// Ticks that were due while no node held the timers are made up for if they are no older than this.
    pub catch_up_window: Span,
}

impl Default for Timers {
    fn default() -> Self {
        Self { enable: true, catch_up_window: Span::secs(60) }
    }
}

/// Retention; a time that is absent keeps for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GarbageCollector {
    pub interval: Span,
    pub action_executions_ttl: Option<Span>,
    pub action_executions_output_ttl: Option<Span>,
    pub trigger_instances_ttl: Option<Span>,
    pub rule_enforcements_ttl: Option<Span>,
    pub tokens_ttl: Option<Span>,
    /// Inquiries that nobody answered in their time end as timed out.
    pub purge_inquiries: bool,
}

impl Default for GarbageCollector {
    fn default() -> Self {
        Self {
            interval: Span::secs(600),
            action_executions_ttl: None,
            action_executions_output_ttl: Some(Span::days(7)),
            trigger_instances_ttl: None,
            rule_enforcements_ttl: None,
            tokens_ttl: Some(Span::days(1)),
            purge_inquiries: false,
        }
    }
}

/// The consensus group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raft {
    pub heartbeat: Span,
    pub election_min: Span,
    pub election_max: Span,
    /// A duty's holder that can't renew for this long has lost it.
    pub lease: Span,
    /// A node whose session isn't renewed for this long is lost: what it ran is decided elsewhere.
    pub session_ttl: Span,
}

impl Default for Raft {
    fn default() -> Self {
        // The group knows what goes together.
        let options = raft::Options::new("", "");
        Self {
            heartbeat: Span(options.heartbeat),
            election_min: Span(options.election_min),
            election_max: Span(options.election_max),
            lease: Span(options.lease),
            session_ttl: Span(options.session_ttl),
        }
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Logs, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// tracing's filter: `info`, `warn,gateway=debug`, …
    pub level: String,
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info,openraft=warn".to_owned(), format: LogFormat::Text }
    }
}
