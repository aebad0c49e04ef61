//! Writing a pack's configuration: the file and what the store holds (spec/packs.md §4, spec/api.md §7.10).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use domain::Services;
use model::{Config, Id, Object, yaml};
use serde_json::Value;
use store::{Query, StoreExt};

use crate::error::ContentError;
use crate::pack_dir::{config_file, is_pack_ref};
use crate::upsert::upsert;

/// Makes these the values of the pack's configuration. The caller has checked them ([`crate::checks::config_values`]).
///
/// The file comes first: registering the pack again later gives the same values.
pub async fn configure(services: &Services, pack: &str, values: Object) -> Result<Config, ContentError> {
    if !is_pack_ref(pack) {
        return Err(ContentError::Invalid(format!("\"{pack}\" can't be the name of a pack")));
    }
    let path = config_file(&services.settings.base_path, pack);
    let text = yaml::dump_unicode(&Value::Object(values.clone()));
    let written = tokio::task::spawn_blocking(move || write(&path, text.as_bytes()));
    let failed = |reason: String| ContentError::Invalid(format!("configs/{pack}.yaml can't be written: {reason}"));
    written.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    let query = Query::eq("pack", pack);
    let config = Config { id: Id::fresh(services.now()), pack: pack.to_owned(), values };
    upsert(services, &query, config.clone()).await?;
    synced(services, &config).await;
    let stored = services.store.first::<Config>(&query).await?;
    Ok(stored.map_or(config, |stored| stored.doc))
}

/// The store's values are those of this node's file.
pub(crate) async fn synced(services: &Services, config: &Config) {
    let (base_path, config) = (services.settings.base_path.clone(), config.clone());
    let marked = tokio::task::spawn_blocking(move || {
        crate::config_files::belong_together(&base_path, &config.pack, &config.values);
    });
    if let Err(error) = marked.await {
        tracing::debug!(%error, "the configuration's mark was not written");
    }
}

/// Replaces the file as a whole. Only the node's user may read it: it may hold secrets.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let draft = PathBuf::from(format!("{}.new-{}", path.display(), uuid::Uuid::new_v4().simple()));
    let attempt = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    attempt().inspect_err(|_| drop(std::fs::remove_file(&draft)))
}
