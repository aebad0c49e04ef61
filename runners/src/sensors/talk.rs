//! The conversation with one process: reads its messages, stores its events, tells it of triggers and its lease.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Id;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::dispatching::{Accepted, Dispatcher, Refusal};
use super::known::{Heard, Triggers};
use super::launch::Launcher;
use super::protocol::{self, Said};
use super::{SensorStates, output};

/// Events of one sensor that are read and not yet stored; beyond them nothing is read from it.
const MAX_WAITING: usize = 64;
/// Bytes that a process has not read; beyond them it is told nothing new but acknowledgements.
const MAX_UNREAD: usize = 1 << 20;
/// Between pings, at most.
const PING: Duration = Duration::from_secs(10);

/// What the keeper hears of the conversation.
#[derive(Debug)]
pub enum Heed {
    Ready,
    Files(Vec<std::path::PathBuf>),
    Refused(Refusal),
    /// The process breaks the rules, or has gone silent.
    Failed(String),
}

/// One conversation.
pub struct Talk {
    pub launcher: Arc<Launcher>,
    pub dispatcher: Dispatcher,
    pub states: SensorStates,
    pub reference: String,
    pub sensor: Id,
    pub types: Vec<String>,
    pub triggers: watch::Receiver<Triggers>,
    pub heed: mpsc::Sender<Heed>,
    /// Until when the process believes its lease to last.
    pub told: watch::Sender<Instant>,
    /// How much longer that is than what the container goes by.
    pub margin: Duration,
}

/// What is under way.
struct State {
    heard: Heard,
    out: VecDeque<u8>,
    waiting: VecDeque<Accepted>,
    heartbeat: bool,
    last_sign: tokio::time::Instant,
}

type Storing = Pin<Box<dyn Future<Output = Result<(Vec<Value>, u64), Refusal>> + Send>>;

/// The moment in seconds of CLOCK_MONOTONIC, which processes of this machine share.
pub fn monotonic(at: Instant) -> f64 {
    // The clock exists on every Linux; without it the lease counts as over.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default().as_secs_f64();
    let here = Instant::now();
    match at.checked_duration_since(here) {
        Some(left) => now + left.as_secs_f64(),
        None => now - here.duration_since(at).as_secs_f64(),
    }
}

impl Talk {
    /// Until the process closes its side and all its events are stored, or one of them is refused.
    pub async fn run(mut self, channel: UnixStream, start: Value) {
        let (reader, writer) = channel.into_split();
        let mut state = State {
            heard: Heard::default(),
            out: VecDeque::new(),
            waiting: VecDeque::new(),
            heartbeat: false,
            last_sign: tokio::time::Instant::now(),
        };
        state.say(&start);
        if let Err(heed) = self.converse(reader, writer, &mut state).await {
            // The keeper is gone only if the process is.
            let _ = self.heed.send(heed).await;
        }
    }

    async fn converse(
        &mut self,
        reader: OwnedReadHalf,
        mut writer: OwnedWriteHalf,
        state: &mut State,
    ) -> Result<(), Heed> {
        let mut reader = Lines::new(reader, self.launcher.options.max_line);
        let mut storing: Option<Storing> = None;
        let mut is_open = true;
        let mut can_write = true;
        let mut ping =
            tokio::time::interval(PING.min(self.launcher.options.heartbeat_limit / 2).max(Duration::from_millis(1)));
        let mut renew = tokio::time::interval((self.launcher.options.token_ttl / 2).max(Duration::from_secs(1)));
        renew.reset();
        self.tell_triggers(state);
        loop {
            if storing.is_none() && !state.waiting.is_empty() {
                let events = state.waiting.drain(..).collect();
                storing = Some(Box::pin(self.dispatcher.clone().store(events)));
            }
            if storing.is_none() && !is_open {
                return Ok(());
            }
            tokio::select! {
                line = reader.next(), if is_open && state.waiting.len() < MAX_WAITING => match line {
                    Ok(Some(line)) => self.take(state, &line).await?,
                    Ok(None) => is_open = false,
                    Err(error) => return Err(Heed::Failed(error.to_string())),
                },
                written = writer.write(state.out.as_slices().0), if can_write && !state.out.is_empty() => match written {
                    Ok(count) => drop(state.out.drain(..count)),
                    // It ended, or wants to hear nothing more; what it said before counts.
                    Err(_) => can_write = false,
                },
                stored = wait_for(&mut storing) => {
                    storing = None;
                    let (answers, count) = stored.map_err(Heed::Refused)?;
                    self.states.change(&self.reference, |status| status.dispatched += count);
                    answers.iter().for_each(|answer| state.say(answer));
                }
                Ok(()) = self.triggers.changed(), if state.out.len() < MAX_UNREAD => self.tell_triggers(state),
                Ok(()) = self.dispatcher.until.changed() => self.tell_lease(state),
                _ = ping.tick() => self.ping(state, is_open && state.waiting.len() < MAX_WAITING)?,
                _ = renew.tick() => {
                    let token = self.launcher.token(&self.dispatcher.services, self.sensor);
                    state.say(&protocol::token(&token));
                }
            }
        }
    }

    async fn take(&mut self, state: &mut State, line: &[u8]) -> Result<(), Heed> {
        state.last_sign = tokio::time::Instant::now();
        let said = serde_json::from_slice(line)
            .map_err(|error| Heed::Failed(format!("the sensor sent a message that can't be read: {error}")))?;
        match said {
            Said::Dispatch(call) => {
                state.waiting.push_back(Accepted::new(&self.dispatcher.services, call, &self.dispatcher.fence));
            }
            Said::Log { level, logger, message } => output::log(&self.reference, &level, &logger, &message),
            Said::Ready { heartbeat, files } => {
                state.heartbeat = heartbeat;
                let _ = self.heed.send(Heed::Ready).await;
                let _ = self.heed.send(Heed::Files(files)).await;
            }
            Said::Files { files } => {
                let _ = self.heed.send(Heed::Files(files)).await;
            }
            Said::Pong | Said::Unknown => {}
        }
        Ok(())
    }

    fn tell_triggers(&mut self, state: &mut State) {
        let now = self.triggers.borrow_and_update().clone();
        for (change, trigger) in state.heard.changes(&now, &self.types) {
            state.say(&protocol::trigger(change, &trigger.to_api()));
        }
    }

    /// Often enough that the process never runs out of a lease that is renewed, and not with every renewal.
    fn tell_lease(&mut self, state: &mut State) {
        let until = *self.dispatcher.until.borrow_and_update() + self.margin;
        let now = Instant::now();
        let left = until.saturating_duration_since(now);
        let is_known = self.told.borrow().saturating_duration_since(now) > left.mul_f64(0.75);
        if !is_known && state.out.len() < MAX_UNREAD {
            self.told.send_replace(until);
            state.say(&protocol::lease(monotonic(until)));
        }
    }

    fn ping(&self, state: &mut State, listens: bool) -> Result<(), Heed> {
        let limit = self.launcher.options.heartbeat_limit;
        if state.heartbeat && listens && state.last_sign.elapsed() > limit {
            return Err(Heed::Failed(format!("the sensor gave no sign of life for {} s", limit.as_secs())));
        }
        if !listens {
            // We did not look.
            state.last_sign = tokio::time::Instant::now();
        }
        if state.out.len() < MAX_UNREAD {
            state.say(&protocol::ping());
        }
        Ok(())
    }
}

impl State {
    fn say(&mut self, message: &Value) {
        self.out.extend(message.to_string().as_bytes());
        self.out.push_back(b'\n');
    }
}

async fn wait_for(storing: &mut Option<Storing>) -> Result<(Vec<Value>, u64), Refusal> {
    match storing {
        Some(storing) => storing.await,
        None => std::future::pending().await,
    }
}

/// Lines of bounded length.
struct Lines {
    source: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
    limit: usize,
}

/// The channel can't be read on.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("the sensor sent a message of more than {0} bytes")]
    TooLong(usize),
}

impl Lines {
    fn new(source: OwnedReadHalf, limit: usize) -> Self {
        Self { source: BufReader::new(source), line: Vec::new(), limit }
    }

    /// The next line without its end; `None` at the end of the stream. Cancel safe.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            // A reset counts as an end: the process closed with something of ours unread.
            let Ok(bytes) = self.source.fill_buf().await else { return Ok(None) };
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len());
            self.line.extend_from_slice(&bytes[..taken]);
            self.source.consume(end.map_or(taken, |end| end + 1));
            if self.line.len() > self.limit {
                return Err(LineError::TooLong(self.limit));
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
        }
    }
}
