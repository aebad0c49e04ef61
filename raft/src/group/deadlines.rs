//! The leader's book: when sessions lose their leases and when they end. Pure: time is a parameter.
//!
//! Two limits per session. The *lease* carries duties and sensors: when no renewal was accepted for that long, the
//! session is **suspended** (what it held goes to others, the session itself lives on, and the executions that it
//! claimed with it). The *TTL* is longer: after it the session **ends**.
//!
//! Why the old holder stops before a new one begins (K2, S1). A holder may act until `sent + lease − margin`, where
//! `sent` is when it sent its last renewal that was *accepted for the lease*. A renewal is accepted after a quorum has
//! confirmed the leadership in a round that began after `sent`.
//!
//! * Under the same leader: acceptance moves the deadline to at least `sent + lease`, and a suspension is proposed only
//!   past it. Once one is proposed, renewals aren't accepted for the lease until the session was resumed.
//! * A suspension that a dead or deposed leader left in the log is applied, if ever, before its successor accepts
//!   anything: a leader looks and accepts only after it has applied an entry of its own term. It names its term, and is
//!   void in an entry of another one. One that was proposed twice takes effect once: it names the era, which grows with
//!   each suspension.
//! * Under a new leader: every deadline starts anew when it begins to look, which is after its election. The old
//!   leader's confirming quorum and the electing one share a node, which answered the old leader first, so `sent` was
//!   before the election. The new leader may count from earlier by its *credit*: how long before its election no
//!   quorum can have confirmed another leader (see [`super::witness`]). That says nothing about sessions that began
//!   under itself: a registration is a renewal, too.
//! * A renewal names the era in which it was accepted, and the holder counts on it only while its own copy of the state
//!   is in that era, so that a copy that lags can't show rights that were given away.
//!
//! The same holds for the session's end with the TTL in the lease's place.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::state::{Command, NodeId, SessionState, State};

/// What a renewal gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Session and lease.
    Both { era: u64 },
    /// The session only: its suspension is being decided.
    Session,
    /// The session only: it is suspended and should be resumed.
    Suspended { era: u64 },
    /// The session is over.
    Over,
}

/// A leadership: what a book is kept for.
#[derive(Debug, Clone, Copy)]
pub struct Leadership {
    pub term: u64,
    /// How long before now no other leader can have accepted a renewal; counts when the book begins.
    pub credit: Duration,
    /// The highest session epoch that was given before this leader's first entry.
    pub earlier: u64,
}

#[derive(Debug, Default)]
pub struct Deadlines {
    term: Option<u64>,
    /// From when deadlines of sessions of earlier leaders count.
    since: Option<Instant>,
    sessions: HashMap<(NodeId, u64), Deadline>,
}

#[derive(Debug)]
struct Deadline {
    ends: Instant,
    lease: Instant,
    /// Its end may already be in the log: it is never renewed again.
    doomed: bool,
    /// The suspension of this era may already be in the log.
    suspending: Option<u64>,
    suspended: bool,
}

impl Deadline {
    fn new(session: &SessionState, from: Instant) -> Self {
        Self {
            ends: from + session.ttl(),
            lease: from + session.lease(),
            doomed: false,
            suspending: None,
            suspended: session.suspended,
        }
    }

    /// Learns what became of suspensions.
    fn follow(&mut self, session: &SessionState, now: Instant) {
        if self.suspending.is_some_and(|era| session.era > era) {
            self.suspending = None;
        }
        if self.suspended && !session.suspended {
            self.lease = self.lease.max(now + session.lease());
        }
        self.suspended = session.suspended;
    }
}

impl Deadlines {
    /// What was seen in another term says nothing about renewals elsewhere since.
    fn begin(&mut self, lead: Option<Leadership>, now: Instant) {
        let term = lead.map(|lead| lead.term);
        if self.term != term {
            self.term = term;
            self.since = lead.map(|lead| now.checked_sub(lead.credit).unwrap_or(now));
            self.sessions.clear();
        }
    }

    fn deadline(&mut self, node: NodeId, session: &SessionState, lead: Leadership, now: Instant) -> &mut Deadline {
        let from = self.since.filter(|_| session.epoch <= lead.earlier).unwrap_or(now);
        let deadline = self.sessions.entry((node, session.epoch)).or_insert_with(|| Deadline::new(session, from));
        deadline.follow(session, now);
        deadline
    }

    /// Moves a session's deadlines. `session` is from the state as applied by this node, which leads and has just
    /// confirmed it.
    pub fn renew(&mut self, lead: Leadership, node: NodeId, session: &SessionState, now: Instant) -> Renewal {
        self.begin(Some(lead), now);
        let deadline = self.deadline(node, session, lead, now);
        if deadline.doomed {
            return Renewal::Over;
        }
        deadline.ends = deadline.ends.max(now + session.ttl());
        if deadline.suspending.is_some() {
            return Renewal::Session;
        }
        if session.suspended {
            return Renewal::Suspended { era: session.era };
        }
        deadline.lease = deadline.lease.max(now + session.lease());
        Renewal::Both { era: session.era }
    }

    /// Brings the book in line with the state; gives what to propose now, and when to look again. `lead` is what this
    /// node leads in, if it does.
    pub fn look(&mut self, lead: Option<Leadership>, state: &State, now: Instant) -> (Vec<Command>, Option<Instant>) {
        self.begin(lead, now);
        let Some(lead) = lead else { return (Vec::new(), None) };
        self.sessions.retain(|(node, epoch), _| state.is_live(*node, *epoch));
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (&node, session) in &state.sessions {
            let deadline = self.deadline(node, session, lead, now);
            let epoch = session.epoch;
            if deadline.ends <= now {
                deadline.doomed = true;
                // Where only one limit is known, only version 1 may be.
                let term = if state.agreed_version() >= 2 { lead.term } else { 0 };
                due.push(Command::ExpireSession { node, epoch, term });
                continue;
            }
            let mut at = deadline.ends;
            // A session of version 1 has one limit only.
            if session.lease() < session.ttl() && !session.suspended {
                if deadline.lease <= now {
                    deadline.suspending = Some(session.era);
                    due.push(Command::SuspendSession { node, epoch, era: session.era, term: lead.term });
                } else {
                    at = at.min(deadline.lease);
                }
            }
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        (due, next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::Duty;

    use super::*;
    use crate::state::Response;

    const TTL: Duration = Duration::from_secs(4);
    const LEASE: Duration = Duration::from_secs(1);

    fn lead(term: u64) -> Leadership {
        Leadership { term, credit: Duration::ZERO, earlier: 0 }
    }

    fn state(lease_ms: u64) -> State {
        let mut state = State::default();
        state.apply(&Command::RegisterSession {
            node: 1,
            name: "n".into(),
            roles: BTreeSet::new(),
            duties: Duty::ALL.into_iter().collect(),
            ttl_ms: 4_000,
            lease_ms,
            claim: None,
        });
        state
    }

    #[test]
    fn a_silent_session_ends_after_its_ttl_and_is_not_renewed_any_more() {
        let (state, start) = (state(0), Instant::now());
        let session = state.sessions[&1].clone();
        let over = [Command::ExpireSession { node: 1, epoch: 1, term: 0 }];
        let mut book = Deadlines::default();
        assert_eq!(book.look(Some(lead(1)), &state, start), (vec![], Some(start + TTL)));
        assert_eq!(book.renew(lead(1), 1, &session, start + TTL / 2), Renewal::Both { era: 0 });
        assert!(book.look(Some(lead(1)), &state, start + TTL).0.is_empty());
        assert_eq!(book.look(Some(lead(1)), &state, start + TTL * 3 / 2).0, over);
        assert_eq!(book.renew(lead(1), 1, &session, start + TTL * 3 / 2), Renewal::Over);
        assert_eq!(book.look(Some(lead(1)), &state, start + TTL * 2).0, over, "asked again until it ends");
    }

    #[test]
    fn a_silent_session_is_first_suspended_and_resumed_by_its_next_renewal() {
        let (mut state, start) = (state(1_000), Instant::now());
        let mut book = Deadlines::default();
        assert_eq!(book.look(Some(lead(1)), &state, start), (vec![], Some(start + LEASE)));
        let (due, _) = book.look(Some(lead(1)), &state, start + LEASE);
        assert_eq!(due, [Command::SuspendSession { node: 1, epoch: 1, era: 0, term: 1 }]);
        let session = state.sessions[&1].clone();
        assert_eq!(
            book.renew(lead(1), 1, &session, start + LEASE),
            Renewal::Session,
            "the suspension may be in the log"
        );
        assert_eq!(book.look(Some(lead(1)), &state, start + LEASE).0, due, "proposed again until it is applied");

        state.apply(&due[0]);
        assert!(state.duties.values().all(|duty| duty.holder.is_none()));
        let session = state.sessions[&1].clone();
        let later = start + LEASE * 2;
        assert_eq!(book.look(Some(lead(1)), &state, later), (vec![], Some(start + LEASE + TTL)));
        assert_eq!(book.renew(lead(1), 1, &session, later), Renewal::Suspended { era: 1 });
        state.apply(&Command::ResumeSession { node: 1, epoch: 1, era: 1 });
        assert_eq!(state.apply(&due[0]).0, Response::Refused(crate::state::Refusal::OutOfDate), "a repeat is too late");
        assert_eq!(book.look(Some(lead(1)), &state, later), (vec![], Some(later + LEASE)));
        assert_eq!(book.renew(lead(1), 1, &state.sessions[&1].clone(), later + LEASE / 2), Renewal::Both { era: 1 });
        assert_eq!(book.look(Some(lead(1)), &state, later + LEASE), (vec![], Some(later + LEASE * 3 / 2)));
    }

    #[test]
    fn a_new_term_counts_anew_less_its_credit() {
        let (state, start) = (state(0), Instant::now());
        let mut book = Deadlines::default();
        book.look(Some(lead(1)), &state, start);
        let later = Leadership { term: 3, credit: LEASE, earlier: 1 };
        assert!(book.look(None, &state, start + TTL).0.is_empty());
        assert_eq!(book.look(Some(later), &state, start + TTL), (vec![], Some(start + 2 * TTL - LEASE)));
        let later = Leadership { term: 4, credit: LEASE, earlier: 0 };
        assert_eq!(
            book.look(Some(later), &state, start + TTL),
            (vec![], Some(start + 2 * TTL)),
            "began under this one"
        );
    }
}
