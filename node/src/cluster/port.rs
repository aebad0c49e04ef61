//! The gateway's view of the group: `/v1/cluster`.

use std::sync::Arc;

use async_trait::async_trait;
use gateway::{Cluster, ClusterError};
use raft::{RaftError, Status};
use serde_json::{Value, json};

use crate::membership::Membership;

/// The group as the API shows it.
#[derive(Debug)]
pub struct GroupPort(pub Arc<Membership>);
