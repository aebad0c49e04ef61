//! One process per database: an advisory lock on a file beside it, which the kernel drops with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::OpenError;

/// How long a start waits for the process before it to let go.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(25);

/// Held as long as the database is open.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(super) async fn acquire(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, "-lock");
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    file.read_to_string(&mut holder).map_err(io)?;
                    return Err(OpenError::InUse { path: database.to_owned(), process: holder.trim().to_owned() });
                }
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        // Only tells a person who holds it; on a full disk the lock holds all the same.
        let note = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        if let Err(error) = note {
            tracing::warn!(%error, path = %path.display(), "could not note the process in the lock file");
        }
        Ok(Self { _file: file })
    }
}

/// The path with something appended to its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
