//! One warm interpreter: asks it to fork, and hears how its forks end (`sdk/python/squall_host/zygote.py`).

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, sendmsg, shutdown, socketpair,
};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::process::spawn::{Environment, PidFd};
use crate::process::{Child, Command, Exit, Process};

/// Where the interpreter finds its socket.
const CONTROL_FD: RawFd = 3;

/// How long an interpreter may take to be ready, or to fork.
const START: Duration = Duration::from_secs(20);

/// How long an interpreter may take to end once its socket is closed.
const END: Duration = Duration::from_secs(5);

/// How long it may take to tell how a run ended that has ended.
const TELL: Duration = Duration::from_secs(2);

const ANSWER_BYTES: usize = 13;

/// What a run waits for.
#[derive(Debug)]
struct Expected {
    started: Option<oneshot::Sender<io::Result<i32>>>,
    ended: oneshot::Sender<i32>,
}

#[derive(Debug)]
struct State {
    /// `None` once the interpreter is gone.
    expected: Option<HashMap<u64, Expected>>,
    idle_since: Instant,
}

/// A warm interpreter. Dropped, it ends, and so do its runs.
#[derive(Debug)]
pub struct Zygote {
    socket: Arc<AsyncFd<OwnedFd>>,
    state: Arc<Mutex<State>>,
    next: AtomicU64,
    pid: i32,
}

/// A run that a zygote forked.
#[derive(Debug)]
pub struct Forked {
    pid: i32,
    ended: Option<oneshot::Receiver<i32>>,
    /// Serves when the zygote is gone.
    handle: Option<PidFd>,
    exit: Option<Exit>,
    /// The interpreter lives at least as long as its runs.
    _zygote: Arc<Zygote>,
}

/// The arguments that start the SDK's host in `mode`.
pub fn command(executable: &Path, sdk: &Path, mode: &str, environment: Environment) -> Command {
    let executable = executable.to_string_lossy().into_owned();
    let main = sdk.join("squall_host").join("__main__.py").to_string_lossy().into_owned();
    let args = [executable.as_str(), "-u", "-X", "utf8", &main, mode].map(str::to_owned).to_vec();
    Command { program: executable, args, environment, descriptors: Vec::new() }
}

impl Zygote {
    /// Starts one and waits until it is ready.
    pub async fn start(
        executable: &Path,
        sdk: &Path,
        preload: &[String],
        environment: Environment,
    ) -> io::Result<Arc<Self>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let mut command = command(executable, sdk, "zygote", environment);
        command.args.extend_from_slice(preload);
        let null: OwnedFd = std::fs::OpenOptions::new().write(true).open("/dev/null")?.into();
        // Its complaints go to the node's log.
        let stderr: OwnedFd = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned()?;
        command.descriptors = vec![(null, 1), (stderr, 2), (theirs, CONTROL_FD)];
        let child = command.spawn()?;
        let pid = child.pid();
        #[expect(deprecated, reason = "the successor is unsafe; an OwnedFd keeps its descriptor as long as it lives")]
        let socket = Arc::new(AsyncFd::new(ours)?);
        let hello = tokio::time::timeout(START, receive(&socket)).await;
        match hello {
            Ok(Ok(Some((b'H', ..)))) => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => return Err(io::Error::other("the interpreter ended before it was ready")),
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the interpreter does not get ready")),
        }
        let state = State { expected: Some(HashMap::new()), idle_since: Instant::now() };
        let state = Arc::new(Mutex::new(state));
        // Ends with the socket, which is shut down when the zygote is dropped; then it reaps the interpreter.
        tokio::task::spawn(read_answers(socket.clone(), state.clone(), child));
        Ok(Arc::new(Self { socket, state, next: AtomicU64::new(1), pid }))
    }

    pub const fn pid(&self) -> i32 {
        self.pid
    }

    pub fn is_alive(&self) -> bool {
        self.state.lock().expected.is_some()
    }

    /// How long it has had no run; `None` while it has one.
    pub fn idle_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        let idle = state.expected.as_ref().is_none_or(HashMap::is_empty);
        idle.then(|| state.idle_since.elapsed())
    }

    /// Forks a run with these descriptors: stdout, stderr, control.
    pub async fn fork(self: &Arc<Self>, descriptors: [OwnedFd; 3]) -> io::Result<Forked> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (started, on_started) = oneshot::channel();
        let (ended, on_ended) = oneshot::channel();
        match self.state.lock().expected.as_mut() {
            Some(expected) => expected.insert(id, Expected { started: Some(started), ended }),
            None => return Err(gone()),
        };
        if let Err(error) = self.send(id, &descriptors).await {
            self.forget(id);
            return Err(error);
        }
        drop(descriptors);
        let pid = match tokio::time::timeout(START, on_started).await {
            Ok(Ok(started)) => started?,
            Ok(Err(_)) => return Err(gone()),
            Err(_) => {
                self.forget(id);
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the interpreter does not fork"));
            }
        };
        // One that has ended already is known by its answer.
        let handle = PidFd::open(pid).ok();
        Ok(Forked { pid, ended: Some(on_ended), handle, exit: None, _zygote: self.clone() })
    }

    fn forget(&self, id: u64) {
        if let Some(expected) = self.state.lock().expected.as_mut() {
            expected.remove(&id);
        }
    }

    async fn send(&self, id: u64, descriptors: &[OwnedFd; 3]) -> io::Result<()> {
        let raw: [RawFd; 3] = std::array::from_fn(|i| descriptors[i].as_raw_fd());
        let payload = id.to_le_bytes();
        self.socket
            .async_io(tokio::io::Interest::WRITABLE, |socket| {
                let rights = [ControlMessage::ScmRights(&raw)];
                sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&payload)], &rights, MsgFlags::MSG_NOSIGNAL, None)
                    .map_err(io::Error::from)
            })
            .await
            .map(drop)
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // The interpreter sees the end of its socket, and so does our reader.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the interpreter is gone")
}

/// Letter, id and number of the next answer; `None` once the other side has closed.
async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<(u8, u64, i32)>> {
    let mut buffer = [0; ANSWER_BYTES];
    let read = socket
        .async_io(tokio::io::Interest::READABLE, |socket| {
            recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from)
        })
        .await?;
    if read != ANSWER_BYTES {
        return Ok(None);
    }
    let (mut id, mut number) = ([0; 8], [0; 4]);
    id.copy_from_slice(&buffer[1..9]);
    number.copy_from_slice(&buffer[9..13]);
    Ok(Some((buffer[0], u64::from_le_bytes(id), i32::from_le_bytes(number))))
}

async fn read_answers(socket: Arc<AsyncFd<OwnedFd>>, state: Arc<Mutex<State>>, mut child: Child) {
    while let Ok(Some((letter, id, number))) = receive(&socket).await {
        let mut state = state.lock();
        let Some(expected) = state.expected.as_mut() else { break };
        match letter {
            b'S' => {
                let started = expected.get_mut(&id).and_then(|run| run.started.take());
                if let Some(started) = started {
                    // A run that nobody waits for any more is not left alone.
                    if started.send(Ok(number)).is_err() {
                        crate::process::signal_session(number, crate::process::end::Signal::SIGKILL);
                    }
                } else {
                    crate::process::signal_session(number, crate::process::end::Signal::SIGKILL);
                }
            }
            b'F' => {
                if let Some(started) = expected.remove(&id).and_then(|run| run.started) {
                    let _ = started.send(Err(io::Error::from_raw_os_error(number)));
                }
            }
            b'X' => {
                if let Some(run) = expected.remove(&id) {
                    let _ = run.ended.send(number);
                }
                if expected.is_empty() {
                    state.idle_since = Instant::now();
                }
            }
            _ => {}
        }
    }
    state.lock().expected = None;
    drop(socket);
    match tokio::time::timeout(END, child.exit()).await {
        Ok(Ok(exit @ Exit::Code(0))) => tracing::debug!(pid = child.pid(), ?exit, "a warm Python interpreter ended"),
        Ok(Ok(exit)) => {
            metrics::counter!("squall_python_interpreters_lost_total").increment(1);
            tracing::warn!(pid = child.pid(), ?exit, "a warm Python interpreter was lost");
        }
        _ => tracing::warn!(pid = child.pid(), "a warm Python interpreter does not end and is killed"),
    }
}

#[async_trait]
impl Process for Forked {
    fn pid(&self) -> i32 {
        self.pid
    }

    async fn exit(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        if let Some(ended) = self.ended.as_mut() {
            // A zygote that hangs must not keep us from seeing that the run is over.
            let told = match &self.handle {
                None => ended.await.ok(),
                Some(handle) => tokio::select! {
                    biased;
                    told = &mut *ended => told.ok(),
                    _ = handle.ended() => tokio::time::timeout(TELL, ended).await.ok().and_then(Result::ok),
                },
            };
            self.ended = None;
            if let Some(status) = told {
                return Ok(*self.exit.insert(Exit::from_wait_status(status)));
            }
        }
        if let Some(handle) = &self.handle {
            handle.ended().await?;
        }
        Ok(*self.exit.insert(Exit::Unknown))
    }
}

impl Drop for Forked {
    /// Kills what is left of it, so that nothing runs that nobody watches.
    fn drop(&mut self) {
        if self.exit.is_none() {
            crate::process::signal_session(self.pid, crate::process::end::Signal::SIGKILL);
        }
    }
}
