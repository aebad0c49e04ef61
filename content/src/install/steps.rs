//! What the way of a pack consists of, before anything is in force: staged, read, checked.

use std::path::{Path, PathBuf};

use model::{Object, Pack};
use store::{Query, StoreExt};

use super::error::{InstallError, blocking};
use super::fetch::fetch;
use super::index::Indexes;
use super::source::{Place, Source};
use super::{SYSTEM_PACKS, Workshop, bundle, index, packs_root, tree};
use crate::pack_dir::{PackDir, is_pack_ref, read_object};
use crate::register;

/// The version of StackStorm that Squall is compatible with; what packs compare their `stackstorm_version` with.
pub const STACKSTORM_VERSION: semver::Version = semver::Version::new(3, 9, 0);

/// A directory of drafts that is removed with this value.
#[derive(Debug)]
pub struct Staging(PathBuf);

impl Staging {
    /// Beside the packs, so that moving costs nothing.
    pub async fn make(workshop: &Workshop) -> Result<Self, InstallError> {
        let name = format!(".staging-{}", uuid::Uuid::new_v4().simple());
        let path = packs_root(&workshop.services.settings).join(name);
        tokio::fs::create_dir_all(&path)
            .await
            .map_err(InstallError::disk("can't make a directory for the download"))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        // Large directories take a while.
        std::thread::spawn(move || std::fs::remove_dir_all(path));
    }
}

/// A pack that was fetched and found sound, in force nowhere yet.
#[derive(Debug)]
pub struct Staged {
    pub pack: Pack,
    pub source: String,
    pub directory: PathBuf,
    pub bundle: Vec<u8>,
}

/// Fetches and checks one pack. `indexes` are read when the first name asks for them.
pub async fn stage(
    workshop: &Workshop,
    staging: &Staging,
    indexes: &mut Option<Indexes>,
    source: &Source,
    force: bool,
) -> Result<Staged, InstallError> {
    let (source, version) = located(workshop, indexes, source).await?;
    let shown = source.shown();
    let draft = staging.path().join(uuid::Uuid::new_v4().simple().to_string());
    fetch(workshop, &source, version.as_deref(), &draft).await?;
    let (reference, manifest) = {
        let draft = draft.clone();
        blocking(move || manifest(&draft)).await?
    };
    if SYSTEM_PACKS.contains(&reference.as_str()) {
        return Err(InstallError::refused(format!("\"{reference}\" is a system pack and comes with Squall")));
    }
    // Checks want the directory's name to be the pack's.
    let directory = staging.path().join(format!("as-{}", uuid::Uuid::new_v4().simple())).join(&reference);
    let failed = || InstallError::disk("can't move the download");
    tokio::fs::create_dir_all(directory.parent().unwrap_or(staging.path())).await.map_err(failed())?;
    tokio::fs::rename(&draft, &directory).await.map_err(failed())?;
    let bundle = {
        let directory = directory.clone();
        blocking(move || bundle::write(&directory, tree::Limits::default())).await?
    };
    let dir = PackDir { name: reference, path: directory.clone() };
    let pack = register::check(&workshop.services, dir).await?;
    if !force {
        fits(&pack, &manifest)?;
    }
    Ok(Staged { pack, source: shown, directory, bundle })
}

/// Names of the index become addresses.
async fn located(
    workshop: &Workshop,
    indexes: &mut Option<Indexes>,
    source: &Source,
) -> Result<(Source, Option<String>), InstallError> {
    let Place::Index(name) = &source.place else { return Ok((source.clone(), source.version.clone())) };
    let indexes = match indexes {
        Some(indexes) => indexes,
        None => indexes.insert(index::read(&workshop.services.settings.index_urls).await),
    };
    if let Some(text) = indexes.all_failed() {
        return Err(InstallError::refused(text));
    }
    let missing = || InstallError::refused(format!("No record of the \"{name}\" pack in the index."));
    let entry = indexes.pack(name).ok_or_else(missing)?;
    let text = |field: &str| entry.get(field).and_then(serde_json::Value::as_str).map(str::to_owned);
    let address = Source::parse(&text("repo_url").ok_or_else(missing)?);
    let version = source.version.clone().or_else(|| text("version"));
    Ok((address, version))
}

/// The pack's ref and manifest.
fn manifest(directory: &Path) -> Result<(String, Object), InstallError> {
    // A link to elsewhere must not be read before the tree was looked at.
    tree::entries(directory, tree::Limits::default())?;
    let path = directory.join("pack.yaml");
    if !path.is_file() {
        return Err(InstallError::refused("Pack is missing the manifest file \"pack.yaml\""));
    }
    let manifest = read_object(&path).map_err(|error| InstallError::refused(format!("pack.yaml: {error}")))?;
    let text = |field: &str| manifest.get(field).and_then(serde_json::Value::as_str).map(str::to_owned);
    let reference = match (text("ref"), text("name")) {
        (Some(reference), _) => reference,
        (None, Some(name)) => name,
        (None, None) => return Err(InstallError::refused("pack.yaml has neither \"ref\" nor \"name\"")),
    };
    if !is_pack_ref(&reference) || reference == "_global" {
        return Err(InstallError::refused(format!(
            "\"{reference}\" can't be a pack's ref: pack.yaml needs a \"ref\" of lower-case letters, digits and \
             underscores"
        )));
    }
    Ok((reference, manifest))
}

/// Whether the pack says that it runs here.
fn fits(pack: &Pack, manifest: &Object) -> Result<(), InstallError> {
    if let Some(wanted) = manifest.get("stackstorm_version").and_then(serde_json::Value::as_str)
        && !satisfies(&STACKSTORM_VERSION, wanted)
    {
        return Err(InstallError::refused(format!(
            "Pack \"{}\" requires StackStorm \"{wanted}\", but current version is \"{STACKSTORM_VERSION}\". You can \
             override this restriction by providing \"force\" flag, but the pack is not guaranteed to work.",
            pack.reference
        )));
    }
    if pack.python_versions.as_deref().is_some_and(|versions| versions == ["2"]) {
        return Err(InstallError::refused(format!(
            "Pack \"{}\" requires Python 2.x, but current Python version is 3. You can override this restriction by \
             providing \"force\" flag, but the pack is not guaranteed to work.",
            pack.reference
        )));
    }
    Ok(())
}

/// `>=3.0.0, <4.0.0`: each part must hold.
fn satisfies(version: &semver::Version, wanted: &str) -> bool {
    wanted.split(',').map(str::trim).filter(|part| !part.is_empty()).all(|part| {
        let operator_ends = part.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let (operator, number) = part.split_at(operator_ends);
        let Ok(number) = semver::Version::parse(number.trim()) else { return false };
        match operator.trim() {
            ">" | ">>" => *version > number,
            ">=" => *version >= number,
            "<" | "<<" => *version < number,
            "<=" => *version <= number,
            "=" | "==" | "" => *version == number,
            _ => false,
        }
    })
}

/// What a pack's dependencies ask for beyond what is there.
#[derive(Debug, Default)]
pub struct Missing {
    pub sources: Vec<String>,
    pub conflicts: Vec<String>,
}

/// Compares dependencies with packs that are installed or about to be.
pub async fn missing(workshop: &Workshop, staged: &[Staged], wanted: &[String]) -> Result<Missing, InstallError> {
    let mut answer = Missing::default();
    for text in wanted {
        let source = Source::parse(text);
        let names = source.likely_names();
        let mut version =
            staged.iter().find(|one| names.contains(&one.pack.reference)).map(|one| one.pack.version.clone());
        if version.is_none() {
            for name in &names {
                let known = workshop.services.store.first::<Pack>(&Query::eq("ref", name.as_str())).await?;
                version = version.or_else(|| known.map(|pack| pack.doc.version));
            }
        }
        let pinned = source.version.as_deref().map(|pinned| pinned.strip_prefix('v').unwrap_or(pinned));
        match (version, pinned) {
            (None, _) if !answer.sources.contains(text) => answer.sources.push(text.clone()),
            (Some(version), Some(pinned)) if version != pinned => {
                answer.conflicts.push(format!("{text}: version {version} is installed"));
            }
            _ => {}
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_stackstorm() {
        let current = semver::Version::new(3, 9, 0);
        for (wanted, fits) in [
            (">=3.0.0", true),
            (">=3.0.0, <4.0.0", true),
            ("<3.0.0", false),
            (">3.9.0", false),
            ("=3.9.0", true),
            ("nonsense", false),
        ] {
            assert_eq!(satisfies(&current, wanted), fits, "{wanted}");
        }
    }
}
