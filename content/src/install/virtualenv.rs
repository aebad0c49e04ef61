//! Virtualenvs of packs (spec/packs.md §6.4).
//!
//! One is named after the hash of its requirements and interpreter: `virtualenvs/.envs/<hash>`; `virtualenvs/<pack>` is a
//! link to it. Packs that ask for the same share one, and what was built stays until nobody links to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use model::Id;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::Workshop;
use super::error::{InstallError, blocking};
use super::{group, uv};

/// What every virtualenv has, as StackStorm's have.
const ALWAYS: &str = "six>=1.9.0,<2.0";

/// Requirements files may be no larger.
const MAX_REQUIREMENTS: u64 = 1024 * 1024;

/// Lines of output that an error shows.
const SHOWN_LINES: usize = 40;

const ENVIRONMENTS: &str = ".envs";

/// How long a virtualenv out of use stays for what still runs in it.
const KEEP: Duration = Duration::from_secs(24 * 3600);

const MARK: &str = ".squall-complete";

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    pub pack: &'a str,
    pub pack_directory: &'a Path,
    /// Build it anew though it is there.
    pub anew: bool,
    pub timeout: Duration,
}

/// Builds the pack's virtualenv if it asks for packages, and puts it in force; says whether there is one now.
pub async fn ensure(workshop: &Workshop, order: Order<'_>) -> Result<bool, InstallError> {
    let built = build(workshop, order).await?;
    put_in_force(&workshop.services.settings.base_path, order.pack, built).await?;
    Ok(built.is_some())
}

/// Builds the virtualenv that this revision of the pack asks for, unless it is there: nothing uses it yet. None if it
/// asks for no packages.
pub async fn build(workshop: &Workshop, order: Order<'_>) -> Result<Option<Id>, InstallError> {
    let requirements = order.pack_directory.join("requirements.txt");
    let Ok(meta) = tokio::fs::metadata(&requirements).await else { return Ok(None) };
    if meta.len() > MAX_REQUIREMENTS {
        return Err(InstallError::refused(format!("requirements.txt has more than {MAX_REQUIREMENTS} bytes")));
    }
    let text = tokio::fs::read_to_string(&requirements).await.map_err(InstallError::disk("requirements.txt"))?;
    let environments = absolute(&workshop.services.settings.base_path)?.join(ENVIRONMENTS);
    let python = workshop.python.clone().unwrap_or_else(|| PathBuf::from("python3"));
    let interpreter = identify(&python).await?;
    let hash = Id::of_content(format!("{interpreter}\0{ALWAYS}\0{text}").as_bytes());
    let directory = environments.join(hash.to_string());
    if !order.anew && directory.join(MARK).is_file() {
        workshop.progress.say(format!("the virtualenv of {} is there already", order.pack));
        return Ok(Some(hash));
    }
    tokio::fs::create_dir_all(&environments).await.map_err(InstallError::disk("virtualenvs"))?;
    let _lock = lock(environments.join(format!("{hash}.lock")), order.timeout).await?;
    if order.anew || !directory.join(MARK).is_file() {
        let build = Build { workshop, directory: &directory, python: &python, requirements: &requirements };
        let built = tokio::time::timeout(order.timeout, build.run(order.pack)).await;
        let built = built.unwrap_or_else(|_| {
            Err(InstallError::refused(format!(
                "building the virtualenv of pack \"{}\" took more than {} s",
                order.pack,
                order.timeout.as_secs()
            )))
        });
        if let Err(error) = built {
            drop(tokio::fs::remove_dir_all(&directory).await);
            return Err(error);
        }
    }
    Ok(Some(hash))
}

/// Makes what runs from now on use this virtualenv, or none. A directory that somebody made by hand gives way only to
/// another virtualenv.
pub async fn put_in_force(base_path: &Path, pack: &str, environment: Option<Id>) -> Result<(), InstallError> {
    let virtualenvs = absolute(base_path)?;
    let link = virtualenvs.join(pack);
    blocking(move || {
        let failed = || InstallError::disk("can't link the virtualenv");
        let old = std::fs::read_link(&link).ok();
        let target = environment.map(|hash| Path::new(ENVIRONMENTS).join(hash.to_string()));
        if old == target {
            return Ok(());
        }
        if let Some(old) = &old {
            touch(&virtualenvs.join(old));
        }
        let Some(target) = target else { return std::fs::remove_file(&link).map_err(failed()) };
        if link.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            std::fs::remove_dir_all(&link).map_err(failed())?;
        }
        let draft = virtualenvs.join(format!(".link-{}", uuid::Uuid::new_v4().simple()));
        std::os::unix::fs::symlink(target, &draft).map_err(failed())?;
        std::fs::rename(&draft, &link).map_err(failed())
    })
    .await
}

/// The virtualenv in force, if it is one of ours.
pub async fn current(base_path: &Path, pack: &str) -> Option<Id> {
    let target = tokio::fs::read_link(base_path.join("virtualenvs").join(pack)).await.ok()?;
    target.strip_prefix(ENVIRONMENTS).ok()?.to_str()?.parse().ok()
}

fn absolute(base_path: &Path) -> Result<PathBuf, InstallError> {
    Ok(std::path::absolute(base_path).map_err(InstallError::disk("base path"))?.join("virtualenvs"))
}

/// Out of force from now on.
fn touch(environment: &Path) {
    if let Ok(mark) = std::fs::File::options().append(true).open(environment.join(MARK)) {
        drop(mark.set_modified(SystemTime::now()));
    }
}

/// Removes the pack's link, its virtualenv unless another pack shares it, and those that have been out of use for long.
pub async fn remove(base_path: &Path, pack: &str) -> Result<(), InstallError> {
    let virtualenvs = base_path.join("virtualenvs");
    let path = virtualenvs.join(pack);
    blocking(move || {
        let own = std::fs::read_link(&path).ok().and_then(|target| target.file_name().map(PathBuf::from));
        let removed = match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => Ok(()),
        };
        removed.map_err(InstallError::disk("can't remove the virtualenv"))?;
        let linked: Vec<PathBuf> = std::fs::read_dir(&virtualenvs)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter_map(|target| target.file_name().map(PathBuf::from))
            .collect();
        for entry in std::fs::read_dir(virtualenvs.join(ENVIRONMENTS)).into_iter().flatten().flatten() {
            let name = PathBuf::from(entry.file_name());
            // One that is being built has no mark yet; what runs keeps the one that it began with.
            let Ok(mark) = std::fs::metadata(entry.path().join(MARK)) else { continue };
            let age = mark.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if !linked.contains(&name) && (own.as_ref() == Some(&name) || age.is_some_and(|age| age > KEEP)) {
                drop(std::fs::remove_dir_all(entry.path()));
            }
        }
        Ok(())
    })
    .await
}

/// What makes virtualenvs of this interpreter what they are.
async fn identify(python: &Path) -> Result<String, InstallError> {
    let script = "import sys; print(sys.version, sys.executable)";
    let output = tokio::process::Command::new(python)
        .args(["-I", "-S", "-c", script])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let failed = |reason: String| {
        InstallError::refused(format!("virtualenvs need a Python 3; `{}` does not serve: {reason}", python.display()))
    };
    match tokio::time::timeout(Duration::from_secs(20), output).await {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it gave no answer".to_owned())),
    }
}

/// Held until it is dropped; one build of the same virtualenv at a time, other processes included.
async fn lock(path: PathBuf, patience: Duration) -> Result<std::fs::File, InstallError> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(InstallError::disk("can't lock the virtualenv"))?;
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(InstallError::refused(format!("can't lock the virtualenv: {error}"))),
        }
    }
}

struct Build<'a> {
    workshop: &'a Workshop,
    directory: &'a Path,
    python: &'a Path,
    requirements: &'a Path,
}

impl Build<'_> {
    async fn run(&self, pack: &str) -> Result<(), InstallError> {
        if self.directory.exists() {
            let failed = InstallError::disk("can't remove the old virtualenv");
            tokio::fs::remove_dir_all(self.directory).await.map_err(failed)?;
        }
        let say = |line: String| self.workshop.progress.say(line);
        let directory = self.directory.to_string_lossy().into_owned();
        let requirements = self.requirements.to_string_lossy().into_owned();
        let python = self.python.to_string_lossy().into_owned();
        let inner = format!("{directory}/bin/python");
        let not_uv = uv::why_not(&self.workshop.environment).await;
        let uv = not_uv.is_none();
        let with = not_uv.map_or_else(|| "uv".to_owned(), |reason| format!("venv ({reason})"));
        say(format!("making the virtualenv of {pack} with {with}"));
        let made = if uv {
            self.step("uv", &["venv", "--quiet", "--system-site-packages", "--python", &python, &directory]).await
        } else {
            self.step(&python, &["-m", "venv", "--system-site-packages", &directory]).await
        };
        if let Err(output) = made {
            // Debian has `venv` in a package of its own.
            let instead = self.step("virtualenv", &["--system-site-packages", "-p", &python, &directory]).await;
            instead.map_err(|other| {
                InstallError::refused(format!("Failed to create the virtualenv for \"{pack}\": {output}\n{other}"))
            })?;
        }
        say(format!("installing the requirements of {pack}"));
        let install = ["-r", requirements.as_str(), ALWAYS];
        let installed = if uv {
            self.step("uv", &[&["pip", "install", "--python", inner.as_str()][..], &install].concat()).await
        } else {
            let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input"];
            self.step(&inner, &[&pip[..], &install].concat()).await
        };
        installed.map_err(|output| {
            InstallError::refused(format!("Failed to install requirements from \"{requirements}\": {output}"))
        })?;
        let (directory, group) = (self.directory.to_owned(), self.workshop.services.settings.pack_group.clone());
        blocking(move || {
            group::give(&directory, group.as_deref());
            Ok(())
        })
        .await?;
        let failed = InstallError::disk("can't mark the virtualenv as complete");
        tokio::fs::write(self.directory.join(MARK), "").await.map_err(failed)
    }

    /// Runs a program, telling its lines as they come; its last lines as the error.
    async fn step(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .env_remove("PYTHONPATH")
            .envs(self.workshop.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let mut group = Group(child.id());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = tokio::join!(self.lines(out), self.lines(err));
        let status = child.wait().await.map_err(|error| format!("{program}: {error}"))?;
        group.0 = None;
        if status.success() { Ok(()) } else { Err(format!("{out} (stderr: {err})")) }
    }

    /// The last lines of it.
    async fn lines(&self, stream: Option<impl AsyncRead + Unpin>) -> String {
        let Some(stream) = stream else { return String::new() };
        let mut last = std::collections::VecDeque::new();
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let line: String = line.chars().take(2000).collect();
            self.workshop.progress.say(line.clone());
            if last.len() == SHOWN_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        last.into_iter().collect::<Vec<_>>().join("\n")
    }
}

/// Who builds for pip goes with it, if it is stopped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // Whoever is gone already needs no signal.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
