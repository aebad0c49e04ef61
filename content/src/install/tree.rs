//! Whether a directory that somebody else filled can be a pack. Blocking.
//!
//! Nothing here follows links. What a pack may hold: directories, regular files, and links that stay inside of it.

use std::fs::FileType;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::error::InstallError;

/// What one pack may be, git's files included.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries: usize,
    pub bytes: u64,
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 256 * 1024 * 1024, depth: 40 }
    }
}

/// One thing in a pack, by its path relative to the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub kind: EntryKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File { executable: bool, size: u64 },
    Link(String),
}

/// Everything in it, sorted by path; an error names what is wrong.
pub fn entries(root: &Path, limits: Limits) -> Result<Vec<Entry>, InstallError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((dir, depth)) = open.pop() {
        let unreadable = || InstallError::disk(format!("can't read {}", relative(root, &dir)));
        for item in std::fs::read_dir(&dir).map_err(unreadable())? {
            let item = item.map_err(unreadable())?;
            let path = item.path();
            let shown = relative(root, &path);
            let kind = item.file_type().map_err(unreadable())?;
            if depth + 1 > limits.depth {
                return refused(format!("\"{shown}\" is nested deeper than {} levels", limits.depth));
            }
            if path.to_str().is_none() || shown.contains(['\n', '\0']) {
                return refused(format!("the name \"{}\" is not plain text", shown.escape_debug()));
            }
            let kind = classify(root, &path, kind)?;
            match &kind {
                EntryKind::Directory => open.push((path.clone(), depth + 1)),
                EntryKind::File { size, .. } => bytes += size,
                EntryKind::Link(_) => {}
            }
            found.push(Entry { path: shown, kind });
            if found.len() > limits.entries {
                return refused(format!("it has more than {} files", limits.entries));
            }
            if bytes > limits.bytes {
                return refused(format!("it has more than {} bytes", limits.bytes));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn refused<T>(reason: String) -> Result<T, InstallError> {
    Err(InstallError::refused(format!("the pack is refused: {reason}")))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

fn classify(root: &Path, path: &Path, kind: FileType) -> Result<EntryKind, InstallError> {
    let shown = relative(root, path);
    let unreadable = InstallError::disk(format!("can't read {shown}"));
    if kind.is_dir() {
        return Ok(EntryKind::Directory);
    }
    if kind.is_file() {
        let meta = path.symlink_metadata().map_err(unreadable)?;
        return Ok(EntryKind::File { executable: meta.permissions().mode() & 0o111 != 0, size: meta.len() });
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(path).map_err(unreadable)?;
        let target = target.to_string_lossy().into_owned();
        if stays_inside(Path::new(&shown), Path::new(&target)) {
            return Ok(EntryKind::Link(target));
        }
        return refused(format!("\"{shown}\" is a link that leaves the pack (to \"{target}\")"));
    }
    refused(format!("\"{shown}\" is neither a file nor a directory nor a link"))
}

/// Whether a link at `path` (relative to the pack) leads to a place in the pack.
///
/// Steps upwards count only at its start, where the directories are real ones: after another link they could lead
/// anywhere.
pub fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    let mut went_down = false;
    for step in target.components() {
        match step {
            Component::Normal(_) => went_down = true,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 && !went_down => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// A relative path of normal steps only.
pub fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\0')
        && Path::new(path).components().all(|step| matches!(step, Component::Normal(_)))
        && Path::new(path).components().collect::<PathBuf>().as_os_str() == path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sound_trees_pass() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("actions")).unwrap();
        std::fs::write(dir.path().join("actions/a.py"), "x").unwrap();
        symlink("a.py", dir.path().join("actions/b.py")).unwrap();
        symlink("../actions/a.py", dir.path().join("actions/c.py")).unwrap();
        let found = entries(dir.path(), Limits::default()).unwrap();
        assert_eq!(
            found.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(),
            ["actions", "actions/a.py", "actions/b.py", "actions/c.py"]
        );
    }

    #[test]
    fn links_that_leave_are_refused() {
        for target in ["/etc/passwd", "../outside", "../../etc/passwd", "sub/../../x", "sub/..", ".."] {
            let dir = tempfile::tempdir().unwrap();
            symlink(target, dir.path().join("link")).unwrap();
            let error = entries(dir.path(), Limits::default()).unwrap_err().to_string();
            assert!(error.contains("leaves the pack"), "{target}: {error}");
        }
    }

    #[test]
    fn bombs_and_devices_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..5 {
            std::fs::write(dir.path().join(format!("f{number}")), "12345").unwrap();
        }
        let limits = Limits { entries: 4, bytes: 1000, depth: 3 };
        assert!(entries(dir.path(), limits).unwrap_err().to_string().contains("more than 4 files"));
        let limits = Limits { entries: 40, bytes: 24, depth: 3 };
        assert!(entries(dir.path(), limits).unwrap_err().to_string().contains("more than 24 bytes"));
        std::fs::create_dir_all(dir.path().join("a/b/c/d")).unwrap();
        let limits = Limits { entries: 40, bytes: 1000, depth: 3 };
        assert!(entries(dir.path(), limits).unwrap_err().to_string().contains("nested deeper"));
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(entries(dir.path(), Limits::default()).unwrap_err().to_string().contains("neither a file"));
    }

    #[test]
    fn plain_paths() {
        for path in ["a", "a/b.py", ".git/HEAD"] {
            assert!(is_plain(path), "{path}");
        }
        for path in ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\0"] {
            assert!(!is_plain(path), "{path:?}");
        }
    }
}
