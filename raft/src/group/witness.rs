//! What this node witnessed of other leaders: how long before its own election none can have had a quorum.
//!
//! A new leader doesn't know which renewals its predecessor accepted, so it waits a full lease before it takes anything
//! from anybody. Part of that time has passed already: voters refuse a candidate for a while after they heard from a
//! leader ([`Options::election_max`](crate::Options), openraft's leader lease). So no quorum confirmed another leader
//! within that time before the election, *if*
//!
//! * the election wasn't a transfer, which voters grant at once ([`Witness::heard_transfer`]);
//! * every voter has kept its memory for that long: it isn't on disk, so a node refuses to vote for as long after its
//!   start ([`Witness::may_vote`]; the network service asks);
//! * this node itself heard of no leader meanwhile: a candidate doesn't look at its own refusal once the others have
//!   promised their votes ([`Witness::heard_append`]);
//! * there is another voter: a sole one needs nobody's vote.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

#[derive(Debug)]
pub struct Witness {
    started: Instant,
    refuse: Duration,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    append: Option<Instant>,
    /// The latest confirmation of this node's own leadership, its term, and the latest in terms before that.
    own: Option<(u64, Instant)>,
    own_before: Option<Instant>,
    /// The highest term that a transfer may lead to.
    transfer: Option<u64>,
}

/// Terms that an election that was asked for by a transfer may be ahead of the term in which it was asked for.
#[allow(dead_code)]
const TERMS: u64 = 3;

impl Witness {
    /// `refuse`: how long a voter refuses others after it heard from a leader.
    pub fn new(started: Instant, refuse: Duration) -> Self {
        Self { started, refuse, heard: Mutex::default() }
    }

    /// A leader's entries, heartbeat or snapshot arrived.
    pub fn heard_append(&self, now: Instant) {
        let mut heard = self.heard.lock();
        heard.append = Some(heard.append.map_or(now, |before| before.max(now)));
    }

    /// A quorum confirmed this node's own leadership of `term`: for a later term that was another leader's.
    pub fn confirmed(&self, term: u64, now: Instant) {
        let mut heard = self.heard.lock();
        if let Some((before, at)) = heard.own
            && before != term
        {
            heard.own_before = heard.own_before.max(Some(at));
        }
        heard.own = Some((term, now));
    }

    #[allow(dead_code)] // until the network service calls it
    /// A leader asks this node to take over; `term` is this node's term.
    pub fn heard_transfer(&self, term: u64) {
        let mut heard = self.heard.lock();
        heard.transfer = Some(heard.transfer.unwrap_or(0).max(term + TERMS));
    }

    #[allow(dead_code)] // until the network service calls it
    /// Whether this node may promise or give its vote to another. A transfer is the leader's own wish.
    pub fn may_vote(&self, now: Instant, transfer: bool) -> bool {
        transfer || now.saturating_duration_since(self.started) > self.refuse
    }

    /// How long before `now` no other leader can have had a quorum, for the leader of `term` among so many voters.
    pub fn credit(&self, now: Instant, term: u64, voters: usize) -> Duration {
        let heard = self.heard.lock();
        if voters < 2 || heard.transfer.is_some_and(|reach| term <= reach) {
            return Duration::ZERO;
        }
        let own = heard.own.filter(|&(other, _)| other != term).map(|(_, at)| at);
        let last = [heard.append, heard.own_before, own].into_iter().flatten().fold(self.started, Instant::max);
        let silent = now.saturating_duration_since(last);
        // Clocks run at slightly different rates: one in a hundred is far more than they do.
        silent.min(self.refuse) * 99 / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSE: Duration = Duration::from_millis(500);

    #[test]
    fn credit_is_what_was_seen_and_no_more() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let witness = Witness::new(start, REFUSE);
        assert_eq!(witness.credit(at(100), 1, 3), Duration::from_millis(99), "just started");
        assert_eq!(witness.credit(at(9_000), 1, 3), Duration::from_millis(495));
        assert_eq!(witness.credit(at(9_000), 1, 1), Duration::ZERO, "a sole voter");
        witness.heard_append(at(8_900));
        assert_eq!(witness.credit(at(9_000), 1, 3), Duration::from_millis(99));
        witness.confirmed(1, at(8_990));
        assert_eq!(witness.credit(at(9_000), 1, 3), Duration::from_millis(99), "its own, of this term");
        assert_eq!(witness.credit(at(9_000), 2, 3), Duration::from_micros(9_900));
        witness.confirmed(2, at(9_100));
        assert_eq!(witness.credit(at(9_190), 2, 3), Duration::from_millis(198));
        witness.heard_transfer(1);
        assert_eq!(witness.credit(at(20_000), 2, 3), Duration::ZERO);
        assert_eq!(witness.credit(at(20_000), 5, 3), Duration::from_millis(495));
        assert!(
            !witness.may_vote(at(500), false) && witness.may_vote(at(500), true) && witness.may_vote(at(501), false)
        );
    }
}
