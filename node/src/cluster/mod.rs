//! `squall cluster …`: certificates and tokens, and what operators ask of the group.
//!
//! * [`port`]: the same questions as the gateway asks them.
//! * [`door`]: the way to a node of this host; [`client`] the way to an API.
//! * [`shown`], [`text`]: the answer as JSON and for people.

mod client;
pub mod door;
pub mod port;
mod shown;
mod text;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use raft::pki;
use serde_json::Value;

pub use self::client::ApiClient;
use self::door::Door;
use crate::args::{ClusterCommand, Target};
use crate::config::{self, Config};

/// Where packages put a node's configuration.
pub const USUAL_CONFIG: &str = "/etc/squall/squall.toml";

/// Runs a command; what it prints goes to standard output.
pub fn run(command: ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::InitCa { dir, name } => {
            let files = pki::init_ca(&dir, &name)?;
            print(&format!("{}\n{}", files.ca.display(), files.key.display()))
        }
        ClusterCommand::Cert { ca_dir, name, host, out } => {
            let (certificate, key) = pki::issue(&ca_dir, &out, &name, &host)?;
            // The same names for every node: their configurations differ less.
            let (to_certificate, to_key) = (out.join("cert.pem"), out.join("key.pem"));
            std::fs::rename(key, &to_key).and_then(|()| std::fs::rename(certificate, &to_certificate))?;
            print(&format!("{}\n{}", to_certificate.display(), to_key.display()))
        }
        ClusterCommand::Token { ca_dir, ttl } => print(&pki::mint_token(&ca_dir, ttl.0)?),
        ClusterCommand::Status { json, target } => ask(target, async |whom| {
            let status = whom.status().await?;
            print(&if json { serde_json::to_string_pretty(&status)? } else { text::status(&status) })
        }),
        ClusterCommand::Remove { name, target } => ask(target, async |whom| {
            whom.remove(&name).await?;
            print(&format!("{name} is no longer a member"))
        }),
        ClusterCommand::Transfer { name, target } => ask(target, async |whom| {
            let leader = whom.transfer(name.as_deref()).await?;
            print(&format!("{leader} leads"))
        }),
    }
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("can't write to standard output")
}

/// Who answers.
enum Whom {
    /// A node's API.
    Api(ApiClient),
    /// A node of this host, over the port that nodes have for each other.
    Node(Door),
}

impl Whom {
    async fn status(&self) -> Result<Value> {
        match self {
            Self::Api(api) => api.status().await,
            Self::Node(door) => door.status().await,
        }
    }

    async fn remove(&self, member: &str) -> Result<()> {
        match self {
            Self::Api(api) => api.remove(member).await,
            Self::Node(door) => door.remove(member).await,
        }
    }

    async fn transfer(&self, to: Option<&str>) -> Result<String> {
        match self {
            Self::Api(api) => api.transfer(to).await,
            Self::Node(door) => door.transfer(to).await,
        }
    }
}

fn ask(target: Target, question: impl AsyncFnOnce(Whom) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { question(whom(target)?).await })
}

fn whom(target: Target) -> Result<Whom> {
    let variable = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
    let token = target.token.or_else(|| variable("ST2_AUTH_TOKEN"));
    if let Some(url) = target.url {
        return Ok(Whom::Api(ApiClient::new(&url, token)?));
    }
    if let Some(file) = target.config {
        return node(config::load(&Config::default(), Some(&file))?);
    }
    if let Some(dir) = target.data_dir {
        return Ok(Whom::Node(Door::of_data_dir(&dir)?));
    }
    if let Some(url) = variable("ST2_API_URL") {
        return Ok(Whom::Api(ApiClient::new(&url, token)?));
    }
    let usual = PathBuf::from(USUAL_CONFIG);
    if usual.is_file() {
        return node(config::load(&Config::default(), Some(&usual))?);
    }
    bail!("whom to ask? Give --config, --data-dir or --url, or set ST2_API_URL and ST2_AUTH_TOKEN")
}

fn node(config: Config) -> Result<Whom> {
    Ok(Whom::Node(Door::of_config(&config)?))
}
