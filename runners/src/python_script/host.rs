//! The warm interpreters of a node: one for each interpreter in use, bounded, ended when idle.
//!
//! Packs that have no virtualenv of their own share one: no pack code is in it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::Services;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::control;
use super::interpreter::{self, Interpreter};
use super::zygote::{Zygote, command};
use crate::host::PythonOptions;
use crate::process::spawn::own_environment;
use crate::process::{Pipes, Process};
use crate::runner::{Failure, Run};

/// After an interpreter could not be kept warm, it is not tried again for this long.
const RETRY: std::time::Duration = std::time::Duration::from_secs(10);

/// Starts Python processes.
#[derive(Debug)]
pub struct PythonHost {
    options: PythonOptions,
    /// The node's own interpreter, once it has been found.
    own: OnceCell<PathBuf>,
    slots: parking_lot::Mutex<HashMap<PathBuf, Arc<Mutex<Slot>>>>,
}

#[derive(Debug, Default)]
struct Slot {
    zygote: Option<Arc<Zygote>>,
    not_before: Option<Instant>,
}

/// A process that waits for its request on the control socket.
#[derive(Debug)]
pub struct Started {
    pub process: Box<dyn ProcessDebug>,
    pub pipes: Pipes,
    pub control: UnixStream,
}

/// A process that can be shown.
pub trait ProcessDebug: Process + std::fmt::Debug {}
impl<P: Process + std::fmt::Debug> ProcessDebug for P {}

impl PythonHost {
    pub fn new(options: PythonOptions) -> Self {
        Self { options, own: OnceCell::new(), slots: parking_lot::Mutex::default() }
    }

    /// The interpreter for the run's pack.
    pub async fn interpreter(&self, run: &Run<'_>, pack_directory: &Path) -> Result<Interpreter, Failure> {
        self.interpreter_of(run.services, &run.action.pack, pack_directory).await
    }

    /// The interpreter for a pack.
    pub async fn interpreter_of(
        &self,
        services: &Services,
        pack: &str,
        pack_directory: &Path,
    ) -> Result<Interpreter, Failure> {
        let virtualenv = interpreter::virtualenv(&services.settings.base_path, pack, pack_directory).await?;
        let executable = match &virtualenv {
            Some(directory) => directory.join("bin/python"),
            None => self.own().await?,
        };
        Ok(Interpreter { executable, virtualenv })
    }

    /// The node's own interpreter; looked for until it is found.
    pub async fn own(&self) -> Result<PathBuf, Failure> {
        let configured = self.options.interpreter.as_deref();
        self.own.get_or_try_init(|| interpreter::resolve(configured)).await.cloned()
    }

    /// `lib/pythonX.Y` and its `site-packages` of a virtualenv.
    pub async fn library_directories(&self, virtualenv: &Path) -> Vec<PathBuf> {
        let Ok(mut entries) = tokio::fs::read_dir(virtualenv.join("lib")).await else { return Vec::new() };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.file_name().to_string_lossy().starts_with("python3") {
                return vec![entry.path(), entry.path().join("site-packages")];
            }
        }
        Vec::new()
    }

    /// A fork of the warm interpreter, or a fresh one where there is none to be had.
    pub async fn start(&self, executable: &Path) -> Result<Started, Failure> {
        if self.options.warm
            && let Some(started) = self.start_warm(executable).await?
        {
            metrics::counter!("squall_python_starts_total", "kind" => "warm").increment(1);
            return Ok(started);
        }
        metrics::counter!("squall_python_starts_total", "kind" => "fresh").increment(1);
        self.start_fresh(executable)
    }

    /// A fresh interpreter.
    pub fn start_fresh(&self, executable: &Path) -> Result<Started, Failure> {
        let (pipes, control, [stdout, stderr, theirs]) = channels()?;
        let mut command = command(executable, &self.options.sdk_path, "once", own_environment());
        command.descriptors = vec![(stdout, 1), (stderr, 2), (theirs, 3)];
        let child = command.spawn().map_err(|error| {
            Failure::new(format!("the Python interpreter {} can't be started: {error}", executable.display()))
        })?;
        Ok(Started { process: Box::new(child), pipes, control })
    }

    /// Twice: a crash of the interpreter must not be seen.
    async fn start_warm(&self, executable: &Path) -> Result<Option<Started>, Failure> {
        for _ in 0..2 {
            let Some(zygote) = self.zygote(executable).await else { return Ok(None) };
            let (pipes, control, theirs) = channels()?;
            match zygote.fork(theirs).await {
                Ok(process) => return Ok(Some(Started { process: Box::new(process), pipes, control })),
                Err(error) => tracing::warn!(pid = zygote.pid(), %error, "a warm Python interpreter failed"),
            }
        }
        Ok(None)
    }

    async fn zygote(&self, executable: &Path) -> Option<Arc<Zygote>> {
        let slot = self.slots.lock().entry(executable.to_owned()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(zygote) = slot.zygote.as_ref().filter(|zygote| zygote.is_alive()) {
            return Some(zygote.clone());
        }
        slot.zygote = None;
        if slot.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        self.make_room(executable);
        match Zygote::start(executable, &self.options.sdk_path, &self.options.preload, own_environment()).await {
            Ok(zygote) => {
                slot.zygote = Some(zygote.clone());
                slot.not_before = None;
                Some(zygote)
            }
            Err(error) => {
                tracing::warn!(python = %executable.display(), %error, "no warm interpreter; using fresh ones");
                slot.not_before = Some(Instant::now() + RETRY);
                None
            }
        }
    }

    /// Ends those that have been idle for longest while there are too many.
    fn make_room(&self, except: &Path) {
        let mut slots = self.slots.lock();
        while slots.len() > self.options.max_zygotes.max(1) {
            let idlest = slots
                .iter()
                .filter(|(path, _)| path.as_path() != except)
                .filter_map(|(path, slot)| Some((idle(slot)?, path.clone())))
                .max();
            let Some((_, path)) = idlest else { return };
            slots.remove(&path);
        }
    }

    /// Ends interpreters that have been idle for long; called now and then by the pool.
    pub fn retire_idle(&self) {
        let limit = self.options.zygote_idle;
        self.slots.lock().retain(|_, slot| idle(slot).is_none_or(|idle| idle < limit));
    }

    /// Process ids of the warm interpreters, for tests and diagnosis.
    pub fn pids(&self) -> Vec<i32> {
        let slots = self.slots.lock();
        slots.values().filter_map(|slot| Some(slot.try_lock().ok()?.zygote.as_ref()?.pid())).collect()
    }
}

/// How long it has been idle; `None` if it is in use.
fn idle(slot: &Arc<Mutex<Slot>>) -> Option<std::time::Duration> {
    let slot = slot.try_lock().ok()?;
    match &slot.zygote {
        Some(zygote) => zygote.idle_for(),
        None => Some(std::time::Duration::MAX),
    }
}

fn channels() -> io::Result<(Pipes, UnixStream, [OwnedFd; 3])> {
    let (pipes, stdout, stderr) = Pipes::open()?;
    let (control, theirs) = control::pair()?;
    Ok((pipes, control, [stdout, stderr, theirs]))
}
