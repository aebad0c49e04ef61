//! Slows down guessing of passwords: after some failures a user at an address has to wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures within [`WINDOW`] that are free.
const FREE: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Pairs that are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    since: Instant,
}

/// Failed logins by user and address.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<(String, Option<IpAddr>), Failures>>);

impl Throttle {
    /// How long this login has to wait, if it has to.
    pub fn wait(&self, user: &str, from: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let failures = *self.0.lock().get(&(user.to_owned(), from))?;
        let left = WINDOW.saturating_sub(now.saturating_duration_since(failures.since));
        (failures.count >= FREE && !left.is_zero()).then_some(left)
    }

    pub fn failed(&self, user: &str, from: Option<IpAddr>, now: Instant) {
        let mut map = self.0.lock();
        let is_old = |failures: &Failures| now.saturating_duration_since(failures.since) >= WINDOW;
        if map.len() >= REMEMBERED {
            map.retain(|_, failures| !is_old(failures));
            if map.len() >= REMEMBERED {
                map.clear();
            }
        }
        let entry = map.entry((user.to_owned(), from)).or_insert(Failures { count: 0, since: now });
        if is_old(entry) {
            *entry = Failures { count: 0, since: now };
        }
        entry.count += 1;
    }

    pub fn succeeded(&self, user: &str, from: Option<IpAddr>) {
        self.0.lock().remove(&(user.to_owned(), from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_after_ten_failures_for_a_minute() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(throttle.wait("ana", None, start), None);
            throttle.failed("ana", None, start);
        }
        assert_eq!(throttle.wait("ana", None, start), Some(WINDOW));
        assert_eq!(throttle.wait("bob", None, start), None);
        assert_eq!(throttle.wait("ana", None, start + WINDOW), None);
        throttle.succeeded("ana", None);
        assert_eq!(throttle.wait("ana", None, start), None);
    }
}
