//! How the remote runners reach hosts.

use std::path::PathBuf;

use runners::remote::options::{HostKeyPolicy, SshOptions};
use serde::{Deserialize, Serialize};

use super::{Config, Span};

/// Remote shells; users and credentials may also come with each execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ssh {
    /// The private key of `system.user`.
    pub key_file: Option<PathBuf>,
    pub host_keys: HostKeyPolicy,
    /// `~/.ssh/known_hosts` if none is given.
    pub known_hosts: Option<PathBuf>,
    /// A file like `~/.ssh/config` to read; none is read unless given.
    pub config_file: Option<PathBuf>,
    /// For the connection with its handshake and login.
    pub connect_timeout: Span,
    /// Hosts of one execution at a time.
    pub max_parallel: usize,
    /// Whether one host that succeeds is enough.
    pub allow_partial_failure: bool,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            key_file: None,
            host_keys: HostKeyPolicy::default(),
            known_hosts: None,
            config_file: None,
            connect_timeout: Span::secs(60),
            max_parallel: 50,
            allow_partial_failure: false,
        }
    }
}

impl Config {
    /// What the remote runners are given.
    pub fn ssh_options(&self) -> SshOptions {
        let ssh = &self.ssh;
        SshOptions {
            user: self.system.user.clone(),
            key_file: ssh.key_file.clone(),
            host_keys: ssh.host_keys,
            known_hosts: ssh.known_hosts.clone(),
            config_file: ssh.config_file.clone(),
            connect_timeout: ssh.connect_timeout.0,
            max_parallel: ssh.max_parallel.max(1),
            allow_partial_failure: ssh.allow_partial_failure,
            ..SshOptions::default()
        }
    }
}
