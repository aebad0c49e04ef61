//! Which `python` serves a pack.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::runner::Failure;

/// Packs that come with the node and need no virtualenv.
const SYSTEM_PACKS: [&str; 4] = ["chatops", "core", "packs", "linux"];

/// How long `python3` may take to say where it is.
const ASK: Duration = Duration::from_secs(20);

/// An interpreter, and the virtualenv that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    pub executable: PathBuf,
    pub virtualenv: Option<PathBuf>,
}

/// The pack's virtualenv, if it has one. A pack that asks for packages must have one; one that asks for none runs with
/// the node's interpreter (StackStorm wants an empty virtualenv then, too).
pub async fn virtualenv(base_path: &Path, pack: &str, pack_directory: &Path) -> Result<Option<PathBuf>, Failure> {
    if SYSTEM_PACKS.contains(&pack) {
        return Ok(None);
    }
    let directory = std::path::absolute(base_path)?.join("virtualenvs").join(pack);
    let exists = async |path: PathBuf| tokio::fs::try_exists(path).await.unwrap_or(false);
    if exists(directory.join("bin/python")).await {
        // Where the link leads: another virtualenv is another interpreter, with a warm one of its own.
        return Ok(Some(tokio::fs::canonicalize(&directory).await.unwrap_or(directory)));
    }
    if exists(pack_directory.join("requirements.txt")).await {
        return Err(Failure::new(format!(
            "The virtual environment ({}) for pack \"{pack}\" does not exist. Normally this is created when you install \
             a pack using \"st2 pack install\". If the pack was put there by hand, create it with \
             \"st2 run packs.setup_virtualenv packs={pack}\"",
            directory.display()
        )));
    }
    Ok(None)
}

/// The real path of `python3`: a shim of a version manager costs more than the whole action.
pub async fn resolve(configured: Option<&Path>) -> Result<PathBuf, Failure> {
    let name = configured.map_or_else(|| "python3".to_owned(), |path| path.to_string_lossy().into_owned());
    let failed = |reason: String| {
        Failure::new(format!(
            "Python actions need a Python 3.8 or newer on this node; `{name}` does not serve: {reason}"
        ))
    };
    let script = "import sys; assert sys.version_info >= (3, 8), sys.version; print(sys.executable, end='')";
    let command = format!("exec {} -I -S -c {}", crate::shell::args::quote(&name), crate::shell::args::quote(script));
    let (pipes, stdout, stderr) = std_pipes().map_err(|error| failed(error.to_string()))?;
    let mut child = crate::process::Command {
        program: "/bin/sh".to_owned(),
        args: vec!["sh".to_owned(), "-c".to_owned(), command],
        environment: crate::process::spawn::own_environment(),
        descriptors: vec![(stdout, 1), (stderr, 2)],
    }
    .spawn()
    .map_err(|error| failed(error.to_string()))?;
    let (mut out, mut err) = pipes;
    let (mut path, mut complaint) = (String::new(), String::new());
    let ask = async {
        let read = tokio::join!(out.read_to_string(&mut path), err.read_to_string(&mut complaint));
        let _ = (read.0?, read.1?);
        child.exit().await
    };
    match tokio::time::timeout(ASK, ask).await {
        Err(_) => Err(failed("it gave no answer".to_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(crate::process::Exit::Code(0))) if !path.is_empty() => Ok(PathBuf::from(path)),
        Ok(Ok(_)) => Err(failed(complaint.lines().last().unwrap_or("it failed").to_owned())),
    }
}

type Readers = (tokio::net::unix::pipe::Receiver, tokio::net::unix::pipe::Receiver);

fn std_pipes() -> std::io::Result<(Readers, std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    let (out, theirs_out) = std::io::pipe()?;
    let (err, theirs_err) = std::io::pipe()?;
    let receiver = |fd: std::io::PipeReader| tokio::net::unix::pipe::Receiver::from_owned_fd(fd.into());
    Ok(((receiver(out)?, receiver(err)?), theirs_out.into(), theirs_err.into()))
}

/// Packs that use the node's interpreter and get no import path of their own.
pub fn is_system(pack: &str) -> bool {
    SYSTEM_PACKS.contains(&pack)
}
