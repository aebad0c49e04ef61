//! Output of a running action on its way to the store and the stream: batched by time and size, bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::{Services, executions};
use model::{Execution, OutputType, Versioned};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Output waits this long for more.
const LINGER: Duration = Duration::from_millis(100);

/// A batch is not made larger than about this.
const BATCH_BYTES: usize = 32 * 1024;

/// While this much waits for the store, the process's pipes are not read.
const PENDING_BYTES: usize = 512 * 1024;

/// Bytes of one execution that are streamed; what comes after is in the result only.
pub const STREAM_LIMIT: u64 = 8 * 1024 * 1024;

/// How long the last of the output may take to be stored.
const FINISH: Duration = Duration::from_secs(10);

/// The live output of one attempt.
pub struct LiveOutput {
    target: Option<(Arc<Services>, Arc<Versioned<Execution>>)>,
    pending: VecDeque<(OutputType, Vec<u8>)>,
    pending_bytes: usize,
    since: Option<Instant>,
    streamed: u64,
    seq: u64,
    /// At most one batch on its way; it ends with this.
    flush: JoinSet<()>,
}

impl std::fmt::Debug for LiveOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveOutput").field("pending", &self.pending_bytes).field("seq", &self.seq).finish()
    }
}

impl LiveOutput {
    pub fn new(services: &Arc<Services>, execution: &Arc<Versioned<Execution>>) -> Self {
        let target = services.settings.stream_output.then(|| (services.clone(), execution.clone()));
        Self::to(target)
    }

    /// Output that goes nowhere.
    pub fn none() -> Self {
        Self::to(None)
    }

    fn to(target: Option<(Arc<Services>, Arc<Versioned<Execution>>)>) -> Self {
        let pending = VecDeque::new();
        Self { target, pending, pending_bytes: 0, since: None, streamed: 0, seq: 0, flush: JoinSet::new() }
    }

    pub const fn has_room(&self) -> bool {
        self.pending_bytes < PENDING_BYTES
    }

    pub fn has_work(&self) -> bool {
        !self.flush.is_empty() || self.pending_bytes > 0
    }

    pub fn push(&mut self, kind: OutputType, bytes: &[u8]) {
        if self.target.is_none() || bytes.is_empty() || self.streamed > STREAM_LIMIT {
            return;
        }
        self.streamed += bytes.len() as u64;
        let bytes = if self.streamed > STREAM_LIMIT {
            format!("\n[the stream ends here: its limit is {STREAM_LIMIT} bytes]\n").into_bytes()
        } else {
            bytes.to_vec()
        };
        self.pending_bytes += bytes.len();
        self.since.get_or_insert_with(Instant::now);
        match self.pending.back_mut() {
            Some((last, data)) if *last == kind && data.len() < BATCH_BYTES => data.extend_from_slice(&bytes),
            _ => self.pending.push_back((kind, bytes)),
        }
    }

    /// Waits until output is due and stores it; to be polled while [`Self::has_work`]. Cancel safe: what is under way
    /// is taken up by the next call.
    pub async fn work(&mut self) {
        if self.flush.is_empty() {
            if let Some(since) = self.since
                && self.pending_bytes < BATCH_BYTES
            {
                tokio::time::sleep_until(since + LINGER).await;
            }
            self.begin_flush(false);
        }
        self.flush.join_next().await;
    }

    /// Stores all that is left.
    pub async fn finish(&mut self) {
        let work = async {
            loop {
                self.flush.join_next().await;
                if self.pending.is_empty() {
                    return;
                }
                self.begin_flush(true);
            }
        };
        if tokio::time::timeout(FINISH, work).await.is_err() {
            tracing::warn!("the last of the output could not be stored in time; it is in the result");
        }
    }

    fn begin_flush(&mut self, last: bool) {
        let chunks = self.take(last);
        let Some((services, execution)) = self.target.clone() else { return };
        if chunks.is_empty() {
            return;
        }
        let first = self.seq;
        self.seq += chunks.len() as u64;
        self.flush.spawn(async move {
            if let Err(error) = executions::append_output(&services, &execution, first, chunks).await {
                tracing::warn!(execution = %execution.id, %error, "a piece of live output was not stored");
            }
        });
    }

    /// All that waits, except the first bytes of a character whose rest has not come; everything if it is the `last`.
    fn take(&mut self, last: bool) -> Vec<(OutputType, String)> {
        let mut taken: Vec<(OutputType, Vec<u8>)> = self.pending.drain(..).collect();
        self.pending_bytes = 0;
        self.since = None;
        if !last {
            for kind in [OutputType::Stdout, OutputType::Stderr] {
                let Some((_, data)) = taken.iter_mut().rev().find(|(one, _)| *one == kind) else { continue };
                let rest = data.split_off(character_end(data));
                if !rest.is_empty() {
                    self.pending_bytes += rest.len();
                    self.since = Some(Instant::now());
                    self.pending.push_back((kind, rest));
                }
            }
        }
        taken
            .into_iter()
            .filter(|(_, data)| !data.is_empty())
            .map(|(kind, data)| (kind, String::from_utf8_lossy(&data).into_owned()))
            .collect()
    }
}

/// Where the last character that is whole, or is none, ends.
fn character_end(data: &[u8]) -> usize {
    for back in 1..=3.min(data.len()) {
        let at = data.len() - back;
        let wanted = match data[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => return data.len(),
        };
        return if back < wanted { at } else { data.len() };
    }
    data.len()
}

#[cfg(test)]
mod tests {
    use super::character_end;

    #[test]
    fn characters_are_not_cut() {
        assert_eq!(character_end("aé".as_bytes()), 3);
        assert_eq!(character_end(b"a\xc3"), 1);
        assert_eq!(character_end(b"a\xe2\x98"), 1);
        assert_eq!(character_end(b"a\xf0\x9f\x98"), 1);
        assert_eq!(character_end(b"\x80\x80\x80\x80"), 4);
        assert_eq!(character_end(b""), 0);
    }
}
