//! Instants as people read them, and the time between them.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

/// The zone in which times are shown.
pub type Zone = Tz;

/// `Thu, 02 Jan 2026 03:04:05 UTC`, or the text itself when it isn't an instant.
pub fn display(text: &str, zone: Zone) -> String {
    match parse(text) {
        Some(instant) => instant.with_timezone(&zone).format("%a, %d %b %Y %H:%M:%S %Z").to_string(),
        None => text.to_owned(),
    }
}

/// Whole seconds between two instants, each cut to seconds first.
pub fn elapsed(start: &str, end: Option<&str>, now: DateTime<Utc>) -> Option<i64> {
    let end = match end {
        Some(text) => parse(text)?,
        None => now,
    };
    Some(end.timestamp() - parse(start)?.timestamp())
}

fn parse(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_zone_and_differences_cut_to_seconds() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(display("2026-11-23T01:45:25.031898Z", Tz::UTC), "Mon, 23 Nov 2026 01:45:25 UTC");
        assert_eq!(display("2026-11-23T01:45:25.031898Z", zone), "Mon, 23 Nov 2026 02:45:25 CET");
        assert_eq!(display("later", zone), "later");
        let now = Utc::now();
        assert_eq!(elapsed("2026-11-23T01:45:41.9Z", Some("2026-11-23T01:45:42.1Z"), now), Some(1));
    }
}
