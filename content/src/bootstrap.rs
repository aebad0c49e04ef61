//! A node's start: built-in rows and system packs, registered once for each version of them.

use std::path::{Path, PathBuf};

use domain::Services;
use model::{Id, RunnerType};
use store::{Query, StoreExt};

use crate::error::ContentError;
use crate::pack_dir;
use crate::register::{RegisterRequest, register, register_runner_types, register_trigger_types};

/// Where the start finds things.
#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// Directory of the system packs; its name changes with their content.
    pub system_packs_dir: PathBuf,
    /// Where the mark lies that says what was registered.
    pub data_dir: PathBuf,
}

/// Nodes that start at the same moment register the same rows; one of two that meet may have to begin again.
const ATTEMPTS: u32 = 20;

/// Registers what is new. When nothing is, it costs one look at the store.
pub async fn bootstrap(services: &Services, options: &BootstrapOptions) -> Result<(), ContentError> {
    let mark = options.data_dir.join("registered-content");
    let digest = digest(options, &services.settings.base_path);
    let known = tokio::fs::read_to_string(&mark).await.unwrap_or_default();
    let filled = services.store.first::<RunnerType>(&Query::all()).await?.is_some();
    if filled && known == digest {
        return Ok(());
    }
    let dirs = vec![options.system_packs_dir.clone()];
    let packs = tokio::task::spawn_blocking(move || pack_dir::all(&dirs))
        .await
        .map_err(|error| ContentError::Invalid(format!("looking for packs failed: {error}")))?;
    let names: Vec<String> = packs.into_iter().map(|pack| pack.name).collect();
    tracing::info!(packs = names.join(", "), "registering the system packs");
    let request = RegisterRequest { packs: Some(names), kinds: None, fail_on_failure: true };
    let mut attempt = 1;
    while let Err(error) = everything(services, &request).await {
        if !error.is_conflict() || attempt == ATTEMPTS {
            return Err(error);
        }
        tracing::debug!(%error, attempt, "another node registers the same");
        let pause = std::time::Duration::from_millis(rand::random_range(5..=20) * u64::from(attempt));
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
    // Without the mark the next start registers again, which changes nothing.
    if let Err(error) = tokio::fs::write(&mark, digest).await {
        tracing::warn!(%error, file = %mark.display(), "can't write the mark of registered content");
    }
    Ok(())
}

async fn everything(services: &Services, request: &RegisterRequest) -> Result<(), ContentError> {
    register_runner_types(services).await?;
    register_trigger_types(services).await?;
    register(services, request).await.map(drop)
}

/// What the outcome of the registration depends on: version, packs, and the files that configure or override them.
fn digest(options: &BootstrapOptions, base_path: &Path) -> String {
    let mut text = format!("{} {}\n", env!("CARGO_PKG_VERSION"), options.system_packs_dir.display());
    for name in ["configs", "overrides"] {
        let Ok(entries) = std::fs::read_dir(base_path.join(name)) else { continue };
        let mut lines: Vec<String> = entries
            .flatten()
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some(format!("{:?} {} {:?}\n", entry.path(), metadata.len(), metadata.modified().ok()?))
            })
            .collect();
        lines.sort();
        text.extend(lines);
    }
    Id::of_content(text.as_bytes()).to_string()
}
