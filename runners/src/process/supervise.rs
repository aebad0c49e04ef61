//! Watching one process until it has ended: output, deadline, stop requests, and the way from SIGTERM to SIGKILL.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use model::OutputType;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::capture::Capture;
use super::end::{Signal, signal_session};
use super::spawn::{Child, Exit};
use crate::live::LiveOutput;
use crate::stop::{Stop, StopReason};

/// What is read at a time; the size of a pipe.
const READ_BYTES: usize = 64 * 1024;

/// How long output is awaited once the process has ended, if something else holds the pipe open.
const DRAIN: Duration = Duration::from_millis(100);

/// How long a killed process may take to go; one that waits for a device takes longer, and is left behind.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A process that can be waited for, whoever is its parent.
#[async_trait]
pub trait Process: Send {
    /// Also the number of its session.
    fn pid(&self) -> i32;

    /// How it ended, once it has. Cancel safe.
    async fn exit(&mut self) -> io::Result<Exit>;
}

#[async_trait]
impl Process for Child {
    fn pid(&self) -> i32 {
        Child::pid(self)
    }

    async fn exit(&mut self) -> io::Result<Exit> {
        Child::exit(self).await
    }
}

/// Bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Bytes kept of each stream; what comes after is read and dropped.
    pub output: usize,
}

/// The reading ends of a process's output.
#[derive(Debug)]
pub struct Pipes {
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Pipes {
    /// With the writing ends for the process: stdout and stderr.
    pub fn open() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (stdout, theirs_out) = io::pipe()?;
        let (stderr, theirs_err) = io::pipe()?;
        let pipes = Self {
            stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
            stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
        };
        Ok((pipes, theirs_out.into(), theirs_err.into()))
    }

    /// stdout and stderr.
    pub fn into_parts(self) -> (pipe::Receiver, pipe::Receiver) {
        (self.stdout, self.stderr)
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Finished {
    pub exit: Exit,
    pub stdout: Capture,
    pub stderr: Capture,
    pub timed_out: bool,
    /// Set if the run was stopped from outside before it ended by itself.
    pub stopped: Option<StopReason>,
}

/// Where the end of a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// SIGTERM was sent; SIGKILL follows then.
    Asked(Instant),
    /// SIGKILL was sent; the process is left behind then.
    Killed(Instant),
    /// It has ended; its output is awaited until then.
    Ended(Exit, Instant),
}

struct Watch<'a> {
    limits: Limits,
    phase: Phase,
    deadline: Option<Instant>,
    timed_out: bool,
    stopped: Option<StopReason>,
    pid: i32,
    live: &'a mut LiveOutput,
}

impl Watch<'_> {
    fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running => self.deadline,
            Phase::Asked(at) | Phase::Killed(at) | Phase::Ended(_, at) => Some(at),
        }
    }

    /// The time of [`Self::next_deadline`] has come; true when there is nothing more to wait for.
    fn on_deadline(&mut self) -> bool {
        match self.phase {
            Phase::Running => {
                self.timed_out = true;
                self.ask();
                false
            }
            Phase::Asked(_) => {
                self.kill();
                false
            }
            Phase::Killed(_) => {
                tracing::error!(pid = self.pid, "the process does not end on SIGKILL and is left behind");
                self.phase = Phase::Ended(Exit::Signal(libc::SIGKILL), Instant::now());
                true
            }
            Phase::Ended(..) => true,
        }
    }

    fn on_stop(&mut self, reason: StopReason) {
        if matches!(self.phase, Phase::Ended(..)) {
            return;
        }
        self.stopped = Some(reason);
        match (self.phase, reason) {
            (Phase::Killed(_), _) => {}
            (_, StopReason::SessionLost) => self.kill(),
            (Phase::Running, _) => self.ask(),
            _ => {}
        }
    }

    fn ask(&mut self) {
        self.signal(Signal::SIGTERM);
        self.phase = Phase::Asked(Instant::now() + self.limits.grace);
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.phase = Phase::Killed(Instant::now() + GIVE_UP);
    }

    fn signal(&self, signal: Signal) {
        if !signal_session(self.pid, signal) {
            crate::shell::sudo::signal_session(self.pid, signal);
        }
    }

    /// What was asked to end by force leaves nobody behind: descendants that ignored SIGTERM go with it.
    fn on_exit(&mut self, exit: Exit) {
        if self.timed_out || self.stopped.is_some() {
            self.signal(Signal::SIGKILL);
        }
        self.phase = Phase::Ended(exit, Instant::now() + DRAIN);
    }
}

/// Reads the output and waits for the end, whichever way it comes.
pub async fn supervise(
    process: &mut dyn Process,
    pipes: Pipes,
    limits: Limits,
    stop: &mut Stop,
    live: &mut LiveOutput,
) -> io::Result<Finished> {
    let Pipes { stdout: mut out, stderr: mut err } = pipes;
    let mut stdout = Capture::new(limits.output);
    let mut stderr = Capture::new(limits.output);
    let (mut out_open, mut err_open) = (true, true);
    let (mut out_bytes, mut err_bytes) = (Vec::new(), Vec::new());
    let deadline = limits.timeout.map(|timeout| Instant::now() + timeout);
    let pid = process.pid();
    let mut watch = Watch { limits, phase: Phase::Running, deadline, timed_out: false, stopped: None, pid, live };
    let timer = tokio::time::sleep_until(Instant::now());
    tokio::pin!(timer);
    loop {
        let ended = matches!(watch.phase, Phase::Ended(..));
        if ended && !out_open && !err_open {
            break;
        }
        let wake = watch.next_deadline();
        if let Some(at) = wake
            && timer.deadline() != at
        {
            timer.as_mut().reset(at);
        }
        // Once it has ended, no more than the pipes hold can come.
        let room = ended || watch.live.has_room();
        tokio::select! {
            biased;
            () = timer.as_mut(), if wake.is_some() => {
                if watch.on_deadline() {
                    break;
                }
            }
            reason = stop.next(), if !ended => watch.on_stop(reason),
            read = fill(&mut out, &mut out_bytes), if out_open && room => {
                out_open = read?;
                stdout.push(&out_bytes);
                watch.live.push(OutputType::Stdout, &out_bytes);
                out_bytes.clear();
            }
            read = fill(&mut err, &mut err_bytes), if err_open && room => {
                err_open = read?;
                stderr.push(&err_bytes);
                watch.live.push(OutputType::Stderr, &err_bytes);
                err_bytes.clear();
            }
            exit = process.exit(), if !ended => watch.on_exit(exit?),
            () = watch.live.work(), if watch.live.has_work() => {}
        }
    }
    let Phase::Ended(exit, _) = watch.phase else {
        return Err(io::Error::other("the process was left before it ended"));
    };
    let (timed_out, stopped) = (watch.timed_out, watch.stopped);
    live.finish().await;
    Ok(Finished { exit, stdout, stderr, timed_out, stopped })
}

/// Reads what is there; false at the end of the stream. Cancel safe.
async fn fill(source: &mut pipe::Receiver, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.reserve(READ_BYTES.min(bytes.capacity().max(4096) * 2));
    match Pin::new(source).read_buf(bytes).await {
        Ok(read) => Ok(read > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}
