//! Virtualenvs of packs (spec/packs.md §6.4).
//!
//! One is named after the hash of its requirements and interpreter: `virtualenvs/.envs/<hash>`; `virtualenvs/<pack>` is a
//! link to it. Packs that ask for the same share one, and what was built stays until nobody links to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::Id;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::Workshop;
use super::error::{InstallError, blocking};

/// What every virtualenv has, as StackStorm's have.
const ALWAYS: &str = "six>=1.9.0,<2.0";

/// Requirements files may be no larger.
const MAX_REQUIREMENTS: u64 = 1024 * 1024;

/// Lines of output that an error shows.
const SHOWN_LINES: usize = 40;

const ENVIRONMENTS: &str = ".envs";
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

/// Builds the pack's virtualenv if it asks for packages; says whether there is one now.
pub async fn ensure(workshop: &Workshop, order: Order<'_>) -> Result<bool, InstallError> {
    let requirements = order.pack_directory.join("requirements.txt");
    let Ok(meta) = tokio::fs::metadata(&requirements).await else { return Ok(false) };
    if meta.len() > MAX_REQUIREMENTS {
        return Err(InstallError::refused(format!("requirements.txt has more than {MAX_REQUIREMENTS} bytes")));
    }
    let text = tokio::fs::read_to_string(&requirements).await.map_err(InstallError::disk("requirements.txt"))?;
    let base = std::path::absolute(&workshop.services.settings.base_path).map_err(InstallError::disk("base path"))?;
    let virtualenvs = base.join("virtualenvs");
    let python = workshop.python.clone().unwrap_or_else(|| PathBuf::from("python3"));
    let interpreter = identify(&python).await?;
    let hash = Id::of_content(format!("{interpreter}\0{ALWAYS}\0{text}").as_bytes());
    let directory = virtualenvs.join(ENVIRONMENTS).join(hash.to_string());
    let link = Link { virtualenvs: &virtualenvs, pack: order.pack, hash };
    if !order.anew && directory.join(MARK).is_file() {
        workshop.progress.say(format!("the virtualenv of {} is there already", order.pack));
        link.set().await?;
        return Ok(true);
    }
    tokio::fs::create_dir_all(&virtualenvs.join(ENVIRONMENTS)).await.map_err(InstallError::disk("virtualenvs"))?;
    let _lock = lock(virtualenvs.join(ENVIRONMENTS).join(format!("{hash}.lock")), order.timeout).await?;
    if order.anew || !directory.join(MARK).is_file() {
        let build = Build { workshop, directory: &directory, python: &python, requirements: &requirements };
        let built = tokio::time::timeout(order.timeout, build.run(order.pack)).await;
        match built {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                drop(tokio::fs::remove_dir_all(&directory).await);
                return Err(error);
            }
            Err(_) => {
                drop(tokio::fs::remove_dir_all(&directory).await);
                return Err(InstallError::refused(format!(
                    "building the virtualenv of pack \"{}\" took more than {} s",
                    order.pack,
                    order.timeout.as_secs()
                )));
            }
        }
    }
    link.set().await?;
    Ok(true)
}

/// Removes the pack's link, and virtualenvs that no link leads to.
pub async fn remove(base_path: &Path, pack: &str) -> Result<(), InstallError> {
    let virtualenvs = base_path.join("virtualenvs");
    let path = virtualenvs.join(pack);
    blocking(move || {
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
            let unused = !linked.contains(&PathBuf::from(entry.file_name()));
            // One that is being built has no mark yet.
            if unused && entry.path().join(MARK).is_file() {
                drop(std::fs::remove_dir_all(entry.path()));
            }
        }
        Ok(())
    })
    .await
}

struct Link<'a> {
    virtualenvs: &'a Path,
    pack: &'a str,
    hash: Id,
}

impl Link<'_> {
    async fn set(&self) -> Result<(), InstallError> {
        let (virtualenvs, pack, hash) = (self.virtualenvs.to_owned(), self.pack.to_owned(), self.hash);
        blocking(move || {
            let failed = || InstallError::disk("can't link the virtualenv");
            let (target, link) = (Path::new(ENVIRONMENTS).join(hash.to_string()), virtualenvs.join(&pack));
            if std::fs::read_link(&link).is_ok_and(|old| old == target) {
                return Ok(());
            }
            if link.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                std::fs::remove_dir_all(&link).map_err(failed())?;
            }
            let draft = virtualenvs.join(format!(".link-{}", uuid::Uuid::new_v4().simple()));
            std::os::unix::fs::symlink(target, &draft).map_err(failed())?;
            std::fs::rename(&draft, &link).map_err(failed())
        })
        .await
    }
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
        let uv = works("uv").await;
        say(format!("making the virtualenv of {pack} with {}", if uv { "uv" } else { "venv" }));
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
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = tokio::join!(self.lines(out), self.lines(err));
        let status = child.wait().await.map_err(|error| format!("{program}: {error}"))?;
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

async fn works(program: &str) -> bool {
    let run = tokio::process::Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    matches!(tokio::time::timeout(Duration::from_secs(10), run).await, Ok(Ok(status)) if status.success())
}
