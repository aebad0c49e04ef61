//! Waiting for servers that are away: attempts with growing, jittered pauses, shown on a board while they fail.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use gateway::{Dependency, Readiness};
use parking_lot::Mutex;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A dependency that stays away is logged again after so many attempts.
const LOG_EVERY: u32 = 12;

/// What the start waits for: the answer of `/healthz/ready` until the node is whole.
#[derive(Debug, Default)]
pub struct Board(Mutex<Vec<Dependency>>);

impl Board {
    /// All lines, in the order in which they are shown.
    pub fn new(names: &[&str]) -> Arc<Self> {
        let waiting =
            |name: &&str| Dependency { name: (*name).to_owned(), ready: false, detail: "connecting".to_owned() };
        Arc::new(Self(Mutex::new(names.iter().map(waiting).collect())))
    }

    pub fn set(&self, name: &str, state: Result<(), String>) {
        let mut lines = self.0.lock();
        if let Some(line) = lines.iter_mut().find(|line| line.name == name) {
            line.ready = state.is_ok();
            line.detail = state.err().unwrap_or_else(|| "ok".to_owned());
        }
    }
}

#[async_trait]
impl Readiness for Board {
    async fn check(&self) -> Vec<Dependency> {
        let mut lines = self.0.lock().clone();
        lines.push(Dependency { name: "node".to_owned(), ready: false, detail: "starting".to_owned() });
        lines
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// Another attempt may do better.
    Away(anyhow::Error),
    /// It won't help to try again: the configuration or the disk is wrong.
    Fatal(anyhow::Error),
}

/// Pauses between attempts.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Between half and all of twice the pause before, up to the longest.
    pub fn next(&mut self) -> Duration {
        let full = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(10)).min(LONGEST_PAUSE);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// Tries until it succeeds or can't.
pub async fn until<T, F>(board: &Board, name: &str, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut backoff = Backoff::default();
    loop {
        match attempt().await {
            Ok(done) => {
                board.set(name, Ok(()));
                if backoff.attempts > 0 {
                    tracing::info!(dependency = name, "it is there");
                }
                return Ok(done);
            }
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Away(error)) => {
                let text = format!("{error:#}");
                if backoff.attempts % LOG_EVERY == 0 {
                    tracing::warn!(dependency = name, error = text, "the start waits for it");
                }
                board.set(name, Err(text));
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_go_on_until_the_server_is_there() {
        let board = Board::new(&["store"]);
        let mut attempts = 0;
        let opened = until(&board, "store", || {
            attempts += 1;
            let shown = board.0.lock().first().map(|line| line.detail.clone());
            assert_eq!(shown.as_deref(), Some(if attempts == 1 { "connecting" } else { "refused" }));
            let done = if attempts < 3 { Err(Failure::Away(anyhow::anyhow!("refused"))) } else { Ok(attempts) };
            async move { done }
        });
        assert_eq!(opened.await.unwrap(), 3);
        let lines = board.check().await;
        assert!(lines.first().is_some_and(|line| line.ready) && !lines.iter().all(|line| line.ready));
        let fatal = until(&board, "store", || async { Err::<(), _>(Failure::Fatal(anyhow::anyhow!("damaged"))) });
        assert!(fatal.await.is_err());
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(pauses.iter().all(|pause| *pause >= FIRST_PAUSE / 2 && *pause <= LONGEST_PAUSE));
        assert!(pauses.last() >= Some(&(LONGEST_PAUSE / 2)));
    }
}
