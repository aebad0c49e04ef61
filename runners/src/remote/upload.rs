//! A script and what lies beside it, on their way to a host (spec/runners.md §10).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::command::{EnvironmentFile, Line};
use super::connect::Connection;
use super::exec::{Bounds, execute};
use super::outcome::{End, HostError, HostOutcome};
use crate::shell::args::quote;

/// Bytes of a script with its libraries: they are held in memory while hosts are served.
const LIMIT: u64 = 256 * 1024 * 1024;

/// How long removing the files may take.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// Files for one directory of each host.
#[derive(Debug)]
pub struct Upload {
    /// Made for this run alone, and removed with all in it.
    pub directory: String,
    /// Relative, parents first.
    directories: Vec<String>,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    /// Relative to the directory.
    path: String,
    bytes: Vec<u8>,
    mode: &'static str,
}

impl Upload {
    /// The script, and `lib` beside it if there is one. Blocks.
    pub fn collect(script: &Path, directory: String) -> std::io::Result<Self> {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let script_file = File { path: name, bytes: std::fs::read(script)?, mode: "744" };
        let mut left = LIMIT.saturating_sub(script_file.bytes.len() as u64);
        let mut upload = Self { directory, directories: Vec::new(), files: vec![script_file] };
        if let Some(library) = script.parent().map(|parent| parent.join("lib")).filter(|path| path.is_dir()) {
            upload.add(&library, "lib", &mut left)?;
        }
        Ok(upload)
    }

    /// Links to files are followed, those to directories are not: they may lead round in circles.
    fn add(&mut self, from: &Path, to: &str, left: &mut u64) -> std::io::Result<()> {
        self.directories.push(to.to_owned());
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let path = format!("{to}/{}", entry.file_name().to_string_lossy());
            let meta = std::fs::metadata(entry.path())?;
            if meta.is_dir() {
                if !entry.file_type()?.is_symlink() {
                    self.add(&entry.path(), &path, left)?;
                }
            } else if meta.is_file() {
                *left = left
                    .checked_sub(meta.len())
                    .ok_or_else(|| std::io::Error::other(format!("the script's lib is larger than {LIMIT} bytes")))?;
                let mode = if meta.permissions().mode() & 0o100 == 0 { "644" } else { "755" };
                self.files.push(File { path, bytes: std::fs::read(entry.path())?, mode });
            }
        }
        Ok(())
    }

    /// Where the script lies on the host.
    pub fn script(&self) -> String {
        let name = self.files.first().map_or("", |file| file.path.as_str());
        format!("{}/{name}", self.directory)
    }

    /// Writes everything; what it says is why it could not.
    pub async fn send(&self, connection: &Connection, host: &str, bounds: &Bounds) -> Result<(), HostOutcome> {
        let mut make = format!("umask 077 && mkdir -p -- {}", quote(&self.directory));
        for directory in &self.directories {
            make = format!("{make} {}", quote(&format!("{}/{directory}", self.directory)));
        }
        step(connection, host, make, None, bounds).await?;
        for file in &self.files {
            let path = quote(&format!("{}/{}", self.directory, file.path));
            // The directory is closed to others: nobody can have put a link there.
            let text = format!("cat > {path} && chmod {} {path}", file.mode);
            step(connection, host, text, Some(file.bytes.clone()), bounds).await?;
        }
        Ok(())
    }

    /// Whatever became of the run.
    pub async fn remove(&self, connection: &Connection, host: &str, bounds: &Bounds) {
        let bounds = Bounds { timeout: CLEAN_UP, stop: CancellationToken::new(), ..bounds.clone() };
        let text = format!("rm -rf -- {}", quote(&self.directory));
        if let Err(outcome) = step(connection, host, text, None, &bounds).await {
            tracing::warn!(host, directory = self.directory, end = ?outcome.end, "files of a script are left behind");
        }
    }
}

/// Writes a file that only the login's user can read, and that wasn't there.
pub async fn write_private(
    file: &EnvironmentFile,
    connection: &Connection,
    host: &str,
    bounds: &Bounds,
) -> Result<(), HostOutcome> {
    let text = format!("umask 077 && set -C && cat > {}", file.path);
    step(connection, host, text, Some(file.text.clone()), bounds).await
}

/// Removes it, if the command has not done so.
pub async fn remove_private(file: &EnvironmentFile, connection: &Connection, host: &str, bounds: &Bounds) {
    let bounds = Bounds { timeout: CLEAN_UP, stop: CancellationToken::new(), ..bounds.clone() };
    if let Err(outcome) = step(connection, host, format!("rm -f {}", file.path), None, &bounds).await {
        tracing::warn!(host, file = file.path, end = ?outcome.end, "the environment of a command is left behind");
    }
}

async fn step(
    connection: &Connection,
    host: &str,
    text: String,
    stdin: Option<Vec<u8>>,
    bounds: &Bounds,
) -> Result<(), HostOutcome> {
    let line = Line { text, wants_terminal: false, stdin, mark: None, file: None };
    let mut outcome = execute(connection, host, &line, bounds, None).await;
    if outcome.succeeded() {
        return Ok(());
    }
    if let End::Exited(code) = outcome.end {
        let cause = format!("exit code {code}: {}", outcome.stderr.trim_end());
        outcome.end = End::Error(HostError::Copy { host: host.to_owned(), cause });
    }
    Err(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_brings_its_lib() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("lib/sub dir")).unwrap();
        std::os::unix::fs::symlink(directory.path(), at("lib/loop")).unwrap();
        for (path, text) in [("my script.sh", "a"), ("lib/x.sh", "b"), ("lib/sub dir/y", "c"), ("other", "d")] {
            std::fs::write(at(path), text).unwrap();
        }
        let upload = Upload::collect(&at("my script.sh"), "/tmp/e".to_owned()).unwrap();
        assert_eq!(upload.script(), "/tmp/e/my script.sh");
        assert_eq!(upload.directories, ["lib", "lib/sub dir"]);
        let mut files: Vec<_> = upload.files.iter().map(|file| file.path.as_str()).collect();
        files.sort_unstable();
        assert_eq!(files, ["lib/sub dir/y", "lib/x.sh", "my script.sh"]);
    }
}
