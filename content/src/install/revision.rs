//! Another revision of a pack than the one in force: for actions that are run with `content_version`
//! (spec/runners.md §13).
//!
//! The files of a commit are written once, beside the pack's contents, and stay as long as somebody uses them; the pack's
//! repository is only read.

use std::path::{Path, PathBuf};

use domain::Services;

use super::error::{InstallError, blocking};
use super::fetch::{check_size, git};
use super::{deploy, tree};

/// The directory that holds the pack as it was at `version`: a commit, tag or branch of the pack's repository.
pub async fn at(services: &Services, pack: &str, directory: &Path, version: &str) -> Result<PathBuf, InstallError> {
    let failed =
        |text: String| InstallError::refused(format!("Failed to create git worktree for pack \"{pack}\": {text}"));
    if !tokio::fs::try_exists(directory.join(".git")).await.unwrap_or(false) {
        let shown = directory.display();
        return Err(failed(format!(
            "Pack directory \"{shown}\" is not a git repository. To utilize this functionality, pack directory needs \
             to be a git repository."
        )));
    }
    let invalid = || {
        failed(format!(
            "Invalid content_version \"{version}\" provided. Make sure that git repository is up to date and contains \
             that revision."
        ))
    };
    if version.starts_with('-') || version.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(invalid());
    }
    let commit = commit(directory, version).await.ok_or_else(invalid)?;
    let target = deploy::worktree(&services.settings, pack, &commit);
    if tokio::fs::try_exists(&target).await.unwrap_or(false) {
        let used = target.clone();
        blocking(move || {
            deploy::used(&used);
            Ok(())
        })
        .await?;
        return Ok(target);
    }
    write(directory, &commit, &target).await.map_err(|error| failed(error.to_string()))?;
    Ok(target)
}

/// The commit that a name means: what the repository has of its own comes before what its origin had.
async fn commit(directory: &Path, version: &str) -> Option<String> {
    for name in [version.to_owned(), format!("refs/remotes/origin/{version}")] {
        let name = format!("{name}^{{commit}}");
        let found = git(&[], Some(directory), &["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await;
        let found = found.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The directory appears complete or not at all.
async fn write(repo: &Path, commit: &str, target: &Path) -> Result<(), InstallError> {
    let limits = tree::Limits::default();
    check_size(&[], repo, commit, limits).await?;
    let draft = target.with_file_name(format!(".draft-{}", uuid::Uuid::new_v4().simple()));
    let index = draft.with_extension("index");
    tokio::fs::create_dir_all(&draft).await.map_err(InstallError::disk("can't make a directory for the revision"))?;
    let attempt = async {
        // An index of its own: the repository's stays as it is.
        let own_index = [("GIT_INDEX_FILE".to_owned(), index.to_string_lossy().into_owned())];
        git(&own_index, Some(repo), &["read-tree", commit]).await?;
        let prefix = format!("--prefix={}/", draft.display());
        git(&own_index, Some(repo), &["checkout-index", "--all", "--force", &prefix]).await?;
        let (from, to) = (draft.clone(), target.to_owned());
        blocking(move || {
            tree::entries(&from, limits)?;
            match std::fs::rename(&from, &to) {
                // Somebody else was as fast: it is the same.
                Err(_) if to.is_dir() => Ok(()),
                renamed => renamed.map_err(InstallError::disk("can't keep the revision")),
            }
        })
        .await
    };
    let outcome = attempt.await;
    drop(tokio::fs::remove_file(&index).await);
    if draft.exists() {
        drop(tokio::fs::remove_dir_all(&draft).await);
    }
    outcome.inspect(|()| deploy::used(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t.example", "-c", "init.defaultBranch=main"];
        let done = std::process::Command::new("git").arg("-C").arg(dir).args(identity).args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    #[tokio::test]
    async fn files_of_a_commit_are_written_and_the_repository_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("p");
        std::fs::create_dir_all(repo.join("actions")).unwrap();
        run(&repo, &["init", "--quiet"]);
        std::fs::write(repo.join("actions/a"), "one").unwrap();
        run(&repo, &["add", "-A"]);
        run(&repo, &["commit", "--quiet", "-m", "1"]);
        run(&repo, &["tag", "v1"]);
        std::fs::write(repo.join("actions/a"), "two").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", repo.join("leak")).unwrap();
        run(&repo, &["add", "-A"]);
        run(&repo, &["commit", "--quiet", "-m", "2"]);
        let index = std::fs::read(repo.join(".git/index")).unwrap();
        let one = commit(&repo, "v1").await.unwrap();
        let target = dir.path().join("worktrees").join(&one);
        write(&repo, &one, &target).await.unwrap();
        assert_eq!(std::fs::read_to_string(target.join("actions/a")).unwrap(), "one");
        // Another revision holds a link that leaves it.
        let two = commit(&repo, "main").await.unwrap();
        let refused = write(&repo, &two, &dir.path().join("worktrees/two")).await.unwrap_err();
        assert!(refused.to_string().contains("leaves the pack"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path().join("worktrees")).unwrap().count(), 1);
        assert_eq!(std::fs::read(repo.join(".git/index")).unwrap(), index);
        assert_eq!(commit(&repo, "no-such").await, None);
    }
}
