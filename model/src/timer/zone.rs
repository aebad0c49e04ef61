//! Time zones by their IANA names, and the moments at which their offsets change.

use std::sync::OnceLock;

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::resource::Object;

/// No zone of the database changes its offset twice within this time.
const STEP: i64 = 6 * 3600;
/// The database knows no change after 2100-12-31.
const LAST_CHANGE: i64 = 4_133_980_800;
/// The largest shift that clocks ever made is a day; a bit more is looked at.
pub(super) const LARGEST_SHIFT: i64 = 26 * 3600;

/// The zone that the parameters name, else the host's.
pub(super) fn of(parameters: &Object) -> Result<Tz, String> {
    match parameters.get("timezone") {
        None | Some(Value::Null) => Ok(local()),
        Some(Value::String(name)) => name.parse().map_err(|_| {
            format!("timezone \"{name}\" is not an IANA time zone name such as \"Europe/Berlin\" or \"UTC\"")
        }),
        Some(other) => Err(format!("timezone {other} is not a string")),
    }
}

/// The host's zone, as it was at the first call; UTC when the host doesn't say.
pub fn local() -> Tz {
    static LOCAL: OnceLock<Tz> = OnceLock::new();
    *LOCAL.get_or_init(|| {
        let name = std::env::var("TZ").ok().filter(|name| !name.is_empty());
        let name = name.or_else(|| iana_time_zone::get_timezone().ok());
        name.and_then(|name| name.trim_start_matches(':').parse().ok()).unwrap_or(Tz::UTC)
    })
}

/// Seconds by which local time is ahead of UTC at this instant (seconds since the epoch).
pub(super) fn offset(zone: Tz, at: i64) -> i64 {
    if zone == Tz::UTC {
        return 0;
    }
    let at = DateTime::<Utc>::from_timestamp(at, 0).unwrap_or_default();
    i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc())
}

/// An instant from which on the offset is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub at: i64,
    pub before: i64,
    pub after: i64,
}

/// The first change in `(from, until]`.
pub(super) fn first_change(zone: Tz, from: i64, until: i64) -> Option<Change> {
    if zone == Tz::UTC || from > LAST_CHANGE {
        return None;
    }
    let until = until.min(LAST_CHANGE);
    let before = offset(zone, from);
    let mut known = from;
    while known < until {
        let next = (known + STEP).min(until);
        if offset(zone, next) != before {
            // known < change ≤ next
            let (mut low, mut high) = (known, next);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if offset(zone, middle) == before { low = middle } else { high = middle }
            }
            return Some(Change { at: high, before, after: offset(zone, high) });
        }
        known = next;
    }
    None
}

/// Whether local clocks showed the time of this instant once before: it lies in the second pass of an overlap.
pub(super) fn is_second_pass(zone: Tz, at: i64) -> bool {
    first_change(zone, at - LARGEST_SHIFT, at)
        .is_some_and(|change| change.before > change.after && at < change.at + change.before - change.after)
}

/// A local time as an instant: of two, the first; one that the clocks skip is taken by the offset before the skip.
pub(super) fn instant(zone: Tz, local: NaiveDateTime) -> i64 {
    let local = local.and_utc().timestamp();
    let early = local - offset(zone, local - LARGEST_SHIFT);
    // With the offset that held a day before: right unless a change lies in between.
    match first_change(zone, local - LARGEST_SHIFT, early) {
        None => early,
        Some(change) if change.after > change.before => {
            let late = local - change.after;
            if late >= change.at { late } else { early }
        }
        Some(change) => local - change.after,
    }
}
