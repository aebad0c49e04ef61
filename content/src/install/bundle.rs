//! A pack's files as one sequence of bytes, for the store. The same files give the same bytes. Blocking.
//!
//! `SQPACK1\n`, then for each entry in order of path: a kind (`d`, `f`, `x` for executable files, `l`), the path's and
//! the content's length (4 and 8 bytes, little-endian), the path, the content (of a link: where it leads).

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use super::error::InstallError;
use super::tree::{self, EntryKind, Limits};

const MAGIC: &[u8] = b"SQPACK1\n";

/// Bundles a directory that [`tree::entries`] finds sound.
pub fn write(root: &Path, limits: Limits) -> Result<Vec<u8>, InstallError> {
    let mut out = MAGIC.to_vec();
    for entry in tree::entries(root, limits)? {
        let (kind, content) = match entry.kind {
            EntryKind::Directory => (b'd', Vec::new()),
            EntryKind::Link(target) => (b'l', target.into_bytes()),
            EntryKind::File { executable, .. } => {
                let failed = InstallError::disk(format!("can't read {}", entry.path));
                let content = std::fs::read(root.join(&entry.path)).map_err(failed)?;
                (if executable { b'x' } else { b'f' }, content)
            }
        };
        out.push(kind);
        // Paths are shorter than 4 GiB: the system bounds them.
        out.extend(u32::try_from(entry.path.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend((content.len() as u64).to_le_bytes());
        out.extend(entry.path.as_bytes());
        out.extend(content);
        if out.len() as u64 > limits.bytes.saturating_mul(2) {
            return Err(InstallError::refused("the pack grew while it was read"));
        }
    }
    Ok(out)
}

/// One entry of a bundle.
struct Part<'a> {
    kind: u8,
    path: &'a str,
    content: &'a [u8],
}

/// Unpacks into `root`, a directory that is there and empty. Bundles are checked as if strangers had written them.
pub fn read(bytes: &[u8], root: &Path, limits: Limits) -> Result<(), InstallError> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| InstallError::refused("this is no bundle of a pack"))?;
    let mut links = Vec::new();
    let mut last = "";
    let mut count = 0;
    while !rest.is_empty() {
        let (part, after) = part(rest).ok_or_else(|| InstallError::refused("the bundle of the pack is damaged"))?;
        rest = after;
        count += 1;
        let depth = part.path.split('/').count();
        if !tree::is_plain(part.path) || part.path <= last || count > limits.entries || depth > limits.depth {
            return Err(InstallError::refused(format!("the bundle's entry {:?} is refused", part.path)));
        }
        last = part.path;
        let target = root.join(part.path);
        let failed = || InstallError::disk(format!("can't write {}", part.path));
        match part.kind {
            b'd' => std::fs::create_dir(&target).map_err(failed())?,
            b'f' => file(&target, part.content, 0o664).map_err(failed())?,
            b'x' => file(&target, part.content, 0o775).map_err(failed())?,
            b'l' => links.push(part),
            _ => return Err(InstallError::refused(format!("the bundle's entry {:?} is of no kind", part.path))),
        }
    }
    // Last, so that nothing is ever written through a link.
    for part in links {
        let target = std::str::from_utf8(part.content).unwrap_or("/");
        if !tree::stays_inside(Path::new(part.path), Path::new(target)) {
            return Err(InstallError::refused(format!("the bundle's link {:?} leaves the pack", part.path)));
        }
        symlink(target, root.join(part.path)).map_err(InstallError::disk(format!("can't write {}", part.path)))?;
    }
    Ok(())
}

/// Whether a directory that this bundle was unpacked into still has all of it; more doesn't count.
pub fn is_written(bytes: &[u8], root: &Path) -> bool {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return false };
    while !rest.is_empty() {
        let Some((part, after)) = part(rest) else { return false };
        rest = after;
        let path = root.join(part.path);
        let is_same = match (part.kind, path.symlink_metadata()) {
            (b'd', Ok(meta)) => meta.is_dir(),
            (b'l', Ok(_)) => std::fs::read_link(&path).is_ok_and(|to| to.as_os_str().as_bytes() == part.content),
            (kind, Ok(meta)) => {
                let is_executable = meta.mode() & 0o100 != 0;
                meta.is_file()
                    && meta.len() == part.content.len() as u64
                    && is_executable == (kind == b'x')
                    && std::fs::read(&path).is_ok_and(|content| content == part.content)
            }
            (_, Err(_)) => false,
        };
        if !is_same {
            return false;
        }
    }
    true
}

/// Fails where something is there already: entries come once.
fn file(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)
}

fn part(bytes: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (path_len, rest) = rest.split_first_chunk::<4>()?;
    let (content_len, rest) = rest.split_first_chunk::<8>()?;
    let path_len = usize::try_from(u32::from_le_bytes(*path_len)).ok()?;
    let content_len = usize::try_from(u64::from_le_bytes(*content_len)).ok()?;
    let (path, rest) = rest.split_at_checked(path_len)?;
    let (content, rest) = rest.split_at_checked(content_len)?;
    Some((Part { kind: *kind, path: std::str::from_utf8(path).ok()?, content }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(entries: &[(u8, &str, &[u8])]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (kind, path, content) in entries {
            out.push(*kind);
            out.extend(u32::try_from(path.len()).unwrap().to_le_bytes());
            out.extend((content.len() as u64).to_le_bytes());
            out.extend(path.as_bytes());
            out.extend(*content);
        }
        out
    }

    #[test]
    fn there_and_back() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("actions/lib")).unwrap();
        std::fs::write(from.path().join("pack.yaml"), "name: x").unwrap();
        file(&from.path().join("actions/run.sh"), b"#!/bin/sh", 0o755).unwrap();
        symlink("run.sh", from.path().join("actions/again.sh")).unwrap();
        let bytes = write(from.path(), Limits::default()).unwrap();
        read(&bytes, to.path(), Limits::default()).unwrap();
        assert_eq!(write(to.path(), Limits::default()).unwrap(), bytes);
    }

    #[test]
    fn hostile_bundles_are_refused_and_write_nothing_outside() {
        let outer = tempfile::tempdir().unwrap();
        let cases: [&[(u8, &str, &[u8])]; 8] = [
            &[(b'f', "../evil", b"x")],
            &[(b'f', "/tmp/squall-evil", b"x")],
            &[(b'f', "a/../../evil", b"x")],
            &[(b'l', "link", b"..")],
            &[(b'l', "link", b"/etc/passwd")],
            // A link, and a file through it.
            &[(b'l', "l", b"."), (b'f', "l/evil", b"x")],
            &[(b'f', "b", b""), (b'f', "a", b"")],
            &[(b'?', "a", b"")],
        ];
        for (number, case) in cases.iter().enumerate() {
            let root = outer.path().join(number.to_string());
            std::fs::create_dir(&root).unwrap();
            assert!(read(&raw(case), &root, Limits::default()).is_err(), "case {number}");
        }
        assert!(!outer.path().join("evil").exists());
        let root = outer.path().join("cut");
        std::fs::create_dir(&root).unwrap();
        let whole = raw(&[(b'f', "a", b"content")]);
        for end in MAGIC.len() + 1..whole.len() {
            assert!(read(&whole[..end], &root, Limits::default()).is_err());
        }
    }
}
