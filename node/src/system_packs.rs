//! The system packs inside the binary, unpacked to the data directory once for each version of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use model::Id;

include!(concat!(env!("OUT_DIR"), "/system_packs.rs"));

/// Unpacks the system packs below `data_dir` unless this version is there; returns their directory.
///
/// The directory appears under its final name only when it is complete. Blocking.
pub fn unpack(data_dir: &Path) -> std::io::Result<PathBuf> {
    let mut content = Vec::new();
    for (path, executable, bytes) in FILES {
        content.extend(path.as_bytes());
        content.push(u8::from(*executable));
        content.extend(bytes.len().to_be_bytes());
        content.extend(*bytes);
    }
    let parent = data_dir.join("system-packs");
    let target = parent.join(Id::of_content(&content).to_string());
    if target.is_dir() {
        return Ok(target);
    }
    let partial = parent.join(format!(".partial-{}", std::process::id()));
    if partial.is_dir() {
        std::fs::remove_dir_all(&partial)?;
    }
    for (path, executable, bytes) in FILES {
        let file = partial.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, bytes)?;
        if *executable {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    std::fs::create_dir_all(&partial)?;
    std::fs::rename(&partial, &target)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_twice_is_unpacking_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = unpack(dir.path()).unwrap();
        assert_eq!(unpack(dir.path()).unwrap(), first);
        for (path, ..) in FILES {
            assert!(first.join(path).is_file(), "{path}");
        }
    }
}
