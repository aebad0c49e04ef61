//! Getting a pack's files into a directory of ours: by the machine's `git`, or by copying.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::Workshop;
use super::error::{InstallError, blocking};
use super::source::{Place, Source, without_password};
use super::{bundle, tree};

/// One run of git.
const GIT_TIMEOUT: Duration = Duration::from_secs(300);

/// What of git's output is kept.
const SHOWN: usize = 4000;

/// Fills `target`, a directory that isn't there yet, and says which commit it is (of a plain directory: none).
pub async fn fetch(
    workshop: &Workshop,
    source: &Source,
    version: Option<&str>,
    target: &Path,
) -> Result<Option<String>, InstallError> {
    match &source.place {
        Place::Directory(path) => {
            let path = Path::new(path);
            let meta = tokio::fs::metadata(path).await;
            if !meta.is_ok_and(|meta| meta.is_dir()) {
                return Err(InstallError::refused(format!("The directory \"{}\" doesn't exist", path.display())));
            }
            let is_repository = path.join(".git").exists() || path.join("HEAD").is_file();
            if is_repository {
                return clone(workshop, &path.to_string_lossy(), version, target).await.map(Some);
            }
            let (from, to) = (path.to_owned(), target.to_owned());
            blocking(move || copy(&from, &to)).await.map(|()| None)
        }
        Place::Git(url) => clone(workshop, url, version, target).await.map(Some),
        Place::Index(name) => Err(InstallError::refused(format!("No record of the \"{name}\" pack in the index."))),
    }
}

/// By way of a bundle: what can't be bundled is no pack.
fn copy(from: &Path, to: &Path) -> Result<(), InstallError> {
    let limits = tree::Limits::default();
    let bytes = bundle::write(from, limits)?;
    std::fs::create_dir_all(to).map_err(InstallError::disk("can't make a directory"))?;
    bundle::read(&bytes, to, limits)
}

async fn clone(workshop: &Workshop, url: &str, version: Option<&str>, target: &Path) -> Result<String, InstallError> {
    if url.starts_with('-') || url.chars().any(char::is_control) {
        return Err(InstallError::refused("this is no address of a repository"));
    }
    let shown = without_password(url);
    let git = Git { workshop, url, shown: &shown };
    workshop.progress.say(format!("cloning {shown}"));
    let directory = target.to_string_lossy().into_owned();
    git.run(None, &["clone", "--no-checkout", "--quiet", "--", url, &directory]).await?;
    let commit = git.resolve(target, version).await?;
    check_size(&workshop.environment, target, &commit.hash, tree::Limits::default()).await?;
    match &commit.branch {
        Some(branch) => git.run(Some(target), &["checkout", "--quiet", "--force", "-B", branch, &commit.hash]).await?,
        None => git.run(Some(target), &["checkout", "--quiet", "--force", "--detach", &commit.hash]).await?,
    };
    // What other branches hold is of no use here, and the address may hold a password.
    git.run(Some(target), &["remote", "set-url", "origin", &shown]).await?;
    // The index with the times of this checkout would make the same commit another content each time.
    git.run(Some(target), &["read-tree", "HEAD"]).await?;
    workshop.progress.say(format!("checked out {}", commit.hash));
    Ok(commit.hash)
}

struct Git<'a> {
    workshop: &'a Workshop,
    url: &'a str,
    shown: &'a str,
}

struct Commit {
    /// The branch that it was asked for as: the pack's repository is left on it.
    branch: Option<String>,
    hash: String,
}

impl Git<'_> {
    /// The default branch, a branch, a commit or tag, or `v<version>`: the first that there is.
    async fn resolve(&self, repo: &Path, version: Option<&str>) -> Result<Commit, InstallError> {
        let Some(version) = version else {
            let hash = self.commit(repo, "HEAD").await;
            let hash = hash.ok_or_else(|| InstallError::refused(format!("{} holds no commit", self.shown)))?;
            let branch = self.run(Some(repo), &["symbolic-ref", "--short", "--quiet", "HEAD"]).await.ok();
            let branch = branch.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
            return Ok(Commit { branch, hash });
        };
        let plain = !version.starts_with('-') && !version.chars().any(|c| c.is_control() || c.is_whitespace());
        if plain {
            if let Some(hash) = self.commit(repo, &format!("refs/remotes/origin/{version}")).await {
                return Ok(Commit { branch: Some(version.to_owned()), hash });
            }
            let is_version = semver::Version::parse(version).is_ok();
            let names = [Some(version.to_owned()), is_version.then(|| format!("v{version}"))];
            for name in names.into_iter().flatten() {
                if let Some(hash) = self.commit(repo, &name).await {
                    return Ok(Commit { branch: None, hash });
                }
            }
        }
        let tags = self.run(Some(repo), &["tag", "--list", "v*"]).await.unwrap_or_default();
        let versions: Vec<&str> = tags
            .lines()
            .filter_map(|tag| tag.strip_prefix('v'))
            .filter(|tag| semver::Version::parse(tag).is_ok())
            .collect();
        Err(InstallError::refused(format!(
            "\"{version}\" is not a valid version, hash, tag or branch in {}. Available versions are: {}.",
            self.shown,
            versions.join(", ")
        )))
    }

    async fn commit(&self, repo: &Path, name: &str) -> Option<String> {
        let name = format!("{name}^{{commit}}");
        let found = self.run(Some(repo), &["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await;
        found.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    async fn run(&self, directory: Option<&Path>, args: &[&str]) -> Result<String, InstallError> {
        let done = git(&self.workshop.environment, directory, args).await;
        done.map_err(|error| InstallError::refused(error.to_string().replace(self.url, self.shown)))
    }
}

/// What git printed; its complaint as an error. Nothing of the repository's own is executed.
pub(super) async fn git(
    environment: &[(String, String)],
    directory: Option<&Path>,
    args: &[&str],
) -> Result<String, InstallError> {
    let mut command = tokio::process::Command::new("git");
    if let Some(directory) = directory {
        command.arg("-C").arg(directory);
    }
    command
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false"])
        // What the store holds of the same commit is the same bytes everywhere.
        .args(["-c", "core.logAllRefUpdates=false", "-c", "gc.auto=0"])
        // A pack belongs to who installed it, and is read by whoever runs actions.
        .args(["-c", "safe.directory=*"])
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "/bin/echo")
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .env("GIT_TEMPLATE_DIR", "")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let done = tokio::time::timeout(GIT_TIMEOUT, command.output()).await;
    let what = args.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    let failed = |reason: String| InstallError::refused(format!("git {what}: {reason}"));
    match done {
        Err(_) => Err(failed(format!("no end after {} s", GIT_TIMEOUT.as_secs()))),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(InstallError::refused("working with a repository needs `git` on this node"))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            Err(failed(complaint.trim().chars().take(SHOWN).collect()))
        }
    }
}

/// Whether a commit's files are no more than a pack may have, before any of them is written: a small repository can
/// hold files that fill a disk.
pub(super) async fn check_size(
    environment: &[(String, String)],
    repo: &Path,
    commit: &str,
    limits: tree::Limits,
) -> Result<(), InstallError> {
    let listed = git(environment, Some(repo), &["ls-tree", "-r", "-l", "--full-tree", "-z", commit]).await?;
    let (mut count, mut bytes) = (0_usize, 0_u64);
    for line in listed.split('\0').filter(|line| !line.is_empty()) {
        let size = line.split('\t').next().and_then(|head| head.split_whitespace().nth(3));
        // Submodules have none.
        bytes = bytes.saturating_add(size.and_then(|size| size.parse().ok()).unwrap_or(0));
        count += 1;
    }
    if count > limits.entries {
        return Err(InstallError::refused(format!("the pack is refused: it has more than {} files", limits.entries)));
    }
    if bytes > limits.bytes {
        return Err(InstallError::refused(format!("the pack is refused: it has more than {} bytes", limits.bytes)));
    }
    Ok(())
}
