//! The latest events, for clients that come back and say which one they saw last.
//!
//! An id tells when its event came to the node, and its number there. On the node that gave it, what comes after it is
//! what has a higher number. Another node, or the same one after a start, knows no more than the time: it repeats what
//! came to it from a little before, so that a client may see an event twice, but misses none.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bus::Event;
use model::Timestamp;
use parking_lot::Mutex;

/// Events that are kept.
const KEPT: usize = 2048;
/// How far clocks and deliveries of two nodes may be apart, microseconds.
const SLACK: i64 = 2_000_000;

/// Names an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// Microseconds since the epoch.
    pub at: i64,
    /// Of the node since its start.
    pub life: u32,
    pub number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}-{}", self.at, self.life, self.number)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.trim().splitn(3, '-');
        let mut next = || parts.next().ok_or(());
        Ok(Self {
            at: next()?.parse().map_err(|_| ())?,
            life: u32::from_str_radix(next()?, 16).map_err(|_| ())?,
            number: next()?.parse().map_err(|_| ())?,
        })
    }
}

/// What came after an event that a client names.
#[derive(Debug, Clone)]
pub struct Missed {
    pub events: Vec<(EventId, Arc<Event>)>,
    /// False if events that it didn't see may be forgotten.
    pub complete: bool,
}

#[derive(Debug)]
pub struct History {
    life: u32,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<(EventId, Arc<Event>)>,
    next: u64,
    /// When the newest of the forgotten events came.
    forgotten: Option<i64>,
}

impl Default for History {
    fn default() -> Self {
        Self { life: rand::random(), kept: Mutex::default() }
    }
}

impl History {
    pub fn push(&self, event: &Arc<Event>, now: Timestamp) -> EventId {
        let mut kept = self.kept.lock();
        let id = EventId { at: now.micros(), life: self.life, number: kept.next };
        kept.next += 1;
        if kept.events.len() >= KEPT {
            kept.forgotten = kept.events.pop_front().map(|(id, _)| id.at).or(kept.forgotten);
        }
        kept.events.push_back((id, event.clone()));
        id
    }

    /// The number that the next event gets.
    pub fn next(&self) -> u64 {
        self.kept.lock().next
    }

    pub fn after(&self, seen: EventId) -> Missed {
        let kept = self.kept.lock();
        let is_ours = seen.life == self.life;
        let from = seen.at - SLACK;
        let is_missed = |id: &EventId| if is_ours { id.number > seen.number } else { id.at >= from };
        let events: Vec<_> = kept.events.iter().filter(|(id, _)| is_missed(id)).cloned().collect();
        let complete = match kept.events.front() {
            _ if kept.next == 0 => is_ours,
            Some((first, _)) if is_ours => first.number <= seen.number + 1,
            Some((first, _)) => first.at <= seen.at && kept.forgotten.is_none_or(|at| at < from),
            None => false,
        };
        Missed { events, complete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Arc<Event> {
        Arc::new(Event::Announcement { route: "x".to_owned(), payload: json!({}), trace_context: None })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = EventId { at: 1_764_000_000_000_001, life: 0xdead_beef, number: 7 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "x", "1-2", "1-zz-3", "a-b-c"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_came_later_is_repeated() {
        let history = History::default();
        let ids: Vec<EventId> = (0..10).map(|second| history.push(&event(), at(second))).collect();
        let missed = history.after(ids[6]);
        assert_eq!(missed.events.iter().map(|(id, _)| id.number).collect::<Vec<_>>(), [7, 8, 9]);
        assert!(missed.complete);
        let elsewhere = EventId { life: ids[0].life.wrapping_add(1), ..ids[6] };
        let missed = history.after(elsewhere);
        assert_eq!(missed.events.iter().map(|(id, _)| id.number).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
        assert!(missed.complete);
        assert!(!history.after(EventId { at: -5, ..elsewhere }).complete, "the node wasn't there then");
        for second in 10..10 + KEPT as i64 {
            history.push(&event(), at(second));
        }
        assert!(!history.after(ids[6]).complete);
        assert_eq!(history.after(ids[6]).events.len(), KEPT);
    }
}
