//! Keeps this node's session: registers, renews, hands over, and reopens the log after a storage failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Duty;
use tokio::sync::watch;

use super::leases::{GivenUp, Renewed};
use super::{Core, Inner, slot};
use crate::error::RaftError;
use crate::state::{Claim, Command, NodeId, Refusal, Response, State};

/// Pause before a failed registration or renewal is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// First and longest pause before the log is opened again.
const REOPEN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long another node may take to become the leader at shutdown.
const HANDOVER: Duration = Duration::from_millis(500);
/// How long the end of the session may take at shutdown.
const GOODBYE: Duration = Duration::from_secs(1);

pub async fn run(inner: Arc<Inner>) {
    let mut keeper = Keeper {
        inner: inner.clone(),
        epoch: None,
        sent: None,
        pause: REOPEN.0,
        patience: inner.options.renew_every(),
        claim: None,
    };
    loop {
        let outcome = tokio::select! {
            () = inner.cancel.cancelled() => break,
            outcome = keeper.step() => outcome,
        };
        match outcome {
            Ok(()) => {}
            // Not cut off by a shutdown: a half-opened log would keep the file in use.
            Err(RaftError::Storage(reason)) => keeper.reopen(reason).await,
            Err(RaftError::Removed) => keeper.removed().await,
            Err(error) => {
                tracing::debug!(%error, "the session can't be kept at the moment");
                keeper.pause(RETRY).await;
            }
        }
    }
    keeper.leave().await;
}

/// A duty of this node that another one is to have, or that it has given up already (the command may have been lost);
/// its epoch, and how to say that it has stopped.
pub fn to_release(state: &State, me: NodeId, given_up: &GivenUp) -> Option<(Duty, u64, Command)> {
    let (&duty, held) = state.duties.iter().find(|(duty, held)| {
        let mine = held.holder.is_some_and(|holder| holder.node == me);
        mine && (held.wanted_by.is_some() || held.epoch <= given_up.duties[slot(**duty)])
    })?;
    let (node, epoch) = (me, held.epoch);
    let command = if state.agreed_version() >= 2 {
        Command::YieldDuty { duty, node, epoch }
    } else {
        Command::ReleaseDuty { duty, node, epoch }
    };
    Some((duty, epoch, command))
}

struct Keeper {
    inner: Arc<Inner>,
    /// The session that this process registered.
    epoch: Option<u64>,
    /// When its last accepted renewal was sent.
    sent: Option<Instant>,
    pause: Duration,
    /// How long a renewal may take.
    patience: Duration,
    /// The registration that is being tried, and when it was first sent.
    claim: Option<(Claim, Instant)>,
}

/// Whether a session of this node has ended, as far as its copy of the state knows; a copy that lags hasn't heard of a
/// new session yet.
pub fn is_over(state: &State, me: NodeId, epoch: u64) -> bool {
    state.last_session_epoch >= epoch && !state.is_live(me, epoch)
}

impl Keeper {
    /// Does what is due, or waits for the next thing.
    async fn step(&mut self) -> Result<(), RaftError> {
        let mut changed = self.inner.told.rights.subscribe();
        changed.borrow_and_update();
        if self.inner.is_removed() {
            return Err(RaftError::Removed);
        }
        let core = self.inner.live_core()?;
        if let Some(failure) = core.failure() {
            return Err(failure);
        }
        let me = self.inner.identity.node_id;
        let over = |&epoch: &u64| core.reader.with(|applied| is_over(&applied.state, me, epoch));
        let Some(epoch) = self.epoch.filter(|epoch| !over(epoch)) else {
            let mut begun = self.inner.begun.subscribe();
            if *begun.borrow_and_update() {
                return self.register(&core, &mut changed).await;
            }
            drop(core);
            tokio::select! {
                _ = begun.changed() => {}
                _ = changed.changed() => {}
                () = self.inner.broken.notified() => {}
            }
            return Ok(());
        };
        let due = self.sent.map_or_else(Instant::now, |sent| sent + self.inner.options.renew_every());
        if due <= Instant::now() {
            self.renew(&core, epoch).await?;
            return self.release_sensors(&core).await;
        }
        if self.describe(&core, epoch).await? || self.hand_over(&core).await? {
            return Ok(());
        }
        drop(core);
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            _ = changed.changed() => {}
            () = self.inner.broken.notified() => {}
        }
        Ok(())
    }

    /// Says so, until somebody stops this node.
    async fn removed(&mut self) {
        self.epoch = None;
        self.inner.set_removed();
        if let Ok(core) = self.inner.live_core() {
            core.raft.runtime_config().elect(false);
        }
        let text = RaftError::Removed.to_string();
        if self.inner.trouble.lock().replace(text.clone()).as_ref() != Some(&text) {
            tracing::error!("{text}");
        }
        self.pause(REOPEN.1).await;
    }

    /// Sleeps, unless the group stops.
    async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = self.inner.cancel.cancelled() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }

    async fn register(&mut self, core: &Core, changed: &mut watch::Receiver<u64>) -> Result<(), RaftError> {
        self.epoch = None;
        // A new session gives the old one's rights away at once.
        self.inner.show_nothing();
        let options = &self.inner.options;
        let node = self.inner.identity.node_id;
        let (ttl_ms, lease_ms) = options.limits_ms();
        let (agreed, known) = core.reader.with(|applied| {
            let known = applied.state.sessions.get(&node).map_or(0, |session| session.epoch);
            (applied.state.agreed_version(), known)
        });
        // The same over all repeats, until this node learns of another session of its own.
        let claim = self.claim.filter(|(claim, _)| claim.after >= known);
        let fresh = || (Claim { after: known, nonce: rand::random::<u64>().max(1) }, Instant::now());
        let (claim, sent) = claim.unwrap_or_else(fresh);
        self.claim = Some((claim, sent));
        let command = Command::RegisterSession {
            node,
            name: options.node_name.clone(),
            roles: options.roles.clone(),
            duties: options.duties.clone(),
            ttl_ms,
            // Version 1 knows only one limit; `describe` makes up for it.
            lease_ms: if agreed >= 2 { lease_ms } else { 0 },
            claim: (agreed >= 2).then_some(claim),
        };
        match core.propose(command, options.request_timeout).await? {
            Response::Session { epoch } => {
                self.epoch = Some(epoch);
                self.claim = None;
                // From the first of the repeats: it may have been that which was applied.
                self.accepted(epoch, Some(0), sent);
                Ok(())
            }
            // This node's copy lags behind its own former session.
            Response::Refused(Refusal::OutOfDate) => {
                let _ = tokio::time::timeout(RETRY, changed.changed()).await;
                Ok(())
            }
            other => Err(super::unexpected(&other)),
        }
    }

    async fn renew(&mut self, core: &Core, epoch: u64) -> Result<(), RaftError> {
        let within = self.patience.min(self.inner.options.request_timeout);
        let sent = Instant::now();
        match core.renew(self.inner.identity.node_id, epoch, within).await {
            Ok(era) => {
                self.accepted(epoch, era, sent);
                Ok(())
            }
            Err(RaftError::Refused(Refusal::SessionEnded)) => {
                self.epoch = None;
                Ok(())
            }
            Err(error) => {
                // A new leader is found soon by asking often; a slow one needs longer to answer.
                self.patience = (self.patience * 2).min(self.inner.options.session_ttl / 3);
                Err(error)
            }
        }
    }

    fn accepted(&mut self, epoch: u64, era: Option<u64>, sent: Instant) {
        self.sent = Some(sent);
        self.pause = REOPEN.0;
        self.patience = self.inner.options.renew_every();
        *self.inner.trouble.lock() = None;
        let limits = self.inner.options.limits();
        self.inner.renewed.send_modify(|renewed| *renewed = Some(Renewed::next(*renewed, epoch, era, sent, limits)));
    }

    /// How long a proposal may take, so that the next renewal isn't late because of it. It is repeated.
    fn moment(&self) -> Duration {
        (self.inner.options.renew_every() * 2).min(self.inner.options.request_timeout)
    }

    /// Gives a session of version 1 its lease, once all members can read that.
    async fn describe(&self, core: &Core, epoch: u64) -> Result<bool, RaftError> {
        let node = self.inner.identity.node_id;
        let (_, lease_ms) = self.inner.options.limits_ms();
        let missing = core.reader.with(|applied| {
            let session = applied.state.sessions.get(&node);
            applied.state.agreed_version() >= 2 && session.is_some_and(|session| session.lease_ms == 0)
        });
        if missing {
            let command = Command::SetLease { node, epoch, lease_ms };
            core.propose(command, self.moment()).await?;
        }
        Ok(missing)
    }

    /// Releases duties that another node is to have, once their leases are withdrawn here.
    async fn hand_over(&mut self, core: &Core) -> Result<bool, RaftError> {
        let me = self.inner.identity.node_id;
        let look = || core.reader.with(|applied| to_release(&applied.state, me, &self.inner.given_up.lock()));
        let wanted = look();
        let Some((duty, epoch, command)) = wanted else { return Ok(false) };
        let mut lease = self.inner.duties[slot(duty)].subscribe();
        // The publisher sees the same state and withdraws the lease at once; it must come first.
        let withdrawn = lease.wait_for(Option::is_none);
        if !matches!(tokio::time::timeout(self.inner.options.renew_every(), withdrawn).await, Ok(Ok(_))) {
            return Ok(false);
        }
        // Nor may it come back: the command may be applied when the state has changed once more. (Version 1 leaves it to
        // the holder then.)
        if matches!(command, Command::YieldDuty { .. }) {
            self.inner.given_up.lock().duty(duty, epoch);
        }
        if self.inner.duties[slot(duty)].borrow().is_some_and(|lease| lease.epoch == epoch) {
            self.inner.told.tell_all();
            return Ok(true);
        }
        let mut changed = self.inner.told.rights.subscribe();
        core.propose(command, self.moment()).await?;
        // This node's copy of the state may hear of it later than the answer comes.
        let heard = async {
            while look().is_some_and(|next| (next.0, next.1) == (duty, epoch)) {
                let _ = changed.changed().await;
            }
        };
        let _ = tokio::time::timeout(RETRY, heard).await;
        Ok(true)
    }

    /// Releases sensors that nobody runs here and nobody else would release.
    async fn release_sensors(&mut self, core: &Core) -> Result<(), RaftError> {
        let node = self.inner.identity.node_id;
        let stopped = core.reader.with(|applied| {
            let mut given_up = self.inner.given_up.lock();
            let stopped = given_up.stopped_sensors(Instant::now(), node, &applied.state);
            // From now on they aren't shown under these epochs, whatever becomes of the state.
            stopped.iter().for_each(|(sensor, epoch)| given_up.sensor(sensor, *epoch));
            stopped
        });
        for (sensor, epoch) in stopped {
            let command = Command::ReleaseSensor { sensor, node, epoch };
            core.propose(command, self.moment()).await?;
        }
        Ok(())
    }

    /// The storage failed: withdraws all rights, then opens the log again until that works.
    async fn reopen(&mut self, reason: String) {
        tracing::error!(reason, "the raft group stops until its storage works again");
        self.epoch = None;
        self.sent = None;
        *self.inner.trouble.lock() = Some(reason);
        self.inner.show_nothing();
        let old = self.inner.core.write().take();
        if let Some(core) = old {
            core.close().await;
        }
        self.pause(self.pause).await;
        self.pause = (self.pause * 2).min(REOPEN.1);
        if self.inner.cancel.is_cancelled() {
            return;
        }
        match self.inner.start_core().await {
            Ok(core) => {
                *self.inner.core.write() = Some(Arc::new(core));
                self.inner.told.tell_all();
            }
            Err(error) => *self.inner.trouble.lock() = Some(error.to_string()),
        }
    }

    async fn leave(self) {
        self.inner.show_nothing();
        // Other nodes are answered until the end: a successor may need this node's vote.
        let core = self.inner.core.read().clone();
        let Some(core) = core else { return };
        // The others have a leader again before they miss this one.
        if let Err(error) = core.give_up_lead(None, HANDOVER).await {
            tracing::warn!(%error, "the lead couldn't be handed over");
        }
        if let Some(epoch) = self.epoch {
            let command = Command::EndSession { node: self.inner.identity.node_id, epoch };
            if let Err(error) = core.propose(command, GOODBYE).await {
                tracing::warn!(%error, "the session couldn't be ended; it runs out by itself");
            }
        }
        self.inner.core.write().take();
        core.close().await;
    }
}
