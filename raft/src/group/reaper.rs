//! The leader ends sessions that were not renewed in time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Core, Inner};
use crate::error::RaftError;
use crate::state::{Command, NodeId, State};

/// Longest pause between looks; a new leader begins to count at the first look.
const LOOK: Duration = Duration::from_millis(500);

/// When sessions end, by this leader's monotonic clock. Pure: time is a parameter.
///
/// A session starts at its first look with a full TTL, so deadlines never end earlier than TTL after the last renewal
/// that *any* leader accepted: this one counts from later. A session marked as doomed is never renewed again, because
/// its end may already be in the log.
#[derive(Debug, Default)]
pub struct Deadlines {
    term: Option<u64>,
    sessions: HashMap<(NodeId, u64), Deadline>,
}

#[derive(Debug)]
struct Deadline {
    at: Instant,
    doomed: bool,
}

impl Deadlines {
    /// Moves a session's deadline; false when it is over.
    pub fn renew(&mut self, node: NodeId, epoch: u64, ttl: Duration, now: Instant) -> bool {
        let deadline = self.sessions.entry((node, epoch)).or_insert(Deadline { at: now + ttl, doomed: false });
        if deadline.doomed {
            return false;
        }
        deadline.at = deadline.at.max(now + ttl);
        true
    }

    /// Brings the book in line with the state; gives the sessions to end now, and when to look again.
    /// `term` is the term that this node leads in, if it does.
    pub fn look(&mut self, term: Option<u64>, state: &State, now: Instant) -> (Vec<(NodeId, u64)>, Option<Instant>) {
        if self.term != term {
            // What was seen in another term says nothing about renewals elsewhere since.
            self.term = term;
            self.sessions.clear();
        }
        if term.is_none() {
            return (Vec::new(), None);
        }
        self.sessions.retain(|(node, epoch), _| state.is_live(*node, *epoch));
        let mut over = Vec::new();
        let mut next = None;
        for (&node, session) in &state.sessions {
            let ttl = Duration::from_millis(session.ttl_ms);
            let deadline =
                self.sessions.entry((node, session.epoch)).or_insert(Deadline { at: now + ttl, doomed: false });
            if deadline.at <= now {
                deadline.doomed = true;
                over.push((node, session.epoch));
            } else {
                next = Some(next.map_or(deadline.at, |next: Instant| next.min(deadline.at)));
            }
        }
        (over, next)
    }
}

pub async fn run(inner: Arc<Inner>) {
    let mut changed = inner.changed.subscribe();
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

async fn look(inner: &Inner, core: &Core) -> Option<Instant> {
    let term = core.leading_term();
    let (over, next) = core.reader.with(|applied| core.deadlines.lock().look(term, &applied.state, Instant::now()));
    for (node, epoch) in over {
        tracing::warn!(node = format!("{node:x}"), epoch, "no renewal in time, the session ends");
        let command = Command::ExpireSession { node, epoch };
        match core.propose(command, inner.options.request_timeout).await {
            Ok(_) => {}
            Err(RaftError::Storage(_)) => inner.broken.notify_one(),
            Err(error) => tracing::warn!(%error, "the session's end can't be proposed yet"),
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn state() -> State {
        let mut state = State::default();
        state.apply(&Command::RegisterSession {
            node: 1,
            name: "n".into(),
            roles: BTreeSet::new(),
            duties: BTreeSet::new(),
            ttl_ms: 5_000,
        });
        state
    }

    #[test]
    fn a_silent_session_ends_after_its_ttl_and_is_not_renewed_any_more() {
        let (state, start) = (state(), Instant::now());
        let mut book = Deadlines::default();
        let (over, next) = book.look(Some(1), &state, start);
        assert_eq!((over.len(), next), (0, Some(start + TTL)));
        assert!(book.renew(1, 1, TTL, start + Duration::from_secs(3)));
        assert!(book.look(Some(1), &state, start + Duration::from_secs(7)).0.is_empty());
        assert_eq!(book.look(Some(1), &state, start + Duration::from_secs(8)).0, [(1, 1)]);
        assert!(!book.renew(1, 1, TTL, start + Duration::from_secs(8)));
        assert_eq!(book.look(Some(1), &state, start + Duration::from_secs(9)).0, [(1, 1)], "asked again until it ends");
    }

    #[test]
    fn a_new_term_counts_anew() {
        let (state, start) = (state(), Instant::now());
        let mut book = Deadlines::default();
        book.look(Some(1), &state, start);
        assert!(book.look(None, &state, start + TTL).0.is_empty());
        assert_eq!(book.look(Some(3), &state, start + TTL), (vec![], Some(start + 2 * TTL)));
    }
}
