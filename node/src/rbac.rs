//! `squall rbac …`: definition files, checked and applied.
//!
//! They are applied through a node's API (an administrator's token, or on the node's host one that its data directory
//! vouches for), or straight to the store: that of a cluster, or of a single box that doesn't run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use auth::rbac::{Definitions, apply as apply_definitions};
use domain::action_token::ActionTokens;
use http::Method;
use model::{Clock, SystemClock};
use serde_json::Value;

use crate::args::{RbacCommand, Target};
use crate::cluster::{ApiClient, USUAL_CONFIG};
use crate::config::{self, Config};
use crate::data_dir::DataDir;
use crate::listen::Addresses;
use crate::patience::Board;
use crate::servers::OpenStore;

/// How long the token is good that a data directory vouches for.
const TOKEN_TTL: Duration = Duration::from_secs(60);

/// Runs a command; what it prints goes to standard output.
pub fn run(command: RbacCommand) -> Result<()> {
    match command {
        RbacCommand::Check { dir } => {
            let definitions = Definitions::read(&dir)?;
            print(&format!(
                "{} roles, {} assignments, {} mappings: no errors",
                definitions.roles.len(),
                definitions.assignments.len(),
                definitions.mappings.len()
            ))
        }
        RbacCommand::Apply { dir, target } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let applied = runtime.block_on(apply(dir, target))?;
            print(&report(&applied))
        }
    }
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("can't write to standard output")
}

fn report(applied: &Value) -> String {
    let count = |name: &str| applied[name].as_u64().unwrap_or_default();
    format!(
        "roles: {} changed, {} removed\nassignments: {} added, {} removed\nmappings: {} changed, {} removed",
        count("roles_changed"),
        count("roles_removed"),
        count("assignments_added"),
        count("assignments_removed"),
        count("mappings_changed"),
        count("mappings_removed")
    )
}

async fn apply(dir: Option<PathBuf>, target: Target) -> Result<Value> {
    let variable = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
    let url = target.url.clone().or_else(|| {
        let on_this_host = target.config.is_some() || target.data_dir.is_some();
        variable("ST2_API_URL").filter(|_| !on_this_host)
    });
    if let Some(url) = url {
        let dir = dir.context("give the definitions' directory: --dir")?;
        let token = target.token.or_else(|| variable("ST2_AUTH_TOKEN"));
        return send(&ApiClient::new(&url, token)?, &Definitions::read(&dir)?).await;
    }
    let config = local_config(&target)?;
    let definitions = Definitions::read(&dir.unwrap_or_else(|| usual_dir(&config)))?;
    let data = DataDir::open(&config.node.data_dir)?;
    if config.store.is_embedded()
        && let Some(api) = running(&data.root)?
    {
        // Only who may read the data directory has this secret.
        let tokens = ActionTokens::open(&data.action_token_secret())?;
        let token = tokens.issue_operator(SystemClock.now(), TOKEN_TTL);
        return send(&ApiClient::new(&api, Some(token))?, &definitions).await;
    }
    let store = OpenStore::open(&config, &data, &Board::new(&["store"])).await?;
    let applied = apply_definitions(store.port().as_ref(), &definitions).await;
    store.close().await;
    Ok(serde_json::to_value(applied?)?)
}

async fn send(api: &ApiClient, definitions: &Definitions) -> Result<Value> {
    api.call(Method::PUT, &["rbac", "definitions"], Some(serde_json::to_value(definitions)?)).await
}

/// The API of the node that runs on this directory, if one does.
fn running(data_dir: &Path) -> Result<Option<String>> {
    Ok(Addresses::read(data_dir)?.map(|addresses| addresses.api_url()).filter(|url| !url.is_empty()))
}

fn local_config(target: &Target) -> Result<Config> {
    if let Some(dir) = &target.data_dir {
        let mut config = config::load(&Config::default(), None)?;
        config.node.data_dir.clone_from(dir);
        return Ok(config);
    }
    let usual = PathBuf::from(USUAL_CONFIG);
    match target.config.clone().or_else(|| usual.is_file().then_some(usual)) {
        Some(file) => Ok(config::load(&Config::default(), Some(&file))?),
        None => bail!("whose roles? Give --config, --data-dir or --url"),
    }
}

/// `<base_path>/rbac`.
fn usual_dir(config: &Config) -> PathBuf {
    let base = || config.content.base_path.clone().unwrap_or_else(|| config.node.data_dir.clone());
    config.rbac.definitions_dir.clone().unwrap_or_else(|| base().join("rbac"))
}
