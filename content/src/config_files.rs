//! On a cluster, the file of a pack's configuration follows the store: else a node that has an older file would make it
//! the pack's configuration again when the pack is registered there.
//!
//! A file that somebody has edited and not yet registered is left alone. So that this can be told, a mark beside the
//! files (`configs/.synced/<pack>`) says which values and which file belonged together last.

use std::path::{Path, PathBuf};

use domain::Services;
use model::{Config, Id, Object, yaml};
use serde_json::Value;
use store::{Query, StoreExt};

use crate::configure::write;
use crate::install::InstallError;
use crate::install::error::blocking;
use crate::pack_dir::{config_file, is_pack_ref};

/// Hashes of what belonged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    values: Id,
    file: Id,
}

fn hash(values: &Object) -> Id {
    Id::of_content(Value::Object(values.clone()).to_string().as_bytes())
}

fn mark_file(base_path: &Path, pack: &str) -> PathBuf {
    base_path.join("configs/.synced").join(pack)
}

fn read_mark(base_path: &Path, pack: &str) -> Option<Mark> {
    let text = std::fs::read_to_string(mark_file(base_path, pack)).ok()?;
    let (values, file) = text.trim().split_once(' ')?;
    Some(Mark { values: values.parse().ok()?, file: file.parse().ok()? })
}

fn file_hash(base_path: &Path, pack: &str) -> Option<Id> {
    std::fs::read(config_file(base_path, pack)).ok().map(|bytes| Id::of_content(&bytes))
}

/// The store's values and this node's file belong together from now on. Blocking; a mark that can't be written only
/// means that this file doesn't follow.
pub(crate) fn belong_together(base_path: &Path, pack: &str, values: &Object) {
    let Some(file) = file_hash(base_path, pack) else { return };
    let path = mark_file(base_path, pack);
    let text = format!("{} {file}\n", hash(values));
    if let Err(error) = write(&path, text.as_bytes()) {
        tracing::debug!(pack, %error, "the configuration's mark can't be written");
    }
}

/// Makes this node's files be what the store holds.
pub(crate) async fn follow(services: &Services) -> Result<(), InstallError> {
    let rows = services.store.search::<Config>(&Query::all()).await?;
    let base_path = services.settings.base_path.clone();
    blocking(move || {
        for row in rows.iter().filter(|row| is_pack_ref(&row.doc.pack)) {
            if let Err(error) = one(&base_path, &row.doc) {
                tracing::warn!(pack = row.doc.pack, %error, "the file of the pack's configuration can't be written");
            }
        }
        Ok(())
    })
    .await
}

fn one(base_path: &Path, config: &Config) -> std::io::Result<()> {
    let pack = config.pack.as_str();
    let known = read_mark(base_path, pack);
    if known.is_some_and(|known| known.values == hash(&config.values)) {
        return Ok(());
    }
    if file_hash(base_path, pack).is_some_and(|file| known.is_none_or(|known| known.file != file)) {
        // Edited by hand, and not registered since.
        return Ok(());
    }
    let text = yaml::dump_unicode(&Value::Object(config.values.clone()));
    write(&config_file(base_path, pack), text.as_bytes())?;
    belong_together(base_path, pack, &config.values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: i64) -> Config {
        let values = json!({"a": value}).as_object().unwrap().clone();
        Config { id: Id::of_content(b"p"), pack: "p".to_owned(), values }
    }

    #[test]
    fn files_follow_unless_somebody_edited_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = config_file(dir.path(), "p");
        let text = || std::fs::read_to_string(&file).unwrap();
        one(dir.path(), &config(1)).unwrap();
        assert_eq!(text(), "a: 1\n");
        one(dir.path(), &config(2)).unwrap();
        assert_eq!(text(), "a: 2\n");
        std::fs::write(&file, "a: 3 # mine\n").unwrap();
        one(dir.path(), &config(4)).unwrap();
        assert_eq!(text(), "a: 3 # mine\n");
        // It is registered: the next change comes again.
        belong_together(dir.path(), "p", &config(3).values);
        one(dir.path(), &config(3)).unwrap();
        assert_eq!(text(), "a: 3 # mine\n");
        one(dir.path(), &config(5)).unwrap();
        assert_eq!(text(), "a: 5\n");
    }
}
