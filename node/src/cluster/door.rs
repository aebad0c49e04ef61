//! The group over the port that nodes have for each other, by the certificate of a node of this host.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::config::Config;

/// A way in.
#[derive(Debug)]
pub struct Door;

impl Door {
    pub fn of_config(_config: &Config) -> Result<Self> {
        bail!("ask the node's API: --url and --token")
    }

    pub fn of_data_dir(_dir: &Path) -> Result<Self> {
        bail!("ask the node's API: --url and --token")
    }

    pub async fn status(&self) -> Result<Value> {
        bail!("ask the node's API: --url and --token")
    }

    pub async fn remove(&self, _member: &str) -> Result<()> {
        bail!("ask the node's API: --url and --token")
    }

    pub async fn transfer(&self, _to: Option<&str>) -> Result<String> {
        bail!("ask the node's API: --url and --token")
    }
}
