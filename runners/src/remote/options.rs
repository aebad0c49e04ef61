//! Settings of the remote runners: StackStorm's `[ssh_runner]`, and what it has no setting for.

use std::path::PathBuf;
use std::time::Duration;

/// What a host's key must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKeyPolicy {
    /// A host that isn't known is taken down at its first use; one whose key has changed is refused.
    #[default]
    AcceptNew,
    /// A host that isn't known is refused.
    Strict,
    /// Every key is taken, as StackStorm does.
    Off,
}

/// Settings of the runners `remote-shell-cmd` and `remote-shell-script`.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// The user where neither the parameter nor the ssh configuration names one: `system_user.user`.
    pub user: String,
    /// Key of that user: `system_user.ssh_key_file`.
    pub key_file: Option<PathBuf>,
    /// Socket of the agent whose keys are tried where no other credential is given: `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
    pub host_keys: HostKeyPolicy,
    /// `~/.ssh/known_hosts` if not given.
    pub known_hosts: Option<PathBuf>,
    /// `ssh_runner.use_ssh_config`, `ssh_runner.ssh_config_file_path`.
    pub config_file: Option<PathBuf>,
    /// `ssh_runner.ssh_connect_timeout`: for the connection with its handshake and login.
    pub connect_timeout: Duration,
    /// `ssh_runner.max_parallel_actions`: hosts of one execution at a time.
    pub max_parallel: usize,
    /// `ssh_runner.allow_partial_failure`: whether one host that succeeds is enough.
    pub allow_partial_failure: bool,
}

impl Default for SshOptions {
    fn default() -> Self {
        Self {
            user: "stanley".to_owned(),
            key_file: None,
            agent: std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from),
            host_keys: HostKeyPolicy::default(),
            known_hosts: None,
            config_file: None,
            connect_timeout: Duration::from_secs(60),
            max_parallel: 50,
            allow_partial_failure: false,
        }
    }
}

impl SshOptions {
    /// The file of known hosts; none if there is no home directory.
    pub fn known_hosts_file(&self) -> Option<PathBuf> {
        self.known_hosts.clone().or_else(|| home().map(|home| home.join(".ssh/known_hosts")))
    }
}

/// `~` and `~/…` below the home directory; other paths as they are.
pub fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), home()) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}
