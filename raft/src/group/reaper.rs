//! What the leader does for the group: suspends and ends sessions that were not renewed in time (by the pure book in
//! [`super::deadlines`]), tells the state who leads, and has newer commands agreed on once every member reads them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Core, Inner};
use crate::error::RaftError;
use crate::state::{Command, NodeId, State};

/// Longest pause between looks; a new leader begins to count at the first look.
const LOOK: Duration = Duration::from_millis(200);

pub async fn run(inner: Arc<Inner>) {
    let mut changed = inner.told.rights.subscribe();
    loop {
        let core = inner.core.read().clone();
        let next = match core {
            Some(core) => look(&inner, &core).await,
            None => None,
        };
        let latest = Instant::now() + LOOK;
        let at = next.map_or(latest, |next| next.min(latest));
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep_until(at.into()) => {}
            _ = changed.changed() => {}
        }
    }
}

/// What a leader has to tell the state besides: that all members read newer commands, and that it leads. Pure.
pub fn announcements(state: &State, me: NodeId, readable: u16) -> Vec<Command> {
    let agreed = state.agreed_version();
    let mut due = Vec::new();
    if readable > agreed {
        due.push(Command::SetVersion { version: readable });
    }
    if agreed >= 2 && state.leader != Some(me) {
        due.push(Command::Lead { node: me });
    }
    due
}

async fn look(inner: &Inner, core: &Core) -> Option<Instant> {
    let lead = core.leadership();
    let readable = inner.min_version(core);
    let me = inner.identity.node_id;
    let (mut due, next) = core.reader.with(|applied| {
        let now = Instant::now();
        let (mut due, next) = core.deadlines.lock().look(lead, &applied.state, now);
        if lead.is_some() {
            due.extend(announcements(&applied.state, me, readable));
        }
        (due, next)
    });
    // Rights pass on first.
    due.sort_by_key(|command| !matches!(command, Command::SuspendSession { .. }));
    for command in due {
        let text = command.to_string();
        match &command {
            Command::SuspendSession { .. } | Command::ExpireSession { .. } => {
                tracing::warn!(command = text, "no renewal in time");
            }
            _ => tracing::debug!(command = text, "the leader proposes"),
        }
        // Here and not through another leader: what was decided is this one's to say.
        match core.propose_here(command, inner.options.request_timeout).await {
            Ok(_) => {}
            Err(RaftError::Storage(_)) => inner.broken.notify_one(),
            Err(error) => tracing::warn!(%error, command = text, "can't be proposed yet"),
        }
    }
    next
}
