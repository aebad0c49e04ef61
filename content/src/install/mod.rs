//! Installing packs: where they come from, whether they are sound, and how every node gets them (DESIGN §6,
//! spec/packs.md §6).
//!
//! [`install()`] does it all: [`source`] (what people write) → [`index`] (names to addresses) → [`fetch`] (git, copies)
//! → [`tree`] (hostile content is refused) → a check of all metadata → [`bundle`] (one blob for all nodes)
//! → [`deploy`] (the store's word and this node's disk) → [`virtualenv`] → registration. [`distribution`] runs on every
//! node and follows; [`reports`] tells what each node has. [`revision`] brings out other revisions of a pack.

pub mod bundle;
pub mod deploy;
pub mod distribution;
pub mod error;
pub mod fetch;
mod group;
pub mod index;
pub mod reports;
pub mod revision;
pub mod run;
pub mod source;
pub mod steps;
pub mod tree;
mod uv;
pub mod virtualenv;

pub use error::InstallError;
pub use run::{InstallRequest, Installed, install, uninstall};

use std::path::PathBuf;
use std::sync::Arc;

use domain::{Services, Settings};

/// What installing needs besides the services.
#[derive(Debug, Clone)]
pub struct Workshop {
    pub services: Arc<Services>,
    /// The interpreter that virtualenvs are made from.
    pub python: Option<PathBuf>,
    /// Variables for git, pip and the index: proxies and certificates.
    pub environment: Vec<(String, String)>,
    pub progress: Progress,
}

/// Tells how far it is; a reader that is too slow misses lines, never holds anything up.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<tokio::sync::mpsc::Sender<String>>);

impl Progress {
    pub fn to(lines: tokio::sync::mpsc::Sender<String>) -> Self {
        Self(Some(lines))
    }

    pub fn say(&self, line: impl Into<String>) {
        let line = line.into();
        tracing::debug!(line, "pack management");
        if let Some(lines) = &self.0 {
            drop(lines.try_send(line));
        }
    }
}

/// The directory that packs are installed into: `packs` of the base path, or the first that isn't the system packs'.
pub fn packs_root(settings: &Settings) -> PathBuf {
    let usual = settings.base_path.join("packs");
    if settings.pack_dirs.contains(&usual) {
        return usual;
    }
    settings.pack_dirs.get(1).cloned().unwrap_or(usual)
}

/// Packs that can be neither installed over nor removed.
pub const SYSTEM_PACKS: [&str; 4] = ["core", "packs", "linux", "chatops"];
