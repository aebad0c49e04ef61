//! The gateway's view of the group: `/v1/cluster`.

use std::sync::Arc;

use async_trait::async_trait;
use gateway::{Cluster, ClusterError};
use raft::RaftError;
use serde_json::Value;

use super::shown::shown;
use crate::config::Role;
use crate::membership::Membership;

/// The group as the API shows it.
#[derive(Debug)]
pub struct GroupPort(pub Arc<Membership>);

impl GroupPort {
    fn is_member(&self, name: &str) -> Result<(), ClusterError> {
        let known = self.0.group().status().members.iter().any(|member| member.name == name);
        if known { Ok(()) } else { Err(ClusterError::NotFound(format!("\"{name}\" is not a member of the cluster"))) }
    }
}

/// The group as work on packs asks for it.
#[derive(Debug)]
pub struct GroupNodes {
    pub name: String,
    pub membership: Arc<Membership>,
}

impl domain::Nodes for GroupNodes {
    fn name(&self) -> &str {
        &self.name
    }

    fn with_packs(&self) -> Option<Vec<String>> {
        self.membership.live_sessions()?;
        let holds = |role: &String| role == Role::Runner.name() || role == Role::Sensors.name();
        let sessions = self.membership.group().status().sessions;
        let up = sessions.into_iter().filter(|one| !one.suspended && !one.draining && one.roles.iter().any(holds));
        Some(up.map(|one| one.node).collect())
    }
}

#[async_trait]
impl Cluster for GroupPort {
    async fn status(&self) -> Result<Value, ClusterError> {
        Ok(shown(&self.0.group().status()))
    }

    async fn remove(&self, member: &str) -> Result<(), ClusterError> {
        self.is_member(member)?;
        self.0.group().remove_node(member).await.map_err(failed)
    }

    async fn transfer(&self, to: Option<&str>) -> Result<String, ClusterError> {
        if let Some(to) = to {
            self.is_member(to)?;
        }
        self.0.group().transfer_leader(to).await.map_err(failed)?;
        let leader = self.0.group().status().leader;
        Ok(leader.or_else(|| to.map(str::to_owned)).unwrap_or_default())
    }
}

fn failed(error: RaftError) -> ClusterError {
    match error {
        RaftError::NotAdmitted(reason) => ClusterError::Refused(reason),
        error if error.is_retryable() => ClusterError::Unavailable(error.to_string()),
        error => ClusterError::Refused(error.to_string()),
    }
}
