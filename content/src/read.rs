//! A pack's files, read whole on a blocking thread before anything is registered.

use std::path::{Path, PathBuf};

use model::Object;

use crate::error::ContentError;
use crate::overrides::Overrides;
use crate::pack_dir::{PackDir, read_object};

/// One metadata file: its path relative to the pack, and what it holds or why it can't be read.
pub type Metadata = (String, Result<Object, String>);

/// What registration needs of a pack.
#[derive(Debug)]
pub struct PackFiles {
    pub dir: PackDir,
    pub files: Vec<String>,
    pub manifest: Result<Object, String>,
    pub overrides: Result<Overrides, ContentError>,
    pub config_schema: Option<Metadata>,
    pub config: Option<Metadata>,
    pub triggers: Vec<Metadata>,
    pub sensors: Vec<Metadata>,
    pub actions: Vec<Metadata>,
    pub rules: Vec<Metadata>,
    pub aliases: Vec<Metadata>,
    pub policies: Vec<Metadata>,
}

/// Reads everything; a file that can't be read is an error of its own.
pub async fn read(dir: PackDir, base_path: PathBuf) -> Result<PackFiles, ContentError> {
    let reading = tokio::task::spawn_blocking(move || read_blocking(dir, &base_path));
    reading.await.map_err(|error| ContentError::Invalid(format!("reading a pack failed: {error}")))
}

fn read_blocking(dir: PackDir, base_path: &Path) -> PackFiles {
    let metadata = |kind: &str| -> Vec<Metadata> {
        dir.metadata_files(kind).iter().map(|path| (dir.relative(path), inside(&dir, path))).collect()
    };
    let manifest = dir.path.join("pack.yaml");
    let manifest = if manifest.is_file() {
        read_object(&manifest).map_err(|error| match error.as_str() {
            "the file is empty" => format!("Pack \"{}\" metadata file is empty", dir.name),
            _ => error,
        })
    } else {
        Err(format!("Pack \"{}\" is missing pack.yaml file", dir.name))
    };
    let optional = |path: PathBuf, shown: String| path.is_file().then(|| (shown, read_object(&path)));
    let config = crate::pack_dir::config_file(base_path, &dir.name);
    PackFiles {
        files: dir.files(),
        manifest,
        overrides: Overrides::read(base_path, &dir.name),
        config_schema: optional(dir.path.join("config.schema.yaml"), "config.schema.yaml".to_owned()),
        config: optional(config, format!("configs/{}.yaml", dir.name)),
        triggers: metadata("triggers"),
        sensors: metadata("sensors"),
        actions: metadata("actions"),
        rules: metadata("rules"),
        aliases: metadata("aliases"),
        policies: metadata("policies"),
        dir,
    }
}

/// A link that leaves the pack is refused: packs are other people's.
fn inside(dir: &PackDir, path: &Path) -> Result<Object, String> {
    let (root, real) = (dir.path.canonicalize(), path.canonicalize());
    match (root, real) {
        (Ok(root), Ok(real)) if real.starts_with(&root) => read_object(path),
        (Ok(_), Ok(_)) => Err("the file is a link that leaves the pack".to_owned()),
        (_, Err(error)) | (Err(error), _) => Err(error.to_string()),
    }
}
