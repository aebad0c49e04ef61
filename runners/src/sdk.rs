//! The Python SDK (`sdk/python`), embedded so that one binary suffices, and unpacked at the first start.

use std::io;
use std::path::{Path, PathBuf};

/// Relative path and text of every file.
pub const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));

/// Unpacks the SDK to `<data_dir>/sdk/<hash>` unless it is there, and returns that directory, absolute: actions may
/// change theirs.
///
/// It appears complete under its name or not at all. Directories of other versions are left: another node of this
/// machine may use them.
pub fn unpack(data_dir: &Path) -> io::Result<PathBuf> {
    let parent = std::path::absolute(data_dir)?.join("sdk");
    let target = parent.join(hash());
    if target.try_exists()? {
        return Ok(target);
    }
    let draft = parent.join(format!("new-{}", std::process::id()));
    if draft.try_exists()? {
        std::fs::remove_dir_all(&draft)?;
    }
    for (name, text) in FILES {
        let path = draft.join(name);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, text)?;
    }
    match std::fs::rename(&draft, &target) {
        Ok(()) => Ok(target),
        // Another process was first.
        Err(_) if target.try_exists()? => {
            std::fs::remove_dir_all(&draft)?;
            Ok(target)
        }
        Err(error) => Err(error),
    }
}

fn hash() -> String {
    let mut content = String::new();
    for (name, text) in FILES {
        content.push_str(&format!("{name}\0{}\0{text}", text.len()));
    }
    model::Id::of_content(content.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_unpacked_once_and_complete() {
        let directory = tempfile::tempdir().unwrap();
        let first = unpack(directory.path()).unwrap();
        assert_eq!(unpack(directory.path()).unwrap(), first);
        for (name, text) in FILES {
            assert_eq!(&std::fs::read_to_string(first.join(name)).unwrap(), text, "{name}");
        }
        assert!(first.join("squall_host/__main__.py").is_file());
        assert_eq!(std::fs::read_dir(directory.path().join("sdk")).unwrap().count(), 1);
    }
}
