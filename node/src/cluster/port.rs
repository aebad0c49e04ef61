//! The gateway's view of the group: `/v1/cluster`.

use std::sync::Arc;

use async_trait::async_trait;
use gateway::{Cluster, ClusterError};
use serde_json::Value;

use super::shown::shown;
use crate::membership::Membership;

/// The group as the API shows it.
#[derive(Debug)]
pub struct GroupPort(pub Arc<Membership>);

#[async_trait]
impl Cluster for GroupPort {
    async fn status(&self) -> Result<Value, ClusterError> {
        Ok(shown(&self.0.group().status()))
    }

    async fn remove(&self, _member: &str) -> Result<(), ClusterError> {
        Err(ClusterError::Refused("the group can't do that yet".to_owned()))
    }

    async fn transfer(&self, _to: Option<&str>) -> Result<String, ClusterError> {
        Err(ClusterError::Refused("the group can't do that yet".to_owned()))
    }
}
