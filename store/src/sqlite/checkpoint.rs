//! Moves what is in the write-ahead log into the database file, beside the writer.
//!
//! SQLite's automatic checkpoint would run inside a commit and hold it up while pages are copied and synced. Here
//! another connection does that work while the writer goes on. As the log only starts anew once all of it was
//! copied, and a busy writer keeps adding to it, rounds are repeated until little is left, which the writer then
//! copies itself between two transactions.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::task::JoinHandle;

use super::failure::failure;
use super::work::run_fixed;
use crate::error::StoreError;

/// Log that is worth a checkpoint, bytes.
const WORTH: u64 = 24 << 20;
/// Log that the writer may copy by itself, bytes: some milliseconds.
const SMALL: u64 = 1 << 20;
/// Rounds beside the writer before it finishes the work whatever is left.
const MAX_ROUNDS: u32 = 4;
/// Log at which the writer waits for the round under way, bytes: on a disk that is too slow for what is written,
/// callers must feel it before the log fills the disk.
const TOO_MUCH: u64 = 96 << 20;
/// What a write adds to the log besides its body, about: a page of the table and one of an index.
const PER_WRITE: u64 = 2 * 4_096;

const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Decides when to checkpoint; owned by the writer.
#[derive(Debug)]
pub(super) struct Checkpoints {
    options: SqliteConnectOptions,
    /// Bytes in the log since the last round began; an estimate.
    logged: u64,
    /// Bytes in the log since it began anew; an estimate.
    length: u64,
    round: Option<JoinHandle<Result<(), StoreError>>>,
    rounds: u32,
}

impl Checkpoints {
    pub(super) const fn new(options: SqliteConnectOptions) -> Self {
        Self { options, logged: 0, length: 0, round: None, rounds: 0 }
    }

    /// Takes note of what a transaction wrote.
    pub(super) fn wrote(&mut self, requests: usize, bytes: usize) {
        let logged = requests as u64 * PER_WRITE + bytes as u64;
        self.logged += logged;
        self.length += logged;
    }

    /// Between two transactions: begins, goes on with or ends a checkpoint, if it is time.
    pub(super) async fn tend(&mut self, connection: &mut SqliteConnection) {
        let pressing = self.length >= TOO_MUCH;
        match self.round.take() {
            None if self.logged >= WORTH => self.begin(),
            Some(round) if pressing || round.is_finished() => {
                let copied = finished(round).await;
                if copied && !pressing && self.logged > SMALL && self.rounds < MAX_ROUNDS {
                    self.begin();
                    return;
                }
                // After a failure, such as a full disk, it is tried again when as much has been written once more.
                if copied && let Err(error) = run_fixed(connection, COPY).await {
                    tracing::warn!(%error, "a checkpoint failed");
                }
                (self.logged, self.length, self.rounds) = (0, 0, 0);
            }
            running => self.round = running,
        }
    }

    /// Waits for a round that is under way.
    pub(super) async fn settle(&mut self) {
        if let Some(round) = self.round.take() {
            finished(round).await;
        }
    }

    fn begin(&mut self) {
        self.logged = 0;
        self.rounds += 1;
        let options = self.options.clone();
        self.round = Some(tokio::spawn(async move {
            let mut connection = options.connect().await.map_err(|error| failure(&error))?;
            run_fixed(&mut connection, COPY).await?;
            connection.close().await.map_err(|error| failure(&error))
        }));
    }
}

async fn finished(round: JoinHandle<Result<(), StoreError>>) -> bool {
    match round.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a checkpoint failed");
            false
        }
        Err(error) => {
            tracing::error!(%error, "a checkpoint ended badly");
            false
        }
    }
}
