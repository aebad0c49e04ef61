//! What callers ask of the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Lease, Session};
use tokio::sync::watch;

use super::{Core, Group, timed_out, unexpected};
use crate::error::RaftError;
use crate::state::{Command, DutyState, Refusal, Response, Secret};

/// How long [`Group::drain`] waits for its duties to be held elsewhere.
const HAND_OVER: Duration = Duration::from_secs(1);

impl Group {
    /// Sets which sensors (by reference) shall run somewhere; those that aren't among them stop. Any node may say it,
    /// when the content has changed; saying it again changes nothing.
    pub async fn want_sensors(
        &self,
        refs: BTreeSet<String>,
        pins: BTreeMap<String, BTreeSet<String>>,
    ) -> Result<(), RaftError> {
        let deadline = Instant::now() + self.inner.options.request_timeout;
        let mut changed = self.changes();
        loop {
            changed.borrow_and_update();
            let revision = self.inner.live_core()?.reader.with(|applied| applied.state.sensor_revision);
            match self.inner.propose(Command::WantSensors { revision, refs: refs.clone(), pins: pins.clone() }).await {
                Ok(_) => return Ok(()),
                // Somebody was faster, or this node's copy lags.
                Err(RaftError::Refused(Refusal::OutOfDate)) => {
                    let heard = tokio::time::timeout_at(deadline.into(), changed.changed()).await;
                    heard
                        .map_err(|_| timed_out(self.inner.options.request_timeout))?
                        .map_err(|_| RaftError::Stopped)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The sensors that are wanted now, as far as this node knows.
    pub fn wanted_sensors(&self) -> BTreeSet<String> {
        let core = self.inner.core.read().clone();
        core.map(|core| core.reader.with(|applied| applied.state.wanted_sensors().cloned().collect()))
            .unwrap_or_default()
    }

    /// The sensors that this node is to run, and until when it may. One that shall run elsewhere, or nowhere,
    /// disappears: stop it and call [`release_sensor`](Self::release_sensor). Every renewal changes the value, as that
    /// of [`duty`](Self::duty).
    pub fn sensors(&self) -> watch::Receiver<Arc<BTreeMap<String, Lease>>> {
        self.inner.sensors.subscribe()
    }

    /// Says that this node has stopped a sensor that it ran under this epoch; the next owner starts it at once. From
    /// the call on, this node doesn't own it under that epoch any more, even if nobody else wants it; when the call fails,
    /// it is repeated by itself. Without the call the sensor passes on once its last lease is over.
    ///
    /// # Errors
    /// [`Refusal::SensorNotHeld`] when it was given away before: nothing is left
    /// to do.
    pub async fn release_sensor(&self, sensor: &str, epoch: u64) -> Result<(), RaftError> {
        let node = self.inner.identity.node_id;
        self.inner.given_up.lock().sensor(sensor, epoch);
        self.inner.told.rights.send_modify(|count| *count = count.wrapping_add(1));
        let command = Command::ReleaseSensor { sensor: sensor.to_owned(), node, epoch };
        self.inner.propose(command).await.map(|_| ())
    }

    /// Agrees on a value for the whole cluster, once and for ever: the first proposal under a name wins, and everybody
    /// gets that. For secrets of at most 16 KiB; at most 64 names. Values appear in no log and no status.
    pub async fn agree(&self, name: &str, proposal: Vec<u8>) -> Result<Vec<u8>, RaftError> {
        let command = Command::Agree { name: name.to_owned(), value: Secret::new(proposal) };
        match self.inner.propose(command).await? {
            Response::Agreed(value) => Ok(value.into_bytes()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the content with this hash the desired one, if the revision is still `expected` (0: none yet; `None`:
    /// whatever it is); gives the new revision. The current hash again changes nothing, whatever was expected.
    ///
    /// # Errors
    /// [`Refusal::ContentMoved`] when somebody else was faster.
    pub async fn advance_content(&self, expected: impl Into<Option<u64>>, hash: &str) -> Result<u64, RaftError> {
        let hash = hash.to_owned();
        let command = match expected.into() {
            Some(expected) => Command::SetContent { expected, hash },
            None => Command::AdvanceContent { hash },
        };
        match self.inner.propose(command).await? {
            Response::Content { revision } => Ok(revision),
            other => Err(unexpected(&other)),
        }
    }

    /// This node hands over what it holds and is given nothing new; its session lives on. For a planned stop: call it
    /// first, go on with what is running, then [`shutdown`](Self::shutdown). Duties disappear from
    /// [`duty`](Self::duty) and are held elsewhere at once; sensors disappear from [`sensors`](Self::sensors) and must
    /// be released. Returns when the duties are elsewhere, at most a second later. Where no other node could take over, this one keeps what it has. Can be repeated; ends with the
    /// session.
    pub async fn drain(&self) -> Result<(), RaftError> {
        let epoch = self.inner.session.borrow().as_ref().map(|session| session.epoch).ok_or(RaftError::NoSession)?;
        let node = self.inner.identity.node_id;
        let mut changed = self.inner.told.rights.subscribe();
        self.inner.propose(Command::DrainSession { node, epoch }).await?;
        let leaving = || {
            let core = self.inner.core.read().clone();
            let look = |core: Arc<Core>| {
                core.reader.with(|applied| {
                    let mine = |duty: &DutyState| duty.holder.is_some_and(|holder| holder.node == node);
                    applied.state.duties.values().any(|duty| mine(duty) && duty.wanted_by.is_some())
                })
            };
            core.is_some_and(look)
        };
        let left = async { while leaving() && changed.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(HAND_OVER, left).await;
        Ok(())
    }

    /// Proposes a command.
    pub(crate) async fn call(&self, command: Command) -> Result<Response, RaftError> {
        self.inner.propose(command).await
    }

    /// Grants of permits to requests that waited, from now on.
    pub(crate) fn grants(&self) -> Box<dyn coordinator::Grants> {
        self.inner.told.grants.listen()
    }

    /// The cluster's name for itself, given at its beginning.
    pub fn cluster_id(&self) -> &str {
        &self.inner.identity.cluster_id
    }

    /// The sessions of all nodes that have not ended, as this node knows them. None while it isn't sure of its own.
    pub fn live_sessions(&self) -> Option<Vec<Session>> {
        self.check().ok()?;
        let core = self.inner.core.read().clone()?;
        core.reader.with(|applied| {
            let sessions = applied.state.sessions.values();
            Some(sessions.map(|session| Session { node: session.name.clone(), epoch: session.epoch }).collect())
        })
    }
}
