//! Start, run and stop of a node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use coordinator::Coordinator;
use domain::{Services, Settings};
use gateway::{Mount, Readiness, Socket, Starting};
use model::{RoleAssignment, SensorType, SystemClock};
use store::{Query, Store, StoreError, StoreExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workflow::WorkflowState;

use crate::cluster::port::GroupNodes;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::health::NodeReady;
use crate::listen::{self, Ports};
use crate::membership::Membership;
use crate::patience::{Board, Failure, until};
use crate::roles::{Roles, Wiring};
use crate::secrets::{self, Secrets};
use crate::servers::{self, OpenBus, OpenStore};
use crate::telemetry::Telemetry;
use crate::workflows::Workflows;
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
    let Ports { listeners, mut addresses } = listen::bind(&config).await?;
    let board = Board::new(&["store", "bus", "workflow", "coordinator", "raft"]);
    let waiting = Waiting::start(listeners, board.clone(), listen::tls(&config)?);
    let prepared = tokio::select! {
        prepared = prepare(&config, &board) => prepared?,
        () = stop.cancelled() => {
            tracing::info!("stopped before the node was whole");
            return Ok(());
        }
    };
    let Prepared { services, store, bus, workflow, membership, data, secrets, sdk } = prepared;
    let Secrets { tokens, admin, .. } = secrets;

    let readiness = Arc::new(NodeReady::new(services.clone(), Some(workflow.clone()), membership.clone()));
    let workflows = Workflows::new(&services, workflow.clone());
    let _ = services.workflows.set(workflows.clone());
    let name = config.node.name.clone().unwrap_or_else(hostname);
    let nodes = GroupNodes { name: name.clone(), membership: membership.clone() };
    let _ = services.nodes.set(Arc::new(nodes));
    let telemetry = Telemetry::start(&config.telemetry, &name, &services)?;
    let mut wiring = Wiring {
        config: &config,
        services: &services,
        membership: &membership,
        data: &data,
        workflows: &workflows,
        telemetry,
    };
    let listeners = waiting.end().await?;
    let (socket, local) = listen::local(&config, &data.root)?.unzip();
    addresses.socket = socket;
    let mut roles = Roles::start(&mut wiring, listeners, local, &addresses, tokens, readiness.clone(), sdk)?;
    tokio::select! {
        () = membership.begin() => {}
        () = stop.cancelled() => {}
    }
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
    readiness.stop();
    // Others take the duties over while this node still answers those who don't know yet that it is about to go.
    let delay = tokio::time::sleep(config.node.stop_delay.0);
    let hand_over = async {
        membership.drain().await;
        roles.stop_turns().await;
    };
    tokio::join!(delay, hand_over);
    roles.stop(config.node.stop_timeout.0).await;
    if let Some(shown) = shown {
        shown.abort();
    }
    membership.shutdown().await;
    bus.close().await;
    workflow.close().await;
    store.close().await;
    tracing::info!("stopped");
    outcome
}

/// The ports' answers while the node isn't whole.
struct Waiting {
    cancel: CancellationToken,
    serving: JoinHandle<Vec<(Socket, Mount)>>,
}

impl Waiting {
    fn start(listeners: Vec<(Socket, Mount)>, readiness: Arc<dyn Readiness>, tls: Option<Arc<gateway::Tls>>) -> Self {
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(Starting::new(readiness, tls).serve(listeners, cancel.clone()));
        Self { cancel, serving }
    }

    async fn end(self) -> Result<Vec<(Socket, Mount)>> {
        self.cancel.cancel();
        self.serving.await.context("what answered during the start failed")
    }
}

/// Everything that the roles stand on.
struct Prepared {
    services: Arc<Services>,
    store: OpenStore,
    bus: OpenBus,
    workflow: Arc<dyn WorkflowState>,
    membership: Arc<Membership>,
    data: DataDir,
    secrets: Secrets,
    sdk: std::path::PathBuf,
}

/// Opens what lies in the data directory and connects to the servers. The parts don't wait for each other: a start
/// takes as long as the longest.
async fn prepare(config: &Config, board: &Board) -> Result<Prepared> {
    let data = DataDir::open(&config.node.data_dir)?;
    let name = config.node.name.clone().unwrap_or_else(hostname);

    let own = (!config.cluster.is_on()).then(|| {
        let (data, key_path) = (data.clone(), config.keyvalue.encryption_key_path.clone());
        tokio::task::spawn_blocking(move || secrets::own(&data, key_path.as_deref()))
    });
    let unpacked = {
        let root = data.root.clone();
        tokio::task::spawn_blocking(move || -> Result<_> {
            let packs = system_packs::unpack(&root).context("can't unpack the system packs")?;
            let sdk = runners::sdk::unpack(&root).context("can't unpack the Python SDK")?;
            Ok((packs, sdk))
        })
    };
    let joined = async {
        let membership = Arc::new(Membership::open(&data, &name, config, board).await?);
        let secrets = match own {
            Some(own) => own.await??,
            None => {
                board.set("raft", Err("waiting for the group to answer".to_owned()));
                secrets::agreed(&membership, &data, config.keyvalue.encryption_key_path.clone()).await?
            }
        };
        board.set("raft", Ok(()));
        let coordinator = servers::coordinator(config, &membership, board).await?;
        Ok::<_, anyhow::Error>((membership, secrets, coordinator))
    };
    let (store, bus, workflow, (membership, mut secrets, coordinator)) = tokio::try_join!(
        OpenStore::open(config, &data, board),
        OpenBus::open(config, &name, board),
        servers::workflow(config, &data, board),
        joined
    )?;
    let (system_packs, sdk) = unpacked.await??;

    let settings = settings(config, &data, &system_packs);
    let services = services(&store, &bus, coordinator, settings, &mut secrets);
    bootstrap(&services, system_packs, &data, board).await?;
    system_roles(config, services.store.as_ref(), board).await?;
    if let Some(sensor) = &config.sensors.only {
        only_sensor(sensor, services.store.as_ref(), board).await?;
    }
    Ok(Prepared { services, store, bus, workflow, membership, data, secrets, sdk })
}

fn services(
    store: &OpenStore,
    bus: &OpenBus,
    coordinator: Arc<dyn Coordinator>,
    settings: Settings,
    secrets: &mut Secrets,
) -> Arc<Services> {
    Services::new(store.port(), bus.port(), coordinator, Arc::new(SystemClock), settings, secrets.crypto.take())
}

/// Registers the system packs; a store that goes away meanwhile is waited for.
async fn bootstrap(
    services: &Services,
    system_packs_dir: std::path::PathBuf,
    data: &DataDir,
    board: &Board,
) -> Result<()> {
    let options = content::BootstrapOptions { system_packs_dir, data_dir: data.root.clone() };
    until(board, "store", || async {
        content::bootstrap(services, &options).await.map_err(|error| {
            let away = error.is_unavailable();
            let error = anyhow!(error).context("the system packs can't be registered");
            if away { Failure::Away(error) } else { Failure::Fatal(error) }
        })
    })
    .await
}

/// The sensor that this node is there for has to be registered.
async fn only_sensor(sensor: &str, store: &dyn Store, board: &Board) -> Result<()> {
    let found = until(board, "store", || async {
        store.total::<SensorType>(&Query::eq("ref", sensor)).await.map_err(|error| {
            let away = matches!(error, StoreError::Unavailable(_));
            let error = anyhow!(error).context("the sensor can't be looked for");
            if away { Failure::Away(error) } else { Failure::Fatal(error) }
        })
    })
    .await?;
    ensure!(found > 0, "key `sensors.only`: no sensor \"{sensor}\" is registered");
    Ok(())
}

/// Puts the system's roles in place, and says so if RBAC is on and leaves the system's own user without any.
async fn system_roles(config: &Config, store: &dyn Store, board: &Board) -> Result<()> {
    let user = &config.system.user;
    let assigned = until(board, "store", || async {
        let roles = async {
            auth::rbac::ensure_system_roles(store).await?;
            store.total::<RoleAssignment>(&Query::eq("user", user.as_str())).await
        };
        roles.await.map_err(|error| {
            let away = matches!(error, StoreError::Unavailable(_));
            let error = anyhow!(error).context("the system's roles can't be stored");
            if away { Failure::Away(error) } else { Failure::Fatal(error) }
        })
    })
    .await?;
    if config.rbac.enable && assigned == 0 {
        tracing::warn!(
            user,
            "RBAC is on and the system user has no role: rules' actions and sensors can't use the API"
        );
    }
    Ok(())
}

fn settings(config: &Config, data: &DataDir, system_packs: &std::path::Path) -> Settings {
    let mut pack_dirs = vec![system_packs.to_owned(), data.packs()];
    pack_dirs.extend(config.content.packs_dirs.iter().cloned());
    let mut index_urls = Settings::default().index_urls;
    if !config.content.index_urls.is_empty() {
        index_urls.clone_from(&config.content.index_urls);
    }
    Settings {
        index_urls,
        pack_group: config.content.pack_group.clone(),
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
