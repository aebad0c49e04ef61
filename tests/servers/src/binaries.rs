//! Where the servers' programs are.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The first that exists: what the variable names, `name` on the PATH, the other places.
pub fn find(variable: &str, name: &str, places: &[PathBuf]) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(variable) {
        return Ok(PathBuf::from(given));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    match on_path.chain(places.iter().cloned()).find(|file| file.is_file()) {
        Some(found) => Ok(found),
        None => bail!("{name} isn't installed; `scripts/deps.sh test` installs it, or set {variable}"),
    }
}

/// What `scripts/deps.sh` fetches for this user.
pub fn cache() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/squall")
}

/// `<base>/<highest version>/bin`, as Debian lays out PostgreSQL.
pub fn versioned(base: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    versions.reverse();
    versions
}
