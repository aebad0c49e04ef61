//! The ports' adapters by configuration: embedded ones, or clients of servers that may be away for a while.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use bus::Bus;
use bus::local::{LocalBus, LocalBusOptions};
use coordinator::{Coordinator, LocalCoordinator};
use store::Store;
use store::sqlite::{SqliteOptions, SqliteStore};

use crate::config::{Config, CoordinatorBackend};
use crate::data_dir::DataDir;
use crate::membership::Membership;
use crate::patience::{Board, Failure, until};

/// A store, and how it ends.
#[derive(Debug, Clone)]
pub enum OpenStore {
    Embedded(Arc<SqliteStore>),
}

impl OpenStore {
    pub async fn open(config: &Config, data: &DataDir, board: &Board) -> Result<Self> {
        until(board, "store", || async {
            if config.store.is_embedded() {
                data.keep_store_private().map_err(Failure::Fatal)?;
                let store = SqliteStore::open(SqliteOptions::new(data.store())).await;
                return store
                    .map(|store| Self::Embedded(Arc::new(store)))
                    .map_err(|error| Failure::Fatal(anyhow::Error::from(error).context("can't open the store")));
            }
            Err(Failure::Fatal(anyhow!("key `store.url`: not served yet")))
        })
        .await
    }

    pub fn port(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => store.clone(),
        }
    }

    /// Finishes what is queued.
    pub async fn close(&self) {
        match self {
            Self::Embedded(store) => store.close().await,
        }
    }
}

/// A bus, and how it ends.
#[derive(Debug, Clone)]
pub enum OpenBus {
    Embedded(Arc<LocalBus>),
}

impl OpenBus {
    pub async fn open(config: &Config, _name: &str, board: &Board) -> Result<Self> {
        until(board, "bus", || async {
            if config.bus.is_embedded() {
                return Ok(Self::Embedded(Arc::new(LocalBus::new(LocalBusOptions::default()))));
            }
            Err(Failure::Fatal(anyhow!("key `bus.urls`: not served yet")))
        })
        .await
    }

    pub fn port(&self) -> Arc<dyn Bus> {
        match self {
            Self::Embedded(bus) => bus.clone(),
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Embedded(bus) => bus.close(),
        }
    }
}

/// Who decides on permits.
pub async fn coordinator(config: &Config, membership: &Membership, board: &Board) -> Result<Arc<dyn Coordinator>> {
    let _ = (membership, board);
    match config.coordinator.backend {
        // Alone, nobody else needs to know who holds what, and the store remembers it.
        CoordinatorBackend::Raft => Ok(Arc::new(LocalCoordinator::new())),
        CoordinatorBackend::Redis | CoordinatorBackend::ZooKeeper => {
            Err(anyhow!("key `coordinator.backend`: not served yet"))
        }
    }
}
