//! The group over the port that nodes have for each other, by the certificate of a node of this host.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use raft::{TlsFiles, admin};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shown::shown;
use crate::config::Config;
use crate::data_dir::write_private;
use crate::membership;

/// In the data directory: where the running node's door is. It names files, and holds no secret.
const FILE: &str = "cluster.json";

/// A node's address among nodes, and the files that let one in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Door {
    address: String,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Door {
    pub fn of_config(config: &Config) -> Result<Self> {
        let options = membership::cluster(config)?
            .context("this node is on its own (no key `cluster.listen`): its API tells its state")?;
        let TlsFiles { ca, cert, key } = options.tls;
        Ok(Self { address: options.advertise, ca, cert, key })
    }

    pub fn of_data_dir(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("can't read {}: has this node been part of a cluster?", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Leaves word of it in the data directory, with paths that hold from anywhere.
    pub fn write(mut self, dir: &Path) -> Result<()> {
        for path in [&mut self.ca, &mut self.cert, &mut self.key] {
            *path = std::path::absolute(&*path)?;
        }
        write_private(&dir.join(FILE), &serde_json::to_string(&self)?)
    }

    fn tls(&self) -> TlsFiles {
        TlsFiles { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() }
    }

    fn asked(&self) -> String {
        format!("asked at {}", self.address)
    }

    pub async fn status(&self) -> Result<Value> {
        let status = admin::status(&self.address, &self.tls()).await.with_context(|| self.asked())?;
        Ok(shown(&status))
    }

    pub async fn remove(&self, member: &str) -> Result<()> {
        admin::remove(&self.address, &self.tls(), member).await.with_context(|| self.asked())
    }

    /// The new leader's name.
    pub async fn transfer(&self, to: Option<&str>) -> Result<String> {
        admin::transfer(&self.address, &self.tls(), to).await.with_context(|| self.asked())?;
        let status = admin::status(&self.address, &self.tls()).await.with_context(|| self.asked())?;
        Ok(status.leader.or_else(|| to.map(str::to_owned)).unwrap_or_else(|| "another node".to_owned()))
    }
}
