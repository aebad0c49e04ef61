//! Keeps one sensor while this node owns it under one epoch: starts its process, starts it anew, stops it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::triggers::Dispatch;
use model::{Id, Lease, TriggerInstance};
use serde_json::{Value, json};
use store::{Batch, Fence, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::dispatching::{Dispatcher, Refusal};
use super::files::Files;
use super::known::{Known, Spec, Triggers};
use super::launch::{Launched, Launcher};
use super::output::{self, Stream, Tail};
use super::respawn::{Next, Respawn};
use super::talk::{Heed, Talk, monotonic};
use super::{Owned, SensorState, SensorStates};
use crate::process::end::Signal;
use crate::process::{Exit, Process, signal_session};
use domain::Services;

/// Between attempts to raise the fence while the store is away.
const RETRY: Duration = Duration::from_millis(200);
/// How long what a process said before it ended may take to be read and stored.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a lease that ended because it was not renewed is waited for: it may come back under the same epoch.
const LAPSE: Duration = Duration::from_secs(2);
/// How long a killed process may take to go.
const GIVE_UP: Duration = Duration::from_secs(10);

/// What keepers of a node share.
pub struct Shared {
    pub services: Arc<Services>,
    pub launcher: Arc<Launcher>,
    pub states: SensorStates,
    pub known: watch::Receiver<Arc<Known>>,
    pub triggers: watch::Receiver<Triggers>,
    /// Events about processes, that nothing waits for.
    pub notices: mpsc::Sender<Dispatch>,
    /// How the only sensor of its node ended.
    pub last: watch::Sender<Option<i32>>,
}

/// Keeps one sensor under one epoch.
pub struct Keeper {
    shared: Arc<Shared>,
    reference: String,
    epoch: u64,
    owned: watch::Receiver<Owned>,
    /// False once nobody can renew the lease any more.
    has_owner: bool,
    known: watch::Receiver<Arc<Known>>,
    stop: CancellationToken,
    /// When the process has to be gone: the end of the lease, less the margin.
    until: watch::Sender<Instant>,
    respawn: Respawn,
    /// The spec whose process ended as it meant to.
    finished: Option<Id>,
    /// No start of this spec before then.
    pause: Option<(Id, Instant)>,
    deposed: bool,
}

/// How a keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// This node no longer runs the sensor, and the group may wait to hear that.
    Release,
    /// The epoch is over for everybody.
    Replaced,
    /// A process may be left: the lease has to end by itself.
    Unclean,
}

/// Why a process has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// This node gives the sensor up.
    Leave,
    /// The lease is over: at once.
    Kill,
    /// The sensor was changed or disabled.
    Change,
}

/// How the life of a process ended.
enum End {
    Ordered(Order),
    Exited(Exit, Duration, Option<String>),
    Failed(String),
    Deposed,
}

impl Keeper {
    pub fn new(
        shared: Arc<Shared>,
        reference: String,
        lease: Lease,
        owned: watch::Receiver<Owned>,
        stop: CancellationToken,
    ) -> Self {
        let (until, _) = watch::channel(lease.valid_until);
        let respawn = Respawn::new(shared.launcher.options.respawn);
        let known = shared.known.clone();
        let mut keeper = Self {
            shared,
            reference,
            epoch: lease.epoch,
            owned,
            has_owner: true,
            known,
            stop,
            until,
            respawn,
            finished: None,
            pause: None,
            deposed: false,
        };
        keeper.note(lease);
        keeper
    }

    /// Until the lease leaves the watch for good or the container stops.
    pub async fn run(mut self) -> Farewell {
        self.shared.states.begin(&self.reference, self.epoch);
        let mut clean = true;
        while let Some(spec) = self.next_spec().await {
            let (end, gone) = self.live(&spec).await;
            clean = gone;
            self.judge(&spec, end);
        }
        self.shared.states.end(&self.reference);
        match clean {
            false => Farewell::Unclean,
            true if self.is_replaced() => Farewell::Replaced,
            true => Farewell::Release,
        }
    }

    /// The sensor as it is to be started now; `None` when this node gives it up.
    async fn next_spec(&mut self) -> Option<Arc<Spec>> {
        loop {
            if !self.is_owned() {
                let end = self.valid_until() + LAPSE;
                let now = Instant::now();
                if self.is_replaced() || self.stop.is_cancelled() || now < self.valid_until() || now >= end {
                    return None;
                }
                self.wait(Some(end)).await;
                continue;
            }
            let spec = self.known.borrow_and_update().specs.get(&self.reference).cloned();
            let now = Instant::now();
            let mut wake = None;
            if let Some(spec) = spec {
                let waits = self.pause.filter(|(stamp, at)| *stamp == spec.stamp && *at > now).map(|(_, at)| at);
                if self.finished == Some(spec.stamp) || self.deposed {
                } else if let Some(at) = waits {
                    wake = Some(at);
                } else if now < *self.until.borrow() {
                    if self.pause.is_some_and(|(stamp, _)| stamp != spec.stamp) {
                        self.respawn.forget();
                    }
                    return Some(spec);
                }
            } else {
                self.shared.states.set(&self.reference, SensorState::Idle, None);
                (self.pause, self.finished) = (None, None);
            }
            self.wait(wake).await;
        }
    }

    /// Waits for news of the lease or of the sensor, at most until `wake`.
    async fn wait(&mut self, wake: Option<Instant>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            changed = self.owned.changed(), if self.has_owner => self.has_owner = changed.is_ok(),
            Ok(()) = self.known.changed() => {}
            () = sleep_until(wake), if wake.is_some() => {}
            // Without a sender of either watch only the container's end is left to wait for.
            else => self.stop.cancelled().await,
        }
    }

    /// Takes over the lease as it is now; false if this epoch's is gone.
    fn is_owned(&mut self) -> bool {
        let lease = self.owned.borrow_and_update().get(&self.reference).copied();
        match lease.filter(|lease| lease.epoch == self.epoch) {
            Some(lease) => {
                self.note(lease);
                !self.stop.is_cancelled()
            }
            None => false,
        }
    }

    /// Whether this node has the sensor under another epoch now.
    fn is_replaced(&self) -> bool {
        self.owned.borrow().get(&self.reference).is_some_and(|lease| lease.epoch != self.epoch)
    }

    /// The end of the last lease that was seen.
    fn valid_until(&self) -> Instant {
        *self.until.borrow() + self.shared.launcher.options.kill_margin
    }

    fn note(&mut self, lease: Lease) {
        let margin = self.shared.launcher.options.kill_margin;
        // An instant that lies before the machine's start can't be told; then there is no margin either.
        let until = lease.valid_until.checked_sub(margin).unwrap_or(lease.valid_until);
        self.until.send_if_modified(|current| {
            let differs = *current != until;
            *current = until;
            differs
        });
    }

    /// What came of a process decides what comes next.
    fn judge(&mut self, spec: &Spec, end: End) {
        let states = &self.shared.states;
        let name = &self.reference;
        let pause = match end {
            End::Ordered(order) => {
                if order == Order::Change {
                    self.respawn.forget();
                    (self.pause, self.finished) = (None, None);
                }
                states.set(name, SensorState::Idle, None);
                return;
            }
            End::Deposed => {
                tracing::warn!(sensor = name, epoch = self.epoch, "the store has seen a newer owner of the sensor");
                self.deposed = true;
                states.failed(name, "the store has seen a newer owner");
                states.set(name, SensorState::Deposed, None);
                return;
            }
            End::Exited(exit, lived, stderr) => {
                self.announce_exit(spec, exit);
                if self.is_only() {
                    states.failed(name, &death(exit, stderr));
                    self.shared.last.send_replace(Some(exit_code(exit)));
                    self.finished = Some(spec.stamp);
                    return;
                }
                match self.respawn.on_exit(exit, lived) {
                    Next::Rest => {
                        tracing::warn!(sensor = name, "the sensor ended by itself; it rests until it is changed");
                        self.finished = Some(spec.stamp);
                        states.set(name, SensorState::Exited, None);
                        return;
                    }
                    Next::After(pause) => {
                        states.failed(name, &death(exit, stderr));
                        pause
                    }
                }
            }
            End::Failed(error) => {
                states.failed(name, &error);
                if self.is_only() {
                    self.shared.last.send_replace(Some(1));
                    self.finished = Some(spec.stamp);
                    return;
                }
                self.respawn.on_failure()
            }
        };
        let error = states.get(name).and_then(|status| status.last_error).unwrap_or_default();
        tracing::warn!(
            sensor = name,
            failures = self.respawn.failures(),
            pause_seconds = pause.as_secs_f64(),
            error,
            "the sensor failed and starts again after a pause"
        );
        states.set(name, SensorState::BackingOff, None);
        states.change(name, |status| status.restarts += 1);
        self.pause = Some((spec.stamp, Instant::now() + pause));
    }

    fn is_only(&self) -> bool {
        self.shared.launcher.options.only.is_some()
    }

    /// One process from its start to its end; false if it may still be there.
    async fn live(&mut self, spec: &Arc<Spec>) -> (End, bool) {
        self.shared.states.set(&self.reference, SensorState::Starting, None);
        let shared = self.shared.clone();
        let fence = self.fence();
        let until = self.until.clone();
        let start = async {
            raise(&shared.services, &fence).await?;
            let told = *until.borrow() + shared.launcher.options.kill_margin;
            let launched = shared.launcher.launch(&shared.services, spec, monotonic(told)).await;
            Ok::<_, End>((launched.map_err(|failure| End::Failed(failure.0))?, told))
        };
        let launched = tokio::select! {
            launched = start => launched,
            order = self.order(spec, None) => Err(End::Ordered(order)),
        };
        match launched {
            Ok((launched, told)) => self.attend(spec, launched, told).await,
            Err(end) => (end, true),
        }
    }

    fn fence(&self) -> Fence {
        Fence { name: format!("sensor:{}", self.reference), epoch: self.epoch }
    }

    /// Watches a running process.
    async fn attend(&mut self, spec: &Arc<Spec>, launched: Launched, told: Instant) -> (End, bool) {
        let Launched { started, start, command, mut files } = launched;
        let mut process = started.process;
        let pid = process.pid();
        let began = Instant::now();
        let states = self.shared.states.clone();
        states.set(&self.reference, SensorState::Starting, Some(pid));
        self.announce_spawn(spec, pid, &command);
        let tail = Tail::default();
        let mut streams = JoinSet::new();
        let (stdout, stderr) = started.pipes.into_parts();
        let (sensor, out_tail, err_tail) = (self.reference.clone(), tail.clone(), tail.clone());
        let err_sensor = sensor.clone();
        streams.spawn(async move { output::copy(stdout, Stream::Stdout, &sensor, &out_tail).await });
        streams.spawn(async move { output::copy(stderr, Stream::Stderr, &err_sensor, &err_tail).await });
        let (heed, mut heeds) = mpsc::channel(16);
        let (told, believes) = watch::channel(told);
        let talk = Talking(tokio::task::spawn(self.talk(spec, heed, told).run(started.control, start)));
        let end = loop {
            let order = tokio::select! {
                exit = process.exit() => {
                    let exit = exit.unwrap_or(Exit::Unknown);
                    if matches!(exit, Exit::Signal(libc::SIGKILL) | Exit::Unknown) && *believes.borrow() <= Instant::now() {
                        tracing::info!(sensor = self.reference, pid, "the sensor's process ended with its lease");
                        break End::Ordered(Order::Kill);
                    }
                    break self.exited(exit, began, talk, streams, &tail).await;
                }
                order = self.order(spec, Some(&mut files)) => order,
                Some(heed) = heeds.recv() => match heed {
                    Heed::Ready => {
                        states.set(&self.reference, SensorState::Running, Some(pid));
                        continue;
                    }
                    Heed::Files(paths) => {
                        files = add_files(files, paths).await;
                        continue;
                    }
                    Heed::Refused(refusal) => {
                        let gone = kill(process.as_mut()).await;
                        let end = match refusal {
                            Refusal::Deposed => End::Deposed,
                            Refusal::LeaseOver => End::Ordered(Order::Kill),
                        };
                        return (end, gone);
                    }
                    Heed::Failed(error) => return (End::Failed(error), kill(process.as_mut()).await),
                },
            };
            states.set(&self.reference, SensorState::Stopping, Some(pid));
            tracing::debug!(sensor = self.reference, pid, ?order, "the sensor's process is ended");
            let gone =
                if order == Order::Kill { kill(process.as_mut()).await } else { self.ask(process.as_mut()).await };
            drop(talk);
            return (End::Ordered(order), gone);
        };
        (end, true)
    }

    fn talk(&self, spec: &Spec, heed: mpsc::Sender<Heed>, told: watch::Sender<Instant>) -> Talk {
        let dispatcher =
            Dispatcher { services: self.shared.services.clone(), fence: self.fence(), until: self.until.subscribe() };
        Talk {
            launcher: self.shared.launcher.clone(),
            dispatcher,
            states: self.shared.states.clone(),
            reference: self.reference.clone(),
            sensor: spec.row.id,
            types: spec.row.trigger_types.clone(),
            triggers: self.shared.triggers.clone(),
            heed,
            told,
            margin: self.shared.launcher.options.kill_margin,
        }
    }

    /// It ended by itself: what it said before that counts, while the lease lasts.
    async fn exited(
        &self,
        exit: Exit,
        began: Instant,
        mut talk: Talking,
        mut streams: JoinSet<()>,
        tail: &Tail,
    ) -> End {
        let limit = (Instant::now() + LAST_WORDS).min(*self.until.borrow());
        let all_said = async {
            let _ = (&mut talk.0).await;
            while streams.join_next().await.is_some() {}
        };
        let _ = tokio::time::timeout_at(limit.into(), all_said).await;
        End::Exited(exit, began.elapsed(), tail.last())
    }

    /// Returns when the process has to end. Cancel safe.
    async fn order(&mut self, spec: &Spec, mut files: Option<&mut Files>) -> Order {
        loop {
            if !self.is_owned() {
                // Under another epoch it is this node's again: the sooner this process is gone, the better.
                let at_once = self.is_replaced() || Instant::now() >= self.valid_until();
                return if at_once { Order::Kill } else { Order::Leave };
            }
            let until = *self.until.borrow();
            if Instant::now() >= until {
                return Order::Kill;
            }
            let current = self.known.borrow_and_update().clone();
            if current.specs.get(&self.reference).is_none_or(|now| now.stamp != spec.stamp) {
                return Order::Change;
            }
            if let Some(files) = files.as_deref_mut()
                && let Some(path) = changed_file(files, current.round).await
            {
                tracing::info!(sensor = self.reference, file = %path.display(), "the sensor's code changed");
                return Order::Change;
            }
            let wake = self.until.borrow().to_owned();
            tokio::select! {
                () = self.stop.cancelled() => {}
                changed = self.owned.changed(), if self.has_owner => self.has_owner = changed.is_ok(),
                Ok(()) = self.known.changed() => {}
                () = sleep_until(Some(wake)) => {}
            }
        }
    }

    /// SIGTERM, and SIGKILL after the grace or when the lease ends, whichever comes first.
    async fn ask(&mut self, process: &mut dyn Process) -> bool {
        let pid = process.pid();
        signal_session(pid, Signal::SIGTERM);
        // One that was stopped can't hear it otherwise.
        signal_session(pid, Signal::SIGCONT);
        let deadline = Instant::now() + self.shared.launcher.options.stop_grace;
        loop {
            let kill_at = deadline.min(*self.until.borrow());
            tokio::select! {
                _ = process.exit() => {
                    // Descendants that did not mind SIGTERM go with it.
                    signal_session(pid, Signal::SIGKILL);
                    return true;
                }
                changed = self.owned.changed(), if self.has_owner => {
                    self.has_owner = changed.is_ok();
                    self.is_owned();
                }
                () = sleep_until(Some(kill_at)) => return kill(process).await,
            }
        }
    }

    fn announce_spawn(&self, spec: &Spec, pid: i32, command: &str) {
        self.announce("core.st2.sensor.process_spawn", spec, json!({"pid": pid, "cmd": command}));
    }

    fn announce_exit(&self, spec: &Spec, exit: Exit) {
        self.announce("core.st2.sensor.process_exit", spec, json!({"exit_code": exit.code()}));
    }

    /// `core.st2.sensor.…` (spec/rules.md §2).
    fn announce(&self, trigger: &str, spec: &Spec, mut payload: Value) {
        let now = self.shared.services.now();
        payload["id"] = spec.row.name.as_str().into();
        payload["timestamp"] = (now.micros() / 1_000_000).into();
        let event = Dispatch {
            trigger: trigger.to_owned(),
            payload,
            occurrence_time: now,
            id: None,
            trace_context: None,
            validate: false,
            fence: None,
        };
        if self.shared.notices.try_send(event).is_err() {
            tracing::debug!(sensor = self.reference, trigger, "too many notices wait; this one is left out");
        }
    }
}

/// A conversation that ends with whoever holds it.
struct Talking(JoinHandle<()>);

impl Drop for Talking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets the store know the new owner before it does anything: from then on it refuses the one before.
async fn raise(services: &Services, fence: &Fence) -> Result<(), End> {
    loop {
        let mut batch = Batch::under(fence.clone());
        // Changes nothing: there is no such document. An adapter may take an empty batch for nothing to do.
        batch.delete::<TriggerInstance>(Id::of_content(fence.name.as_bytes()), None);
        match services.store.commit(batch).await {
            Ok(_) => return Ok(()),
            Err(StoreError::StaleFence { .. }) => return Err(End::Deposed),
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(End::Failed(error.to_string())),
        }
    }
}

async fn kill(process: &mut dyn Process) -> bool {
    let pid = process.pid();
    signal_session(pid, Signal::SIGKILL);
    let gone = tokio::time::timeout(GIVE_UP, process.exit()).await.is_ok();
    if !gone {
        tracing::error!(pid, "the sensor's process does not end on SIGKILL and is left behind");
    }
    gone
}

async fn add_files(mut files: Files, paths: Vec<std::path::PathBuf>) -> Files {
    let added = tokio::task::spawn_blocking(move || {
        files.add(paths);
        files
    });
    added.await.unwrap_or_default()
}

/// Looks once in each round.
async fn changed_file(files: &mut Files, round: u64) -> Option<std::path::PathBuf> {
    if files.round == round {
        return None;
    }
    // A copy, so that nothing is lost when this is canceled.
    let mut looked_at = files.clone();
    let look = tokio::task::spawn_blocking(move || {
        let changed = looked_at.have_changed();
        (looked_at, changed)
    });
    let (looked_at, changed) = look.await.ok()?;
    *files = looked_at;
    files.round = round;
    changed
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// As shells tell it.
const fn exit_code(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
        Exit::Unknown => 1,
    }
}

fn death(exit: Exit, stderr: Option<String>) -> String {
    let how = match exit {
        Exit::Code(code) => format!("the process ended with exit code {code}"),
        Exit::Signal(signal) => format!("the process was killed by signal {signal}"),
        Exit::Unknown => "the process ended".to_owned(),
    };
    match stderr {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}
