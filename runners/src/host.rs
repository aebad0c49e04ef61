//! What all runners of a node share: options, users, the Python host, HTTP clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::action_token::ActionTokens;

use crate::http_request::Clients;
use crate::process::spawn::{Environment, own_environment};
use crate::process::{Group, GroupLimits, Groups};
use crate::python_script::PythonHost;
use crate::remote::host_keys::HostKeys;
use crate::remote::options::SshOptions;
use crate::shell::sudo::Users;

/// Settings of a node's runners.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Shown as `runner.hostname` of executions.
    pub hostname: String,
    /// The API as actions reach it, with `/v1`.
    pub api_url: String,
    /// The API as a socket of this machine, for Python actions.
    pub api_socket: Option<PathBuf>,
    /// Executions that run at a time.
    pub slots: usize,
    /// How long a node that stops waits for running executions before it abandons them.
    pub drain_limit: Duration,
    /// Between SIGTERM and SIGKILL when a run is canceled or over its time.
    pub kill_grace: Duration,
    /// Bytes of stdout and of stderr that are kept in a result; what comes after is read and dropped, and the text
    /// says so.
    pub output_limit: usize,
    /// `auth.service_token_ttl`.
    pub token_ttl: Duration,
    pub python: PythonOptions,
    pub ssh: SshOptions,
    /// What one action on this machine may use, with all that it starts; where the system has control groups.
    pub groups: GroupLimits,
}

impl Default for RunnerOptions {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            api_url: "http://127.0.0.1:9101/v1".to_owned(),
            api_socket: None,
            slots: 60,
            drain_limit: Duration::from_secs(30),
            kill_grace: Duration::from_secs(5),
            output_limit: 16 * 1024 * 1024,
            token_ttl: Duration::from_secs(24 * 3600),
            python: PythonOptions::default(),
            ssh: SshOptions::default(),
            groups: GroupLimits::default(),
        }
    }
}

/// Settings of the Python host.
#[derive(Debug, Clone)]
pub struct PythonOptions {
    /// The interpreter for packs without a virtualenv; `python3` of the PATH if not given.
    pub interpreter: Option<PathBuf>,
    /// Where the SDK lies: what [`crate::sdk::unpack`] returned.
    pub sdk_path: PathBuf,
    /// `actionrunner.python_runner_log_level`, for actions that leave `log_level` alone.
    pub log_level: String,
    /// `packs.enable_common_libs`: whether `<pack>/lib` is importable.
    pub enable_common_libs: bool,
    /// Warm interpreters at a time, one for each virtualenv; the one idle for longest goes.
    pub max_zygotes: usize,
    /// Idle for this long, a warm interpreter ends.
    pub zygote_idle: Duration,
    /// Bytes of address space of an action (RLIMIT_AS); unlimited if not given.
    pub memory_limit: Option<u64>,
    /// Seconds of processor time of an action (RLIMIT_CPU).
    pub cpu_limit: Option<u64>,
    /// Open files of an action (RLIMIT_NOFILE); the node's own limit if not given.
    pub open_files: Option<u64>,
    /// Whether to use warm interpreters at all.
    pub warm: bool,
    /// Modules of the SDK and the standard library that warm interpreters import at their start.
    pub preload: Vec<String>,
}

impl PythonOptions {
    /// The limits of an action's process, as `sdk/python/squall_host/child.py` takes them.
    pub fn limits(&self) -> serde_json::Value {
        let limits = [("as", self.memory_limit), ("cpu", self.cpu_limit), ("nofile", self.open_files)];
        limits.into_iter().filter_map(|(name, limit)| Some((name, limit?))).collect()
    }
}

impl Default for PythonOptions {
    fn default() -> Self {
        Self {
            interpreter: None,
            sdk_path: PathBuf::new(),
            log_level: "DEBUG".to_owned(),
            enable_common_libs: false,
            max_zygotes: 8,
            zygote_idle: Duration::from_secs(600),
            memory_limit: None,
            cpu_limit: None,
            open_files: None,
            warm: true,
            preload: Vec::new(),
        }
    }
}

/// The node as runners see it.
#[derive(Debug)]
pub struct Host {
    pub options: RunnerOptions,
    pub tokens: ActionTokens,
    pub users: Users,
    /// The node's own environment, that actions inherit.
    pub environment: Environment,
    pub python: PythonHost,
    pub http: Clients,
    pub host_keys: HostKeys,
    groups: Option<Arc<Groups>>,
}

impl Host {
    /// `system_user` is who shell actions run as, where this machine has such a user.
    pub fn new(options: RunnerOptions, tokens: ActionTokens, system_user: &str) -> Self {
        let groups = Groups::prepare(options.groups).unwrap_or_else(|error| {
            tracing::error!(error, "actions run without the bounds that the configuration gives them");
            None
        });
        Self {
            groups: groups.map(Arc::new),
            users: Users::find(system_user),
            environment: own_environment(),
            python: PythonHost::new(options.python.clone()),
            http: Clients::default(),
            host_keys: HostKeys::new(options.ssh.host_keys, options.ssh.known_hosts_file()),
            tokens,
            options,
        }
    }

    /// A control group for a run; none if runs are not bounded.
    pub async fn group(&self, name: String) -> std::io::Result<Option<Group>> {
        let Some(groups) = self.groups.clone() else { return Ok(None) };
        let made = tokio::task::spawn_blocking(move || groups.make(&name));
        made.await.map_err(std::io::Error::other)?.map(Some)
    }
}
