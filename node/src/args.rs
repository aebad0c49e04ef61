//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::LogFormat;

/// Event-driven automation in one binary, compatible with StackStorm.
#[derive(Debug, Parser)]
#[command(name = "squall", version, about, long_about = None)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// A single box with everything embedded: no other server, no configuration needed.
    ///
    /// Listens on 127.0.0.1:9100 (auth), :9101 (api) and :9102 (stream), where StackStorm's clients look, and on
    /// 127.0.0.1:8080 with /auth, /api and /stream on one port. The first start makes the user st2admin; its
    /// password is that of SQUALL_ADMIN_PASSWORD, or a random one, shown once and kept in DIR/admin-password.
    Dev(DevArguments),
    /// A node by configuration.
    ///
    /// Keys come from the file and from the environment: [node] data_dir is SQUALL_NODE__DATA_DIR.
    Server(ServerArguments),
    /// Print the configuration that a node would start with, as TOML.
    Config {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct DevArguments {
    /// Where everything is kept [default: $XDG_DATA_HOME/squall or ~/.local/share/squall].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Listen on this address alone, with /auth, /api and /stream on it.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Enable an example timer rule and print executions as they end.
    #[arg(long)]
    pub demo: bool,
    #[command(flatten)]
    pub log: LogArguments,
}

#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    #[command(flatten)]
    pub log: LogArguments,
}

#[derive(Debug, Args)]
pub struct LogArguments {
    /// Form of log lines, on standard error.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What to log: error, warn, info, debug, or a filter such as `warn,gateway=debug`.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}
