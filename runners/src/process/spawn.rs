//! Starting a process by `posix_spawn` (no copy of our address space) and waiting for it by a pidfd.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Environment variables, in order of name.
pub type Environment = BTreeMap<String, String>;

/// Variables of the node's own configuration begin so; some hold secrets.
const CONFIGURATION: &str = "SQUALL_";

/// This process's environment, as far as it is text and not the node's configuration.
pub fn own_environment() -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).filter(|(name, _)| !name.starts_with(CONFIGURATION)).collect()
}

/// What to start. The program is named by its path; nothing is searched for.
#[derive(Debug)]
pub struct Command {
    pub program: String,
    /// With the name of the program first.
    pub args: Vec<String>,
    pub environment: Environment,
    /// (ours, theirs); standard input is empty if none is given. All other descriptors are closed.
    pub descriptors: Vec<(OwnedFd, RawFd)>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It is gone, but who was to reap it is gone too.
    Unknown,
}

impl Exit {
    /// The code as Python's subprocess gives it: negative for signals.
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(signal) => Some(-signal),
            Self::Unknown => None,
        }
    }

    /// From the status of `wait(2)`.
    pub const fn from_wait_status(status: i32) -> Self {
        let signal = status & 0x7f;
        if signal == 0 { Self::Code((status >> 8) & 0xff) } else { Self::Signal(signal) }
    }
}

fn c_strings(texts: impl IntoIterator<Item = String>) -> Result<Vec<CString>, NulError> {
    texts.into_iter().map(CString::new).collect()
}

impl Command {
    /// Starts it as the leader of a new session. Takes about half a millisecond of the calling thread.
    pub fn spawn(mut self) -> io::Result<Child> {
        let invalid = |error: NulError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let args = c_strings(self.args).map_err(invalid)?;
        let environment =
            c_strings(self.environment.into_iter().map(|(name, value)| format!("{name}={value}"))).map_err(invalid)?;
        if !self.descriptors.iter().any(|(_, theirs)| *theirs == 0) {
            self.descriptors.push((std::fs::File::open("/dev/null")?.into(), 0));
        }
        // Ours are 3 or above, so that no target overwrites a source that is still needed if low targets go first.
        self.descriptors.sort_by_key(|(_, theirs)| *theirs);
        let mut actions = PosixSpawnFileActions::init()?;
        for (ours, theirs) in &self.descriptors {
            actions.add_dup2(ours.as_raw_fd(), *theirs)?;
        }
        let pid = posix_spawn(self.program.as_str(), &actions, &attributes()?, &args, &environment)?;
        Child::adopt(pid.as_raw())
    }
}

/// A new session, no blocked signals, default handling of all.
fn attributes() -> nix::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    let session = PosixSpawnFlags::from_bits_retain(libc::c_int::from(libc::POSIX_SPAWN_SETSID));
    attributes.set_flags(session | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(&SigSet::empty())?;
    let mut handled = SigSet::empty();
    // Rust's start-up ignores this one; the others that we handle are reset by exec.
    handled.add(nix::sys::signal::Signal::SIGPIPE);
    attributes.set_sigdefault(&handled)?;
    Ok(attributes)
}

/// A handle on a process that works whatever becomes of its number.
#[derive(Debug)]
pub struct PidFd(AsyncFd<OwnedFd>);

impl PidFd {
    /// Fails with `ESRCH` if there is no such process any more.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "the successor is unsafe; an OwnedFd keeps its descriptor as long as it lives")]
        let handle = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self(handle))
    }

    /// Returns once the process has ended. Cancel safe.
    pub async fn ended(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}

/// A child of this process.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    handle: PidFd,
    exit: Option<Exit>,
}

impl Child {
    fn adopt(pid: i32) -> io::Result<Self> {
        // A child that ended is still there until it is waited for.
        Ok(Self { pid, handle: PidFd::open(pid)?, exit: None })
    }

    /// Also the number of its process group and session.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended, once it has. Cancel safe; may be asked again.
    pub async fn exit(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        self.handle.ended().await?;
        let exit = self.reap()?.unwrap_or(Exit::Unknown);
        self.exit = Some(exit);
        Ok(exit)
    }

    fn reap(&self) -> io::Result<Option<Exit>> {
        let id = WaitId::PidFd(self.handle.0.get_ref().as_fd());
        let status = rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
        Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }))
    }
}

impl Drop for Child {
    /// Kills what is left of it, so that nothing runs that nobody watches.
    fn drop(&mut self) {
        if self.exit.is_some() {
            return;
        }
        super::end::signal_session(self.pid, super::end::Signal::SIGKILL);
        let id = WaitId::PidFd(self.handle.0.get_ref().as_fd());
        // A killed process ends at once, unless it waits for a device: then it stays until we end.
        let _ = rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
