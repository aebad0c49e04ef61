//! How each sensor of this node is, for the API, the command line and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Clock, Timestamp};
use parking_lot::Mutex;
use serde::Serialize;

/// Texts of errors are cut here.
const ERROR_CHARS: usize = 2000;

/// Where a sensor's process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SensorState {
    /// Owned, but disabled, unknown, or without a valid lease.
    Idle,
    Starting,
    Running,
    /// It failed and starts again after a pause.
    BackingOff,
    /// Its `run` returned: it stays so until it is changed.
    Exited,
    Stopping,
    /// The store has seen a newer owner.
    Deposed,
}

impl SensorState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing-off",
            Self::Exited => "exited",
            Self::Stopping => "stopping",
            Self::Deposed => "deposed",
        }
    }
}

/// One sensor of this node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SensorStatus {
    #[serde(rename = "ref")]
    pub reference: String,
    /// Of the lease under which it runs.
    pub epoch: u64,
    pub pid: Option<i32>,
    pub state: SensorState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Starts after the first one, under this epoch.
    pub restarts: u64,
    pub last_error: Option<String>,
    /// Events stored.
    pub dispatched: u64,
}

/// A handle on the states of a node's sensors.
#[derive(Debug, Clone)]
pub struct SensorStates {
    clock: Arc<dyn Clock>,
    sensors: Arc<Mutex<BTreeMap<String, SensorStatus>>>,
}

impl SensorStates {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sensors: Arc::default() }
    }

    /// All sensors that this node owns, by ref.
    pub fn all(&self) -> Vec<SensorStatus> {
        self.sensors.lock().values().cloned().collect()
    }

    pub fn get(&self, reference: &str) -> Option<SensorStatus> {
        self.sensors.lock().get(reference).cloned()
    }

    pub(super) fn begin(&self, reference: &str, epoch: u64) {
        let status = SensorStatus {
            reference: reference.to_owned(),
            epoch,
            pid: None,
            state: SensorState::Idle,
            since: self.clock.now(),
            restarts: 0,
            last_error: None,
            dispatched: 0,
        };
        count(SensorState::Idle, 1.0);
        if let Some(old) = self.sensors.lock().insert(reference.to_owned(), status) {
            count(old.state, -1.0);
        }
    }

    pub(super) fn end(&self, reference: &str) {
        if let Some(old) = self.sensors.lock().remove(reference) {
            count(old.state, -1.0);
        }
    }

    /// Without a process unless one is given.
    pub(super) fn set(&self, reference: &str, state: SensorState, pid: Option<i32>) {
        let now = self.clock.now();
        if let Some(status) = self.sensors.lock().get_mut(reference) {
            if status.state != state {
                status.since = now;
                count(status.state, -1.0);
                count(state, 1.0);
            }
            status.state = state;
            status.pid = pid;
        }
    }

    pub(super) fn change(&self, reference: &str, change: impl FnOnce(&mut SensorStatus)) {
        if let Some(status) = self.sensors.lock().get_mut(reference) {
            change(status);
        }
    }

    pub(super) fn failed(&self, reference: &str, error: &str) {
        metrics::counter!("squall_sensor_failures_total", "sensor" => reference.to_owned()).increment(1);
        let error: String = error.chars().take(ERROR_CHARS).collect();
        self.change(reference, |status| status.last_error = Some(error));
    }
}

fn count(state: SensorState, change: f64) {
    metrics::gauge!("squall_sensors", "state" => state.as_str()).increment(change);
}
