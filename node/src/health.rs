//! What `/healthz/ready` asks: a line for each thing that the node depends on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::Services;
use gateway::{Dependency, Readiness};
use tokio::time::timeout;

use crate::membership::Membership;

const DEADLINE: Duration = Duration::from_secs(1);

/// Ready when the store takes writes, the bus works, and the node has a session in its group.
#[derive(Debug)]
pub struct NodeReady {
    services: Arc<Services>,
    membership: Arc<Membership>,
}

impl NodeReady {
    pub fn new(services: Arc<Services>, membership: Arc<Membership>) -> Self {
        Self { services, membership }
    }
}

#[async_trait]
impl Readiness for NodeReady {
    async fn check(&self) -> Vec<Dependency> {
        let store = async { self.services.store.check().await.map_err(|error| error.to_string()) };
        let bus = async { self.services.bus.check().await.map_err(|error| error.to_string()) };
        let (store, bus) = tokio::join!(timeout(DEADLINE, store), timeout(DEADLINE, bus));
        let late = |_| Err(format!("no answer within {DEADLINE:?}"));
        [("store", store.unwrap_or_else(late)), ("bus", bus.unwrap_or_else(late)), ("raft", self.membership.check())]
            .into_iter()
            .map(|(name, state)| Dependency {
                name: name.to_owned(),
                ready: state.is_ok(),
                detail: state.err().unwrap_or_else(|| "ok".to_owned()),
            })
            .collect()
    }
}
