//! A server process: started, stopped, killed, paused, started again.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

const STEP: Duration = Duration::from_millis(20);
const STOP: Duration = Duration::from_secs(20);

/// A directory of its own for a server of this test process, below the checkout's `target/servers/private`.
pub fn private_dir(name: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let base = match std::env::var_os("SQUALL_TEST_SERVERS_DIR") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers"),
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = base.join("private").join(format!("{name}-{}-{count}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
    Ok(fs::canonicalize(dir)?)
}

/// Polls until `condition` holds.
pub fn wait_for(what: &str, within: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + within;
    loop {
        let outcome = condition();
        match outcome {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() > end => bail!("{what}: not within {within:?}"),
            Err(error) if Instant::now() > end => return Err(error.context(format!("{what}: not within {within:?}"))),
            _ => std::thread::sleep(STEP),
        }
    }
}

pub(crate) fn listens(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// One child process, the leader of its own process group; output goes to `<dir>/log`, its number to `<dir>/pid`.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    dir: PathBuf,
    child: Option<Child>,
    /// Left running, with its data, when this value is dropped.
    kept: bool,
}

impl Process {
    /// `dir` holds everything of this server; nothing runs yet.
    pub fn new(name: &'static str, dir: &Path) -> Self {
        Self { name, dir: dir.to_owned(), child: None, kept: false }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Starts it and waits until `ready`.
    pub fn start(
        &mut self,
        command: &mut Command,
        within: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("can't start {}", self.name))?;
        fs::write(self.dir.join("pid"), child.id().to_string())?;
        self.child = Some(child);
        let (name, log) = (self.name, self.log());
        let mut ended = None;
        wait_for(&format!("{name} becomes ready (see {})", log.display()), within, || {
            ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() { Ok(true) } else { ready() }
        })?;
        if let Some(status) = ended {
            self.child = None;
            let text = fs::read_to_string(log).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(5).collect();
            bail!("{name} ended ({status}): {}", last.join(" / "));
        }
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = self.pid() else { bail!("{} isn't running", self.name) };
        killpg(Pid::from_raw(pid as i32), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// SIGTERM, then waits for its end; SIGKILL after 20 s.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// SIGINT: PostgreSQL's "fast" shutdown.
    pub(crate) fn interrupt(&mut self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(signal)?;
        let ended = wait_for(self.name, STOP, || {
            Ok(self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_)))))
        });
        if ended.is_err() {
            return self.kill();
        }
        self.child = None;
        Ok(())
    }

    /// SIGKILL to the whole group.
    pub fn kill(&mut self) -> Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::SIGKILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// SIGSTOP: alive, but silent. Returns once all of its threads stand still: the signal takes a moment to reach
    /// them, in which they could still answer.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let group = self.pid().unwrap_or_default();
        wait_for(self.name, STOP, || Ok(stands_still(group)))
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Leaves it running when this value is dropped; [`sweep`] ends it.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Best effort: a test is over, and `sweep` looks again.
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Ends everything that was started below `dir` and still runs. A process is known by its number in a file `pid` and
/// by naming the directory in its command line or environment, so that a number that was given anew is left alone.
pub fn sweep(dir: &Path) -> Result<()> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if entry.file_name() == "pid" {
                end(&folder, &entry.path())?;
            }
        }
    }
    Ok(())
}

fn end(folder: &Path, file: &Path) -> Result<()> {
    let Ok(pid) = fs::read_to_string(file)?.trim().parse::<i32>() else { return Ok(()) };
    let runs = |pid: i32| {
        ["cmdline", "environ"].iter().any(|what| {
            let text = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&*folder.to_string_lossy())
        })
    };
    if !runs(pid) {
        fs::remove_file(file)?;
        return Ok(());
    }
    // Paused ones don't hear anything else.
    let _ = killpg(Pid::from_raw(pid), Signal::SIGCONT);
    let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
    if wait_for("end", Duration::from_secs(10), || Ok(!runs(pid))).is_err() {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    fs::remove_file(file)?;
    Ok(())
}

/// Whether no thread of a process group runs or could.
fn stands_still(group: u32) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let of_group = processes.flatten().map(|entry| entry.path()).filter(|path| {
        // After the name: state, parent, group.
        stat(path).is_some_and(|fields| fields.get(2).is_some_and(|field| *field == group.to_string()))
    });
    of_group.flat_map(|process| fs::read_dir(process.join("task")).into_iter().flatten().flatten()).all(|thread| {
        // A thread that is gone by now doesn't run either.
        stat(&thread.path()).is_none_or(|fields| fields.first().is_some_and(|state| "TtZX".contains(state.as_str())))
    })
}

/// What `/proc/…/stat` says after the name.
fn stat(path: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(path.join("stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
