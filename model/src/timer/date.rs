//! The text of a date timer.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;

use super::zone;
use crate::time::Timestamp;

/// With an offset: the instant is given.
const WITH_OFFSET: [&str; 6] = [
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f %#z",
    "%Y-%m-%dT%H:%M%#z",
    "%Y-%m-%d %H:%M%#z",
    "%Y-%m-%d %H:%M %#z",
];
/// Without: local time of the timer's zone.
const LOCAL: [&str; 11] = [
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
    "%Y%m%dT%H%M%S",
    "%d %b %Y %H:%M:%S",
    "%d %b %Y %H:%M",
    "%b %d %Y %H:%M:%S",
    "%b %d %Y %H:%M",
];
/// Midnight.
const DAYS: [&str; 6] = ["%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d %b %Y", "%b %d %Y", "%m/%d/%Y"];

/// Reads ISO 8601 and the common forms beside it; a text without an offset is local time of `zone`.
pub(super) fn parse(text: &str, zone: Tz) -> Result<Timestamp, String> {
    let text = text.trim();
    let plain = text.replace(',', " ");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let utc = ["Z", "z", " UTC", " GMT"].iter().find_map(|suffix| plain.strip_suffix(suffix));
    let with_offset = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_rfc2822(text))
        .ok()
        .or_else(|| WITH_OFFSET.iter().find_map(|format| DateTime::parse_from_str(&plain, format).ok()));
    if let Some(at) = with_offset {
        return Ok(at.to_utc().into());
    }
    if let Some(local) = utc.and_then(naive) {
        return Ok(local.and_utc().into());
    }
    let Some(local) = naive(&plain) else {
        return Err(format!("date \"{text}\" can't be read; write it as 2026-01-31T12:00:00+00:00"));
    };
    let micros = i64::from(local.and_utc().timestamp_subsec_micros());
    Ok(Timestamp::from_micros(zone::instant(zone, local) * 1_000_000 + micros))
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    LOCAL.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).or_else(|| {
        DAYS.iter().find_map(|format| Some(NaiveDate::parse_from_str(text, format).ok()?.and_time(NaiveTime::MIN)))
    })
}
