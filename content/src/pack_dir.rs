//! Pack directories and the files in them. Blocking: callers are on a blocking thread.

use std::path::{Path, PathBuf};

use model::{Object, yaml};
use serde_json::Value;

use crate::error::ContentError;

/// Larger metadata files are refused.
const MAX_FILE_SIZE: u64 = 4 * 1024 * 1024;

/// Files that a pack row lists at most.
const MAX_FILES: usize = 20_000;

/// A pack's directory. Its name is the pack's ref for everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackDir {
    pub name: String,
    pub path: PathBuf,
}

/// Whether a name can be that of a pack: it becomes part of paths.
pub fn is_pack_ref(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Where a pack's configuration lies.
pub fn config_file(base_path: &Path, pack: &str) -> PathBuf {
    base_path.join("configs").join(format!("{pack}.yaml"))
}

/// The first directory of that name that is a pack.
pub fn find(pack_dirs: &[PathBuf], name: &str) -> Result<PackDir, ContentError> {
    let missing = || {
        let searched = pack_dirs.last().map(|dir| dir.join(name).display().to_string()).unwrap_or_default();
        ContentError::Invalid(format!("Pack \"{name}\" not found on disk: Directory \"{searched}\" doesn't exist"))
    };
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return Err(missing());
    }
    let found = pack_dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_dir());
    Ok(PackDir { name: name.to_owned(), path: found.ok_or_else(missing)? })
}

/// All packs, by name; of two with one name, the first directory's.
pub fn all(pack_dirs: &[PathBuf]) -> Vec<PackDir> {
    let mut packs: Vec<PackDir> = Vec::new();
    for dir in pack_dirs {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if !name.starts_with('.') && path.is_dir() && !packs.iter().any(|pack| pack.name == name) {
                packs.push(PackDir { name, path });
            }
        }
    }
    packs.sort_by(|a, b| a.name.cmp(&b.name));
    packs
}

impl PackDir {
    /// Metadata files of a kind, sorted by path; files below subdirectories are none.
    pub fn metadata_files(&self, kind: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path.join(kind)) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
                yaml && path.is_file() && path.file_name().is_some_and(|name| name != "config.yaml")
            })
            .collect();
        files.sort();
        files
    }

    /// A file's path as resources state it: relative to the pack.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.path).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// All files but compiled Python and git's, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut open = vec![self.path.clone()];
        while let Some(dir) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                // Links are listed, not followed: they may lead anywhere.
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_dir && name != ".git" && name != "__pycache__" {
                    open.push(path);
                } else if !is_dir && path.extension().is_none_or(|extension| extension != "pyc") {
                    files.push(self.relative(&path));
                }
            }
            if files.len() > MAX_FILES {
                break;
            }
        }
        files.sort();
        files
    }
}

/// Reads a YAML file; the error names what is wrong, not the file.
pub fn read_yaml(path: &Path) -> Result<Value, String> {
    let size = path.metadata().map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_SIZE {
        return Err(format!("the file has {size} bytes, more than the limit of {MAX_FILE_SIZE}"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())?;
    yaml::load(&text).map_err(|error| error.to_string())
}

/// As [`read_yaml`], for files that hold a mapping.
pub fn read_object(path: &Path) -> Result<Object, String> {
    match read_yaml(path)? {
        Value::Object(object) => Ok(object),
        Value::Null => Err("the file is empty".to_owned()),
        other => Err(format!("the file holds {}, not a mapping", kind_of(&other))),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_no_packs() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("packs/sound")).unwrap();
        let dirs = [dir.path().join("packs")];
        assert!(find(&dirs, "sound").is_ok());
        for name in ["..", "../packs/sound", "/etc", ".", "", "nope", "a\0b"] {
            assert!(find(&dirs, name).is_err(), "{name:?}");
        }
    }
}
