//! Start, run and stop of a node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bus::local::{LocalBus, LocalBusOptions};
use coordinator::LocalCoordinator;
use domain::action_token::ActionTokens;
use domain::{Services, Settings};
use model::SystemClock;
use store::sqlite::{SqliteOptions, SqliteStore};

use crate::config::Config;
use crate::data_dir::{Admin, DataDir};
use crate::health::NodeReady;
use crate::listen::{self, Addresses};
use crate::membership::Membership;
use crate::roles::{Roles, Wiring};
use crate::{show, signals, system_packs};

/// What a command adds to the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// Tell on standard output where the node listens and how to begin.
    pub greet: bool,
    /// Enable the example timer rule and print executions as they end.
    pub demo: bool,
}

/// Runs a node until it is told to stop; everything it started has ended when this returns.
pub async fn run(config: Config, extras: Extras) -> Result<()> {
    let stop = signals::stop_requested()?;
    let listeners = listen::bind(&config.listen).await?;
    let addresses = Addresses::of(&listeners)?;
    let prepared = prepare(&config).await?;
    let Prepared { services, store, bus, membership, data, admin, system_packs, sdk } = prepared;

    let bootstrap = content::BootstrapOptions { system_packs_dir: system_packs, data_dir: data.root.clone() };
    content::bootstrap(&services, &bootstrap).await.context("the system packs can't be registered")?;

    let tokens = ActionTokens::open(&data.root.join("action-token-secret"))?;
    let readiness = Arc::new(NodeReady::new(services.clone(), membership.clone()));
    let wiring = Wiring { config: &config, services: &services, membership: &membership, data: &data };
    let mut roles = Roles::start(&wiring, listeners, &addresses, tokens, readiness, sdk)?;
    addresses.write(&data.root)?;
    tracing::info!(data_dir = %data.root.display(), %addresses, "the node is ready");

    let shown = extras.demo.then(|| show::executions(services.clone()));
    if extras.greet {
        show::greeting(&addresses, &admin);
    }
    if extras.demo {
        show::enable_demo_rule(&services).await;
    }

    let outcome = roles.until(stop).await;
    tracing::info!("stopping");
    addresses.remove(&data.root);
    roles.stop(config.node.stop_timeout.0).await;
    if let Some(shown) = shown {
        shown.abort();
    }
    membership.shutdown().await;
    bus.close();
    store.close().await;
    tracing::info!("stopped");
    outcome
}

/// Everything that the roles stand on.
struct Prepared {
    services: Arc<Services>,
    store: Arc<SqliteStore>,
    bus: Arc<LocalBus>,
    membership: Arc<Membership>,
    data: DataDir,
    admin: Admin,
    system_packs: std::path::PathBuf,
    sdk: std::path::PathBuf,
}

/// Opens what lies in the data directory. The parts don't wait for each other: a start takes as long as the longest.
async fn prepare(config: &Config) -> Result<Prepared> {
    let data = DataDir::open(&config.node.data_dir)?;
    let name = config.node.name.clone().unwrap_or_else(hostname);

    let files = {
        let (data, key_path) = (data.clone(), config.keyvalue.encryption_key_path.clone());
        tokio::task::spawn_blocking(move || -> Result<_> {
            let given = std::env::var("SQUALL_ADMIN_PASSWORD").ok().filter(|password| !password.is_empty());
            let admin = data.admin(given.as_deref())?;
            let crypto = data.crypto(key_path.as_deref())?;
            Ok((admin, crypto))
        })
    };
    let unpacked = {
        let root = data.root.clone();
        tokio::task::spawn_blocking(move || -> Result<_> {
            let packs = system_packs::unpack(&root).context("can't unpack the system packs")?;
            let sdk = runners::sdk::unpack(&root).context("can't unpack the Python SDK")?;
            Ok((packs, sdk))
        })
    };
    let store = async { SqliteStore::open(SqliteOptions::new(data.store())).await.context("can't open the store") };
    let (store, membership, files, unpacked) =
        tokio::join!(store, Membership::open(&data, &name, &config.raft), files, unpacked);
    let (store, membership) = (Arc::new(store?), Arc::new(membership?));
    let (admin, crypto) = files??;
    let (system_packs, sdk) = unpacked??;

    let bus = Arc::new(LocalBus::new(LocalBusOptions::default()));
    let settings = settings(config, &data, &system_packs);
    let coordinator = Arc::new(LocalCoordinator::new());
    let services = Services::new(store.clone(), bus.clone(), coordinator, Arc::new(SystemClock), settings, crypto);
    Ok(Prepared { services, store, bus, membership, data, admin, system_packs, sdk })
}

fn settings(config: &Config, data: &DataDir, system_packs: &std::path::Path) -> Settings {
    let mut pack_dirs = vec![system_packs.to_owned(), data.packs()];
    pack_dirs.extend(config.content.packs_dirs.iter().cloned());
    Settings {
        system_user: config.system.user.clone(),
        webui_base_url: config.api.web_url.clone(),
        base_path: config.content.base_path.clone().unwrap_or_else(|| data.root.clone()),
        pack_dirs,
        mask_secrets: config.api.mask_secrets,
        stream_output: config.runners.stream_output,
        max_result_size: config.runners.max_result_size,
        validate_trigger_payload: config.system.validate_trigger_payload,
        validate_trigger_parameters: config.system.validate_trigger_parameters,
        validate_output_schema: config.system.validate_output_schema,
        redrive_after: Duration::from_secs(5),
        ..Settings::default()
    }
}

pub fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".to_owned())
}
