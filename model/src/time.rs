//! Instants in StackStorm's text form, and the clock that gives them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since the Unix epoch, UTC. Text form: `2026-01-02T03:04:05.000006Z`, always six digits
/// (spec/model.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The instant cut to milliseconds, as `log[].timestamp` and other BSON dates are stored (spec/model.md §4).
    pub const fn to_millis_precision(self) -> Self {
        Self(self.0.div_euclid(1000) * 1000)
    }

    pub fn datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }

    /// Saturates at the ends of the range.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Lenient parser for input: ISO 8601 with `T` or blank, any fraction, offset or none (none = UTC).
    pub fn parse_lenient(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(parsed) = DateTime::parse_from_rfc3339(text) {
            return Some(parsed.with_timezone(&Utc).into());
        }
        for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"] {
            if let Ok(parsed) = DateTime::parse_from_str(text, format) {
                return Some(parsed.with_timezone(&Utc).into());
            }
        }
        let naive = text.strip_suffix(['Z', 'z']).unwrap_or(text);
        for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
            if let Ok(parsed) = NaiveDateTime::parse_from_str(naive, format) {
                return Some(parsed.and_utc().into());
            }
        }
        let date = chrono::NaiveDate::parse_from_str(naive, "%Y-%m-%d").ok()?;
        Some(date.and_time(chrono::NaiveTime::MIN).and_utc().into())
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(value: DateTime<Utc>) -> Self {
        Self(value.timestamp_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.datetime().format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_lenient(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not a timestamp")))
    }
}

/// Where the wall-clock time comes from; deciders take it as a parameter (DESIGN §2 rule 10).
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Utc::now().into()
    }
}

/// A clock that stands still until a test turns it.
#[derive(Debug, Clone, Default)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(start.micros())))
    }

    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    pub fn set(&self, to: Timestamp) {
        self.0.store(to.micros(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_has_six_digits() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.000000Z");
        assert_eq!(Timestamp::parse_lenient(&at.to_string()), Some(at));
    }

    #[test]
    fn lenient_input() {
        let expected = Timestamp::parse_lenient("2026-01-02T03:04:05Z");
        for text in [
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05.000",
            "2026-01-02T05:04:05+02:00",
            "2026-01-02T03:04:05+00",
            "2026-01-02T03:04:05+0000",
        ] {
            assert_eq!(Timestamp::parse_lenient(text), expected, "{text}");
        }
        assert_eq!(Timestamp::parse_lenient("yesterday"), None);
    }
}
