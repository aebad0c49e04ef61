//! The group that packs belong to (`content.pack_group`; spec/packs.md §6.2): its members may edit what is installed.
//! Blocking.

use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use nix::unistd::Group;

/// For files: readable and writable, and what the owner may execute may be executed.
const SHARED: u32 = 0o060;
/// For directories besides: what is made in them belongs to the group, too.
const SHARED_DIRECTORY: u32 = 0o2070;

/// Gives a directory and everything in it to the group. What can't be given is logged: the pack serves all the same.
pub fn give(directory: &Path, group: Option<&str>) {
    let Some(name) = group else { return };
    match Group::from_name(name) {
        Ok(Some(group)) => {
            if let Err(error) = walk(directory, group.gid.as_raw()) {
                tracing::warn!(directory = %directory.display(), group = name, %error, "a pack can't be given to its group");
            }
        }
        Ok(None) => tracing::warn!(group = name, "packs are not shared: there is no such group here"),
        Err(error) => tracing::warn!(group = name, %error, "packs are not shared: the group can't be looked up"),
    }
}

fn walk(path: &Path, gid: u32) -> std::io::Result<()> {
    let meta = path.symlink_metadata()?;
    lchown(path, None, Some(gid))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let executable = (meta.mode() & 0o100) >> 3;
    let shared = if meta.is_dir() { SHARED_DIRECTORY } else { SHARED | executable };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(meta.mode() | shared))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            walk(&entry?.path(), gid)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_the_groups_and_writable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pack");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("run.sh"), "").unwrap();
        std::fs::set_permissions(path.join("run.sh"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap();
        let own = Group::from_gid(nix::unistd::getgid()).unwrap().unwrap();
        let before = std::fs::metadata("/etc/passwd").unwrap();
        give(&path, Some(&own.name));
        let mode = |file: &str| std::fs::metadata(path.join(file)).unwrap().mode() & 0o7777;
        assert_eq!(mode("run.sh"), 0o770);
        assert_eq!(mode("") & SHARED_DIRECTORY, SHARED_DIRECTORY);
        let after = std::fs::metadata("/etc/passwd").unwrap();
        assert_eq!((before.mode(), before.gid()), (after.mode(), after.gid()), "links are not followed");
        give(&path, Some("no-such-group-here"));
        give(&path, None);
    }
}
