//! One process per database: an advisory lock on a file beside it, which the kernel drops with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::OpenError;

/// How long a start waits for the process before it to let go.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(25);

/// Held as long as the database is open.
#[derive(Debug)]
pub(super) struct ProcessLock(#[expect(dead_code, reason = "dropping it unlocks")] File);

impl ProcessLock {
    pub async fn acquire(database: &Path) -> Result<Self, OpenError> {
        let mut path = database.as_os_str().to_owned();
        path.push("-lock");
        let path = std::path::PathBuf::from(path);
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    let mut process = String::new();
                    file.read_to_string(&mut process).map_err(io)?;
                    return Err(OpenError::InUse { path: database.to_owned(), process: process.trim().to_owned() });
                }
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        // Only tells a person who holds it; on a full disk the lock holds all the same.
        let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::warn!(%error, path = %path.display(), "could not note the process in the lock file");
        }
        Ok(Self(file))
    }
}
