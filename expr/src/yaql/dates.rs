//! Dates and spans of time.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};

use super::call::As::{Both, Function, Method};
use super::call::{Call, Entry};
use super::interp::wrong;
use super::value::{R, V};
use crate::workflow::Fault;

const SECOND: i64 = 1_000_000;

pub(super) const TABLE: &[Entry] = &[
    ("datetime", Function, "year month day hour? minute? second? microsecond? offset?", |c| {
        let part = |at| c.int_or(at, 0).map(|part| u32::try_from(part).unwrap_or(u32::MAX));
        let year = i32::try_from(c.int(0)?).unwrap_or(i32::MAX);
        let date = NaiveDate::from_ymd_opt(year, part(1)?, part(2)?);
        let date =
            date.and_then(|date| date.and_hms_micro_opt(part(3).ok()?, part(4).ok()?, part(5).ok()?, part(6).ok()?));
        let offset = offset(c, 7)?;
        let date = date.and_then(|date| offset.from_local_datetime(&date).single());
        date.map(V::Date).ok_or_else(|| Fault::new("ValueError", "day is out of range for month"))
    }),
    ("datetime", Function, "value format?", |c| match c.value(0)? {
        V::Text(text) if c.has(1) => {
            let format = c.text(1)?;
            let with_zone = DateTime::parse_from_str(&text, &format).ok();
            let naive = || NaiveDateTime::parse_from_str(&text, &format).ok();
            let day = || NaiveDate::parse_from_str(&text, &format).ok()?.and_hms_opt(0, 0, 0);
            let found = with_zone.or_else(|| naive().or_else(day).map(|naive| naive.and_utc().fixed_offset()));
            found
                .map(V::Date)
                .ok_or_else(|| Fault::new("ValueError", format!("time data '{text}' does not match format '{format}'")))
        }
        V::Text(text) => {
            parse(&text).map(V::Date).ok_or_else(|| Fault::new("ParserError", format!("Unknown string format: {text}")))
        }
        V::Int(_) | V::Float(_) => {
            let micros = c.value(0)?.float() * SECOND as f64;
            let found = DateTime::from_timestamp_micros(micros as i64).map(|date| V::Date(date.fixed_offset()));
            found.ok_or_else(|| Fault::new("ValueError", "year is out of range"))
        }
        _ => wrong(),
    }),
    ("now", Function, "offset?", |c| Ok(V::Date(Utc::now().with_timezone(&offset(c, 0)?)))),
    ("timespan", Function, "days? hours? minutes? seconds? milliseconds? microseconds?", |c| {
        let units = [86_400 * SECOND, 3600 * SECOND, 60 * SECOND, SECOND, 1000, 1];
        let mut sum = 0.0;
        for (at, unit) in units.into_iter().enumerate() {
            match c.optional(at)? {
                None => {}
                Some(number @ (V::Int(_) | V::Float(_))) => sum += number.float() * unit as f64,
                Some(_) => return wrong(),
            }
        }
        Ok(V::Span(sum as i64))
    }),
    ("format", Method, "dt format", |c| match c.value(0)? {
        V::Date(date) => {
            use std::fmt::Write as _;
            let format = c.text(1)?.replace("%f", "%6f");
            let mut out = String::new();
            let written = write!(out, "{}", date.format(&format));
            written.map(|()| V::text(out)).map_err(|_| Fault::new("ValueError", "Invalid format string"))
        }
        _ => wrong(),
    }),
    ("replace", Method, "dt year? month? day? hour? minute? second? microsecond? offset?", |c| {
        let V::Date(date) = c.value(0)? else { return wrong() };
        let part = |at, old: u32| c.int_or(at, old.into()).map(|part| u32::try_from(part).unwrap_or(u32::MAX));
        let year = i32::try_from(c.int_or(1, date.year().into())?).unwrap_or(i32::MAX);
        let day = NaiveDate::from_ymd_opt(year, part(2, date.month())?, part(3, date.day())?);
        let (hour, minute) = (part(4, date.hour())?, part(5, date.minute())?);
        let (second, micro) = (part(6, date.second())?, part(7, date.nanosecond() / 1000)?);
        let zone = if c.has(8) { offset(c, 8)? } else { *date.offset() };
        let date = day.and_then(|day| day.and_hms_micro_opt(hour, minute, second, micro));
        let date = date.and_then(|date| zone.from_local_datetime(&date).single());
        date.map(V::Date).ok_or_else(|| Fault::new("ValueError", "day is out of range for month"))
    }),
    ("isDatetime", Both, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Date(_))))),
    ("isTimespan", Both, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Span(_))))),
    ("utctz", Function, "", |_| Ok(V::Span(0))),
    // The server's zone would make results depend on where they run.
    ("localtz", Function, "", |_| Ok(V::Span(0))),
];

fn offset(c: &Call<'_, '_>, at: usize) -> R<FixedOffset> {
    let span = match c.optional(at)? {
        None => 0,
        Some(V::Span(span)) => span,
        Some(_) => return wrong(),
    };
    let seconds = i32::try_from(span / SECOND).ok();
    seconds.and_then(FixedOffset::east_opt).ok_or_else(|| Fault::new("ValueError", "offset is out of range"))
}

/// ISO texts with or without time and zone; no zone is UTC.
fn parse(text: &str) -> Option<DateTime<FixedOffset>> {
    let text = text.trim();
    if let Ok(date) = DateTime::parse_from_rfc3339(text) {
        return Some(date);
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"] {
        if let Ok(date) = DateTime::parse_from_str(text, format) {
            return Some(date);
        }
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let naive = naive.into_iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || ["%Y-%m-%d", "%Y%m%d", "%Y/%m/%d"].into_iter().find_map(|f| NaiveDate::parse_from_str(text, f).ok());
    let naive = naive.or_else(|| day()?.and_hms_opt(0, 0, 0))?;
    Some(naive.and_utc().fixed_offset())
}

fn micros(date: &DateTime<FixedOffset>) -> i64 {
    date.timestamp_micros()
}

/// Operators on dates and spans.
pub(super) fn arithmetic(operator: &str, left: &V, right: &V) -> R<Option<V>> {
    let shifted = |date: &DateTime<FixedOffset>, span: i64| {
        let moved = date.checked_add_signed(TimeDelta::microseconds(span));
        moved.map(V::Date).ok_or_else(|| Fault::new("OverflowError", "date value out of range"))
    };
    let spans = |span: Option<i64>| span.map(V::Span).ok_or_else(|| Fault::new("OverflowError", "span out of range"));
    Ok(Some(match (operator, left, right) {
        ("+", V::Date(date), V::Span(span)) | ("+", V::Span(span), V::Date(date)) => shifted(date, *span)?,
        ("-", V::Date(date), V::Span(span)) => shifted(date, span.saturating_neg())?,
        ("-", V::Date(a), V::Date(b)) => V::Span(micros(a) - micros(b)),
        ("+", V::Span(a), V::Span(b)) => spans(a.checked_add(*b))?,
        ("-", V::Span(a), V::Span(b)) => spans(a.checked_sub(*b))?,
        ("*", V::Span(span), number @ (V::Int(_) | V::Float(_)))
        | ("*", number @ (V::Int(_) | V::Float(_)), V::Span(span)) => V::Span((*span as f64 * number.float()) as i64),
        ("/", V::Span(_), V::Span(0)) => return Err(Fault::new("ZeroDivisionError", "float division by zero")),
        ("/", V::Span(a), V::Span(b)) => V::Float(*a as f64 / *b as f64),
        ("/", V::Span(span), number @ (V::Int(_) | V::Float(_))) => {
            if number.float() == 0.0 {
                return Err(Fault::new("ZeroDivisionError", "float division by zero"));
            }
            V::Span((*span as f64 / number.float()) as i64)
        }
        _ => return Ok(None),
    }))
}

/// `.year` and so on; `None` if no value has such a property.
pub(super) fn property(value: &V, name: &str) -> Option<R> {
    let unit = match name {
        "days" => 86_400 * SECOND,
        "hours" => 3600 * SECOND,
        "minutes" => 60 * SECOND,
        "seconds" => SECOND,
        "milliseconds" => 1000,
        "microseconds" => 1,
        _ => return of_date(value, name),
    };
    Some(match value {
        V::Span(span) if unit == 1 => Ok(V::Int((*span).into())),
        V::Span(span) => Ok(V::Float(*span as f64 / unit as f64)),
        _ => Err(super::call::unmatched(&format!("#property#{name}"))),
    })
}

fn of_date(value: &V, name: &str) -> Option<R> {
    let names = [
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "second",
        "microsecond",
        "weekday",
        "offset",
        "timestamp",
        "utc",
        "date",
        "time",
    ];
    if !names.contains(&name) {
        return None;
    }
    let V::Date(date) = value else { return Some(Err(super::call::unmatched(&format!("#property#{name}")))) };
    let int = |number: u32| V::Int(number.into());
    let midnight = || date.timezone().from_local_datetime(&date.date_naive().and_hms_opt(0, 0, 0)?).single();
    Some(Ok(match name {
        "year" => V::Int(date.year().into()),
        "month" => int(date.month()),
        "day" => int(date.day()),
        "hour" => int(date.hour()),
        "minute" => int(date.minute()),
        "second" => int(date.second()),
        "microsecond" => int(date.nanosecond() / 1000),
        "weekday" => int(date.weekday().num_days_from_monday()),
        "offset" => V::Span(i64::from(date.offset().fix().local_minus_utc()) * SECOND),
        "timestamp" => V::Float(micros(date) as f64 / SECOND as f64),
        "utc" => V::Date(date.with_timezone(&Utc).fixed_offset()),
        "date" => V::Date(midnight().unwrap_or(*date)),
        _ => V::Span(micros(date) - midnight().map_or(0, |midnight| micros(&midnight))),
    }))
}
