//! Keeps this node's session: registers, renews, hands over, and reopens the log after a storage failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Duty;

use super::leases::Renewed;
use super::{Core, Inner, slot};
use crate::error::RaftError;
use crate::state::{Command, Refusal, Response};

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

struct Keeper {
    inner: Arc<Inner>,
    /// The session that this process registered.
    epoch: Option<u64>,
    /// When its last accepted renewal was sent.
    sent: Option<Instant>,
    pause: Duration,
    /// How long a renewal may take.
    patience: Duration,
}

impl Keeper {
    /// Does what is due, or waits for the next thing.
    async fn step(&mut self) -> Result<(), RaftError> {
        let mut changed = self.inner.told.changed.subscribe();
        let core = self.inner.live_core()?;
        if let Some(failure) = core.failure() {
            return Err(failure);
        }
        let me = self.inner.identity.node_id;
        let Some(epoch) = self.epoch.filter(|&epoch| core.reader.with(|applied| applied.state.is_live(me, epoch)))
        else {
            return self.register(&core).await;
        };
        let due = self.sent.map_or_else(Instant::now, |sent| sent + self.inner.options.renew_every());
        if due <= Instant::now() {
            return self.renew(&core, epoch).await;
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
        self.inner.show_nothing();
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

    async fn register(&mut self, core: &Core) -> Result<(), RaftError> {
        self.epoch = None;
        let options = &self.inner.options;
        let (ttl_ms, lease_ms) = options.limits_ms();
        let agreed = core.reader.with(|applied| applied.state.agreed_version());
        let command = Command::RegisterSession {
            node: self.inner.identity.node_id,
            name: options.node_name.clone(),
            roles: options.roles.clone(),
            duties: options.duties.clone(),
            ttl_ms,
            // Version 1 knows only one limit; `describe` makes up for it.
            lease_ms: if agreed >= 2 { lease_ms } else { 0 },
        };
        let sent = Instant::now();
        match core.propose(command, options.request_timeout).await? {
            Response::Session { epoch } => {
                self.epoch = Some(epoch);
                self.accepted(epoch, Some(0), sent);
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
            core.propose(command, self.inner.options.request_timeout).await?;
        }
        Ok(missing)
    }

    /// Releases duties that another node is to have, once their leases are withdrawn here.
    async fn hand_over(&mut self, core: &Core) -> Result<bool, RaftError> {
        let me = self.inner.identity.node_id;
        let wanted = core.reader.with(|applied| {
            let mine = |duty: &Duty| {
                let state = applied.state.duties.get(duty)?;
                let mine = state.holder.is_some_and(|holder| holder.node == me) && state.wanted_by.is_some();
                mine.then_some((*duty, state.epoch))
            };
            Duty::ALL.iter().find_map(mine)
        });
        let Some((duty, epoch)) = wanted else { return Ok(false) };
        let mut lease = self.inner.duties[slot(duty)].subscribe();
        // The publisher sees the same state and withdraws the lease at once; it must come first.
        let withdrawn = lease.wait_for(Option::is_none);
        if !matches!(tokio::time::timeout(self.inner.options.renew_every(), withdrawn).await, Ok(Ok(_))) {
            return Ok(false);
        }
        core.propose(Command::ReleaseDuty { duty, node: me, epoch }, self.inner.options.request_timeout).await?;
        Ok(true)
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
                self.inner.told.changed.send_modify(|count| *count = count.wrapping_add(1));
            }
            Err(error) => *self.inner.trouble.lock() = Some(error.to_string()),
        }
    }

    async fn leave(self) {
        self.inner.show_nothing();
        let core = self.inner.core.write().take();
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
        core.close().await;
    }
}
