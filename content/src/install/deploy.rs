//! Which content of a pack is in force: the store says so, each node's disk follows.
//!
//! A pack's content lies in `packs/.content/<pack>/<hash>`, and `packs/<pack>` is a link to the one in force: switching
//! is one rename. What runs keeps the directory that it began in; directories out of force are removed a day later.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use domain::Services;
use model::{Id, PackContent};
use store::{Query, StoreExt};

use super::error::{InstallError, blocking};
use super::{bundle, group, packs_root, tree};
use crate::upsert::upsert;

/// Where revisions lie, below the directory of packs.
const REVISIONS: &str = ".content";

/// How long a revision out of force stays for what still runs in it.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// What the store wants of a pack, if it was installed by us.
pub async fn wanted(services: &Services, pack: &str) -> Result<Option<PackContent>, InstallError> {
    let found = services.store.first::<PackContent>(&Query::eq("pack", pack)).await?;
    Ok(found.map(|found| found.doc))
}

/// Puts a bundle into the store, and its word on it: from then on every node follows.
pub async fn publish(services: &Services, pack: &str, bytes: Vec<u8>, source: &str) -> Result<Id, InstallError> {
    let content = Id::of_content(&bytes);
    let size = bytes.len() as u64;
    services.store.put_blob(content, bytes).await?;
    let now = services.now();
    let word = PackContent {
        id: Id::fresh(now),
        pack: pack.to_owned(),
        content,
        size,
        source: source.to_owned(),
        installed_at: now,
    };
    upsert(services, &Query::eq("pack", pack), word).await?;
    Ok(content)
}

/// What was in force before a change that stays: nodes that are behind take the new content, nobody asks for the old.
pub async fn forget(services: &Services, pack: &str, old: Option<PackContent>) {
    drop(tokio::fs::remove_dir_all(aside(&packs_root(&services.settings), pack)).await);
    let now = wanted(services, pack).await;
    if let (Some(old), Ok(now)) = (old, now)
        && now.is_none_or(|now| now.content != old.content)
    {
        drop_blob(services, old.content).await;
    }
}

/// The store's word is again what it was.
pub async fn restore(services: &Services, old: &PackContent) -> Result<(), InstallError> {
    upsert(services, &Query::eq("pack", old.pack.as_str()), old.clone()).await?;
    Ok(())
}

/// The store forgets a pack's content: every node's link goes.
pub async fn withdraw(services: &Services, pack: &str) -> Result<(), InstallError> {
    let Some(word) = wanted(services, pack).await? else { return Ok(()) };
    services.store.remove::<PackContent>(word.id).await?;
    services.bus.announce(std::sync::Arc::new(bus::Event::Content {
        change: bus::Change::Delete,
        collection: <PackContent as model::Resource>::COLLECTION.name.to_owned(),
        id: word.id,
        reference: pack.to_owned(),
    }));
    drop_blob(services, word.content).await;
    super::reports::forget(services, pack).await
}

/// Two packs may hold the same bytes.
async fn drop_blob(services: &Services, content: Id) {
    let others = services.store.search::<PackContent>(&Query::all()).await;
    if others.is_ok_and(|others| others.iter().all(|other| other.content != content))
        && let Err(error) = services.store.delete_blob(content).await
    {
        tracing::warn!(%content, %error, "old content of a pack stays in the store");
    }
}

/// Switching is one at a time on a node: who holds this knows that the store's word is what he last read.
pub(super) async fn turn() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// Whether what this node has in force is what the store wants.
pub async fn is_in_force(services: &Services, word: &PackContent) -> Result<bool, InstallError> {
    let (root, pack, content) = (packs_root(&services.settings), word.pack.clone(), word.content);
    blocking(move || Ok(current(&root, &pack) == Some(content))).await
}

/// Unpacks what the store wants of the pack, unless it is on this disk; where it lies. Nothing uses it yet.
pub async fn fetch(services: &Services, word: &PackContent) -> Result<PathBuf, InstallError> {
    let root = packs_root(&services.settings);
    let directory = revision(&root, &word.pack, word.content);
    if tokio::fs::try_exists(&directory).await.unwrap_or(false) {
        return Ok(directory);
    }
    let bytes = services.store.get_blob(word.content).await?;
    let bytes = bytes.ok_or_else(|| InstallError::refused(format!("the content of pack \"{}\" is gone", word.pack)))?;
    let (pack, content) = (word.pack.clone(), word.content);
    let group = services.settings.pack_group.clone();
    blocking(move || unpack(&root, &pack, content, &bytes, group.as_deref())).await?;
    Ok(directory)
}

/// Puts files back that somebody has edited in place, if this content is on this disk: who installs a pack once more
/// wants it as it is published.
pub async fn mend(services: &Services, pack: &str, bytes: &std::sync::Arc<Vec<u8>>) -> Result<(), InstallError> {
    let (root, pack, bytes) = (packs_root(&services.settings), pack.to_owned(), bytes.clone());
    let group = services.settings.pack_group.clone();
    blocking(move || {
        let target = revision(&root, &pack, Id::of_content(&bytes));
        if !target.is_dir() || bundle::is_written(&bytes, &target) {
            return Ok(());
        }
        let draft = draft(&root, &pack, &bytes, group.as_deref())?;
        // Whatever runs in the old directory finds each file in one of the two.
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &draft, nix::fcntl::AT_FDCWD, &target, flags)
            .map_err(std::io::Error::from)
            .map_err(InstallError::disk("can't put the pack's files back"))?;
        used(&draft);
        Ok(())
    })
    .await
}

/// What begins from now on runs in this revision, which [`fetch`] has brought.
pub async fn put_in_force(services: &Services, word: &PackContent) -> Result<(), InstallError> {
    let root = packs_root(&services.settings);
    let (pack, content) = (word.pack.clone(), word.content);
    blocking(move || {
        switch(&root, &pack, content)?;
        prune(&root, &pack, content);
        Ok(())
    })
    .await
}

/// Removes a pack's link, or its directory if somebody put one there by hand.
pub async fn remove(services: &Services, pack: &str) -> Result<(), InstallError> {
    let path = packs_root(&services.settings).join(pack);
    let shown = path.display().to_string();
    let removing = move || match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&path),
        Ok(_) => std::fs::remove_file(&path),
        Err(_) => Ok(()),
    };
    blocking(move || removing().map_err(InstallError::disk(format!("can't remove {shown}")))).await
}

fn revision(root: &Path, pack: &str, content: Id) -> PathBuf {
    root.join(REVISIONS).join(pack).join(content.to_string())
}

/// The content in force on this disk, if the pack is a link of ours.
pub fn current(root: &Path, pack: &str) -> Option<Id> {
    let link = root.join(pack);
    let target = std::fs::read_link(&link).ok()?;
    target.strip_prefix(Path::new(REVISIONS).join(pack)).ok()?.to_str()?.parse().ok().filter(|_| link.is_dir())
}

/// Packs of this disk that are links of ours.
pub fn linked(root: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            std::fs::read_link(root.join(name)).is_ok_and(|target| target.starts_with(Path::new(REVISIONS).join(name)))
        })
        .collect()
}

/// The revision's directory appears complete or not at all.
fn unpack(root: &Path, pack: &str, content: Id, bytes: &[u8], group: Option<&str>) -> Result<(), InstallError> {
    let target = revision(root, pack, content);
    let draft = draft(root, pack, bytes, group)?;
    let renamed = match std::fs::rename(&draft, &target) {
        // Somebody else was as fast: it is the same.
        Err(_) if target.is_dir() => Ok(()),
        renamed => renamed.map_err(InstallError::disk("can't unpack the pack")),
    };
    drop(std::fs::remove_dir_all(&draft));
    renamed
}

/// The files of a bundle, in a directory beside the revisions that is left alone until it is renamed or a day old.
fn draft(root: &Path, pack: &str, bytes: &[u8], group: Option<&str>) -> Result<PathBuf, InstallError> {
    let draft = root.join(REVISIONS).join(pack).join(format!(".draft-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&draft).map_err(InstallError::disk("can't unpack the pack"))?;
    if let Err(error) = bundle::read(bytes, &draft, tree::Limits::default()) {
        drop(std::fs::remove_dir_all(&draft));
        return Err(error);
    }
    group::give(&draft, group);
    Ok(draft)
}

fn switch(root: &Path, pack: &str, content: Id) -> Result<(), InstallError> {
    let failed = || InstallError::disk(format!("can't switch pack {pack}"));
    let link = root.join(pack);
    // Out of force from now on, not from when it was unpacked.
    if let Some(old) = current(root, pack) {
        used(&revision(root, pack, old));
    }
    let draft = root.join(format!(".link-{}", uuid::Uuid::new_v4().simple()));
    std::os::unix::fs::symlink(Path::new(REVISIONS).join(pack).join(content.to_string()), &draft).map_err(failed())?;
    // A directory that was put there by hand gives way.
    if link.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        let aside = aside(root, pack);
        drop(std::fs::remove_dir_all(&aside));
        std::fs::rename(&link, &aside).map_err(failed())?;
    }
    std::fs::rename(&draft, &link).map_err(failed())
}

/// Where a directory that was put there by hand waits until its successor stays.
fn aside(root: &Path, pack: &str) -> PathBuf {
    root.join(REVISIONS).join(format!(".replaced-{pack}"))
}

/// A directory that was put there by hand comes back in place of what replaced it; whether there was one.
pub async fn put_back(services: &Services, pack: &str) -> Result<bool, InstallError> {
    let (root, pack) = (packs_root(&services.settings), pack.to_owned());
    let aside = aside(&root, &pack);
    if !tokio::fs::try_exists(&aside).await.unwrap_or(false) {
        return Ok(false);
    }
    remove(services, &pack).await?;
    let failed = InstallError::disk(format!("can't put pack {pack} back"));
    tokio::fs::rename(&aside, root.join(&pack)).await.map_err(failed)?;
    Ok(true)
}

/// Where the files of one commit of a pack lie, which isn't in force.
pub(super) fn worktree(settings: &domain::Settings, pack: &str, commit: &str) -> PathBuf {
    packs_root(settings).join(REVISIONS).join(pack).join(format!("at-{commit}"))
}

/// Somebody uses this revision, which isn't in force.
pub(super) fn used(directory: &Path) {
    if let Ok(directory) = std::fs::File::open(directory) {
        drop(directory.set_modified(SystemTime::now()));
    }
}

/// Removes what has been out of force for long.
fn prune(root: &Path, pack: &str, keep: Id) {
    let Ok(entries) = std::fs::read_dir(root.join(REVISIONS).join(pack)) else { return };
    for entry in entries.flatten() {
        let old = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > KEEP));
        if old && entry.file_name().to_str() != Some(&keep.to_string()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> (Id, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pack.yaml"), text).unwrap();
        let bytes = bundle::write(dir.path(), tree::Limits::default()).unwrap();
        (Id::of_content(&bytes), bytes)
    }

    #[test]
    fn switching_is_atomic_and_keeps_what_runs() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        // By hand, as before.
        std::fs::create_dir(path.join("p")).unwrap();
        let (one, two) = (bytes("1"), bytes("2"));
        for (content, bytes) in [&one, &two] {
            unpack(path, "p", *content, bytes, None).unwrap();
            unpack(path, "p", *content, bytes, None).unwrap();
        }
        assert_eq!(current(path, "p"), None);
        switch(path, "p", one.0).unwrap();
        let running = path.join("p").canonicalize().unwrap();
        switch(path, "p", two.0).unwrap();
        prune(path, "p", two.0);
        assert_eq!(std::fs::read_to_string(running.join("pack.yaml")).unwrap(), "1");
        assert_eq!(std::fs::read_to_string(path.join("p/pack.yaml")).unwrap(), "2");
        assert_eq!((current(path, "p"), linked(path)), (Some(two.0), vec!["p".to_owned()]));
        let names = std::fs::read_dir(path).unwrap().count();
        assert_eq!(names, 2, "the link and the revisions");
    }
}
