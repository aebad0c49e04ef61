//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{LogFormat, Span};

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
    /// Certificates, tokens, and the state of a cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Roles: who may do what.
    #[command(subcommand)]
    Rbac(RbacCommand),
    /// Packs on this machine.
    #[command(subcommand)]
    Pack(PackCommand),
    /// Print the configuration that a node would start with, as TOML.
    Config {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum PackCommand {
    /// Run the tests in a pack's folder tests/ with pytest; their exit code is passed on.
    ///
    /// No node is needed. The tests get a virtualenv of their own with requirements.txt and requirements-tests.txt of
    /// the pack, and the SDK with the base classes of st2tests.base.
    Test(PackTestArguments),
}

#[derive(Debug, Args)]
pub struct PackTestArguments {
    /// The pack's directory, or the name of a pack in the node's data directory.
    pub pack: String,
    /// Data directory of the node that has the pack.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Only this file, class or test: test_x.py::Class::test_y.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Show what the tests reach.
    #[arg(short, long)]
    pub coverage: bool,
    /// Use the virtualenv of the last time as it is.
    #[arg(short, long)]
    pub just_tests: bool,
    /// Show how long the tests take.
    #[arg(short, long)]
    pub timing: bool,
    /// Show what pip does.
    #[arg(short, long)]
    pub verbose: bool,
    /// No virtualenv: use the interpreter and what it has.
    #[arg(short = 'x', long)]
    pub no_virtualenv: bool,
    /// The interpreter.
    #[arg(long, value_name = "PYTHON", default_value = "python3")]
    pub python: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum RbacCommand {
    /// Make roles, assignments and group mappings those of the definition files.
    ///
    /// Nothing is changed if a file has an error. On the host of a single box no token is needed.
    Apply {
        /// Holds roles/, assignments/ and mappings/ [default: the configuration's].
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Read the definition files and tell the first error.
    Check {
        /// Holds roles/, assignments/ and mappings/.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make the authority that issues the nodes' certificates: ca.pem and ca.key.
    ///
    /// Nodes need ca.pem; ca.key only those that are to admit others by token. Keep it safe.
    InitCa {
        /// Where it is to lie.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The cluster's name, as in [cluster] name.
        #[arg(long, value_name = "NAME", default_value = "squall")]
        name: String,
    },
    /// Issue a node's certificate: cert.pem and key.pem.
    Cert {
        /// Directory of the authority.
        #[arg(long, value_name = "DIR")]
        ca_dir: PathBuf,
        /// The node's name, as in [node] name.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Host name or address of the node; may be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// Where the two files are to lie.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make a token with which nodes without a certificate can join for a while. It is a secret.
    Token {
        /// Directory of the authority.
        #[arg(long, value_name = "DIR")]
        ca_dir: PathBuf,
        /// How long it is good: 30m, 1h, 7d.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        ttl: Span,
    },
    /// Show leader, members, sessions, duties and sensors.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a member that won't come back.
    Remove {
        /// The member's name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Hand the leadership to another voter.
    Transfer {
        /// Its name; the one that lags least if none is given.
        name: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

/// Whom to ask: on a node's host its group, by the node's own certificate; from elsewhere an API.
#[derive(Debug, Args)]
pub struct Target {
    /// Configuration of a node on this host.
    #[arg(long, value_name = "FILE", group = "whom")]
    pub config: Option<PathBuf>,
    /// Data directory of a node on this host.
    #[arg(long, value_name = "DIR", group = "whom")]
    pub data_dir: Option<PathBuf>,
    /// An API's address [default: $ST2_API_URL].
    #[arg(long, value_name = "URL", group = "whom")]
    pub url: Option<String>,
    /// A token for it [default: $ST2_AUTH_TOKEN].
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
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
    pub sensor: SensorArguments,
    #[command(flatten)]
    pub log: LogArguments,
}

#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    #[command(flatten)]
    pub sensor: SensorArguments,
    #[command(flatten)]
    pub log: LogArguments,
}

#[derive(Debug, Args)]
pub struct SensorArguments {
    /// Run this sensor alone, though it is disabled, and exit with its exit code when it ends: [sensors] only.
    #[arg(long, value_name = "PACK.CLASS")]
    pub sensor_ref: Option<String>,
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
