//! The ports' adapters by configuration: embedded ones, or clients of servers that may be away for a while.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bus::Bus;
use bus::local::{LocalBus, LocalBusOptions};
use bus_rabbitmq::{Credentials, RabbitBus, RabbitOptions, TlsOptions};
use coordinator::{Coordinator, LocalCoordinator};
use coordinator_redis::{RedisCoordinator, RedisOptions, RedisTls};
use coordinator_zookeeper::{ZooKeeperCoordinator, ZooKeeperOptions};
use raft::RaftCoordinator;
use store::Store;
use store::sqlite::{SqliteOptions, SqliteStore};
use store_mongodb::{MongoOptions, MongoStore};
use workflow::SqliteState;
use workflow::WorkflowState;
use workflow::postgres::{PostgresOptions, PostgresState};

use crate::config::{Config, CoordinatorBackend};
use crate::data_dir::DataDir;
use crate::membership::Membership;
use crate::patience::{Board, Failure, until};

/// How long one attempt of the start waits for a server.
const PATIENCE: Duration = Duration::from_secs(2);

/// A store, and how it ends.
#[derive(Debug, Clone)]
pub enum OpenStore {
    Embedded(Arc<SqliteStore>),
    Mongo(Arc<MongoStore>),
}

impl OpenStore {
    pub async fn open(config: &Config, data: &DataDir, board: &Board) -> Result<Self> {
        until(board, "store", || async {
            if config.store.is_embedded() {
                let file = data.private_database("squall.db").map_err(Failure::Fatal)?;
                let store = SqliteStore::open(SqliteOptions::new(file)).await;
                return store
                    .map(|store| Self::Embedded(Arc::new(store)))
                    .map_err(|error| Failure::Fatal(anyhow::Error::from(error).context("can't open the store")));
            }
            let options = mongo_options(config, data).map_err(Failure::Fatal)?;
            match MongoStore::open(options).await {
                Ok(store) => Ok(Self::Mongo(Arc::new(store))),
                Err(error) if error.is_retryable() => Err(Failure::Away(anyhow!("{error}"))),
                Err(error) => Err(Failure::Fatal(anyhow::Error::from(error).context("section [store]"))),
            }
        })
        .await
    }

    pub fn port(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => store.clone(),
            Self::Mongo(store) => store.clone(),
        }
    }

    /// Finishes what is queued.
    pub async fn close(&self) {
        match self {
            Self::Embedded(store) => store.close().await,
            Self::Mongo(store) => store.close().await,
        }
    }
}

fn mongo_options(config: &Config, data: &DataDir) -> Result<MongoOptions> {
    let store = &config.store;
    let mut options = MongoOptions::new(store.server_url()?.reveal());
    options.username.clone_from(&store.username);
    options.password = store.secret()?.map(store_mongodb::Password);
    options.database.clone_from(&store.database);
    options.prefix = store.prefix.clone().unwrap_or_else(|| config.cluster.name.clone());
    options.deadline = store.timeout.0;
    if store.tls.is_set() {
        // The driver wants certificate and key in one file.
        let cert_key_file = match (&store.tls.cert_file, &store.tls.key_file) {
            (Some(cert), Some(key)) => Some(data.joined("store-client.pem", &[cert, key])?),
            _ => None,
        };
        options.tls = Some(store_mongodb::TlsFiles { ca_file: store.tls.ca_file.clone(), cert_key_file });
    }
    Ok(options)
}

/// A bus, and how it ends.
#[derive(Debug, Clone)]
pub enum OpenBus {
    Embedded(Arc<LocalBus>),
    Rabbit(Arc<RabbitBus>),
}

impl OpenBus {
    pub async fn open(config: &Config, name: &str, board: &Board) -> Result<Self> {
        if config.bus.is_embedded() {
            board.set("bus", Ok(()));
            return Ok(Self::Embedded(Arc::new(LocalBus::new(LocalBusOptions::default()))));
        }
        // Reconnects by itself; the start only waits for the first time that it works.
        let bus = Arc::new(RabbitBus::open(rabbit_options(config, name)?).context("section [bus]")?);
        until(board, "bus", || async { bus.ready(PATIENCE).await.map_err(|error| Failure::Away(anyhow!("{error}"))) })
            .await?;
        Ok(Self::Rabbit(bus))
    }

    pub fn port(&self) -> Arc<dyn Bus> {
        match self {
            Self::Embedded(bus) => bus.clone(),
            Self::Rabbit(bus) => bus.clone(),
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Embedded(bus) => bus.close(),
            Self::Rabbit(bus) => bus.close().await,
        }
    }
}

fn rabbit_options(config: &Config, name: &str) -> Result<RabbitOptions> {
    let bus = &config.bus;
    let urls = bus.server_urls()?.iter().map(|url| url.reveal().to_owned()).collect();
    let mut options = RabbitOptions::new(urls, &config.cluster.name, name);
    options.credentials = credentials("bus", bus.username.as_ref(), bus.secret()?)?
        .map(|(user, password)| Credentials { user, password });
    options.tls = TlsOptions {
        ca: bus.tls.ca_file.clone(),
        certificate: bus.tls.cert_file.clone(),
        key: bus.tls.key_file.clone(),
    };
    Ok(options)
}

/// User and password, when they aren't part of the URL.
fn credentials(section: &str, username: Option<&String>, password: Option<String>) -> Result<Option<(String, String)>> {
    match (username, password) {
        (Some(user), Some(password)) => Ok(Some((user.clone(), password))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(anyhow!("key `{section}.password`: missing beside `{section}.username`")),
        (None, Some(_)) => Err(anyhow!("key `{section}.username`: missing beside the password")),
    }
}

/// Who decides on permits.
pub async fn coordinator(config: &Config, membership: &Membership, board: &Board) -> Result<Arc<dyn Coordinator>> {
    match config.coordinator.backend {
        CoordinatorBackend::Raft if config.cluster.is_on() => {
            board.set("coordinator", Ok(()));
            Ok(Arc::new(RaftCoordinator::new(membership.group().clone())))
        }
        // Alone, nobody else needs to know who holds what, and the store remembers it.
        CoordinatorBackend::Raft => {
            board.set("coordinator", Ok(()));
            Ok(Arc::new(LocalCoordinator::new()))
        }
        CoordinatorBackend::Redis => redis(config, board).await,
        CoordinatorBackend::ZooKeeper => zookeeper(config, board).await,
    }
}

async fn redis(config: &Config, board: &Board) -> Result<Arc<dyn Coordinator>> {
    let section = &config.coordinator;
    let mut options = RedisOptions::new(section.server_url()?.reveal(), &config.cluster.name);
    options.username.clone_from(&section.username);
    options.password = section.secret()?;
    let pem = |key: &str, path: &Option<PathBuf>| -> Result<Option<Vec<u8>>> {
        let read = |path| std::fs::read(path).with_context(|| format!("key `coordinator.tls.{key}`: {path:?}"));
        path.as_ref().map(read).transpose()
    };
    let certificate = pem("cert_file", &section.tls.cert_file)?;
    options.tls = RedisTls {
        ca: pem("ca_file", &section.tls.ca_file)?,
        identity: certificate.zip(pem("key_file", &section.tls.key_file)?),
    };
    let coordinator = Arc::new(RedisCoordinator::open(options).await.context("section [coordinator]")?);
    until(board, "coordinator", || async {
        coordinator.check().await.map_err(|error| Failure::Away(anyhow!("{error}")))
    })
    .await?;
    Ok(coordinator)
}

async fn zookeeper(config: &Config, board: &Board) -> Result<Arc<dyn Coordinator>> {
    let section = &config.coordinator;
    let mut options = ZooKeeperOptions::from_url(section.server_url()?.reveal(), &config.cluster.name)
        .context("key `coordinator.url`")?;
    if let Some(given) = credentials("coordinator", section.username.as_ref(), section.secret()?)? {
        options.credentials = Some(given);
    }
    if section.tls.is_set() {
        return Err(anyhow!("section [coordinator.tls]: the backend zookeeper is not served over TLS"));
    }
    let coordinator = Arc::new(ZooKeeperCoordinator::open(options).await.context("section [coordinator]")?);
    until(board, "coordinator", || async {
        coordinator.check().await.map_err(|error| Failure::Away(anyhow!("{error}")))
    })
    .await?;
    Ok(coordinator)
}

/// Where workflows keep their state: a server, or a file in the data directory.
pub async fn workflow(config: &Config, data: &DataDir, board: &Board) -> Result<Arc<dyn WorkflowState>> {
    if config.workflow.is_embedded() {
        let state = SqliteState::open(workflow::SqliteOptions::new(data.private_database("workflow.db")?)).await?;
        board.set("workflow", Ok(()));
        return Ok(Arc::new(state));
    }
    let section = &config.workflow;
    let mut url = section.server_url()?.reveal().to_owned();
    if let Some(user) = &section.username {
        let mut parsed = url::Url::parse(&url).map_err(|_| anyhow!("key `workflow.url`: not a URL"))?;
        parsed.set_username(user).map_err(|()| anyhow!("key `workflow.username`: the URL can't take one"))?;
        url = parsed.into();
    }
    let mut options = PostgresOptions::new(url);
    options.password = section.secret()?;
    options.schema = schema(&config.cluster.name);
    options.max_connections = section.pool_size;
    options.tls.root_cert.clone_from(&section.tls.ca_file);
    options.tls.client_cert.clone_from(&section.tls.cert_file);
    options.tls.client_key.clone_from(&section.tls.key_file);
    if section.tls.is_set() {
        options.tls.mode = Some("verify-full".to_owned());
    }
    until(board, "workflow", || async {
        match PostgresState::open(options.clone()).await {
            Ok(state) => Ok(Arc::new(state) as Arc<dyn WorkflowState>),
            Err(workflow::OpenError::State(error)) => Err(Failure::Away(anyhow!("{error}"))),
            Err(error) => Err(Failure::Fatal(anyhow::Error::from(error).context("section [workflow]"))),
        }
    })
    .await
}

/// A schema's name for the cluster: letters, digits and _, not beginning with a digit.
fn schema(cluster: &str) -> String {
    let name = cluster.replace('-', "_");
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("pg_") { format!("c_{name}") } else { name }
}
