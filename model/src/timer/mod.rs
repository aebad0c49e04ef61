//! When timers fire: interval, date and cron triggers (spec/scheduling.md §10). Pure, but for the host's own zone,
//! which is looked up once per process.
//!
//! [`check`] tells whether a trigger's parameters make sense, [`Schedule::parse`] compiles them, and
//! [`Schedule::next_after`] gives the next instant; the timers engine in `scheduler` does the rest.

mod cron;
mod cursor;
mod date;
mod field;
mod zone;

use std::time::Duration;

use serde_json::Value;

pub use cron::{Cron, Overlap};
pub use cursor::TimerCursor;
pub use zone::local as local_zone;

use crate::resource::Object;
use crate::time::Timestamp;

/// Trigger type refs of the three kinds.
pub const INTERVAL: &str = "core.st2.IntervalTimer";
pub const DATE: &str = "core.st2.DateTimer";
pub const CRON: &str = "core.st2.CronTimer";

/// All of them.
pub const TYPES: [&str; 3] = [INTERVAL, DATE, CRON];

/// The series of a timer.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// `anchor + n × every` for n ≥ 1: a restart doesn't move the phase (spec/ha.md I-T2).
    Interval {
        anchor: Timestamp,
        every: Duration,
    },
    /// Once.
    Date(Timestamp),
    Cron(Box<Cron>),
}

/// Whether `parameters` make a timer of this type. Types that are not timers are fine.
///
/// # Errors
/// The text that the API answers with 400.
pub fn check(type_ref: &str, parameters: &Object) -> Result<(), String> {
    if !TYPES.contains(&type_ref) {
        return Ok(());
    }
    Schedule::parse(type_ref, parameters, Timestamp::default()).map(drop)
}

impl Schedule {
    /// Compiles a timer trigger's parameters. `created_at` is the phase of intervals.
    ///
    /// # Errors
    /// A text that names the parameter and what is wrong with it.
    pub fn parse(type_ref: &str, parameters: &Object, created_at: Timestamp) -> Result<Self, String> {
        let zone = zone::of(parameters)?;
        match type_ref {
            INTERVAL => Ok(Self::Interval { anchor: created_at, every: interval(parameters)? }),
            DATE => match parameters.get("date") {
                Some(Value::String(text)) => date::parse(text, zone).map(Self::Date),
                _ => Err("a date timer needs the parameter \"date\"".to_owned()),
            },
            CRON => Cron::parse(parameters, zone).map(|cron| Self::Cron(Box::new(cron))),
            other => Err(format!("\"{other}\" is not a timer")),
        }
    }

    /// What a cron timer does with times that the clocks show twice; other kinds don't care.
    #[must_use]
    pub fn with_overlap(self, overlap: Overlap) -> Self {
        match self {
            Self::Cron(cron) => Self::Cron(Box::new(cron.with_overlap(overlap))),
            other => other,
        }
    }

    /// The first instant of the series that is later than `after`; `None` when there is none.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Interval { anchor, every } => {
                let every = i64::try_from(every.as_micros()).ok()?;
                let passed = after.micros().saturating_sub(anchor.micros()).div_euclid(every);
                let next = passed.checked_add(1)?.max(1).checked_mul(every)?.checked_add(anchor.micros())?;
                Some(Timestamp::from_micros(next))
            }
            Self::Date(at) => (*at > after).then_some(*at),
            Self::Cron(cron) => cron.next_after(after),
        }
    }

    /// How many instants lie in `(after, until]`, counted up to `limit`.
    pub fn count_between(&self, after: Timestamp, until: Timestamp, limit: u64) -> u64 {
        if let Self::Interval { anchor, every } = self {
            let Ok(every) = i64::try_from(every.as_micros()) else { return 0 };
            let slots = |at: Timestamp| at.micros().saturating_sub(anchor.micros()).div_euclid(every).max(0);
            return u64::try_from(slots(until) - slots(after)).unwrap_or(0).min(limit);
        }
        let (mut count, mut at) = (0, after);
        while count < limit {
            match self.next_after(at) {
                Some(next) if next <= until => at = next,
                _ => break,
            }
            count += 1;
        }
        count
    }

    /// The latest instant that is not later than `until` and later than `after`; `None` when there is none.
    pub fn latest_between(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let first = self.next_after(after).filter(|first| *first <= until)?;
        if let Self::Interval { anchor, every } = self {
            let every = i64::try_from(every.as_micros()).ok()?;
            let slots = until.micros().saturating_sub(anchor.micros()).div_euclid(every);
            return Some(Timestamp::from_micros(anchor.micros() + slots * every));
        }
        // Halve the span until it holds one instant; spans of sparse series take few steps.
        let (mut low, mut high) = (first, until);
        while high.micros() - low.micros() > 1 {
            let middle = Timestamp::from_micros(low.micros() + (high.micros() - low.micros()) / 2);
            match self.next_after(middle).filter(|next| *next <= until) {
                Some(next) => low = next,
                None => high = middle,
            }
        }
        Some(self.next_after(low).filter(|next| *next <= until).unwrap_or(low))
    }
}

/// `unit` and `delta`. StackStorm takes a negative delta and hangs; less than 1 is refused here.
fn interval(parameters: &Object) -> Result<Duration, String> {
    let unit = match parameters.get("unit").and_then(Value::as_str) {
        Some("weeks") => 7 * 24 * 3600,
        Some("days") => 24 * 3600,
        Some("hours") => 3600,
        Some("minutes") => 60,
        Some("seconds") => 1,
        Some(other) => return Err(format!("unit \"{other}\" is none of weeks, days, hours, minutes, seconds")),
        None => return Err("an interval timer needs the parameter \"unit\"".to_owned()),
    };
    let Some(delta) = parameters.get("delta").and_then(Value::as_i64) else {
        return Err("an interval timer needs the integer parameter \"delta\"".to_owned());
    };
    // A century is more than any timer needs and keeps the arithmetic far from its ends.
    match u64::try_from(delta).ok().and_then(|delta| delta.checked_mul(unit)) {
        Some(seconds) if (1..=100 * 366 * 24 * 3600).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("delta {delta} is out of range: an interval is at least 1 second and at most 100 years")),
    }
}

#[cfg(test)]
mod tests;
