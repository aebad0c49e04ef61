//! Cron timers: which local times match, and which instants these are (spec/scheduling.md §10.1).

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use super::field::{Field, KINDS};
use super::zone::{self, first_change, is_second_pass, offset};
use crate::resource::Object;
use crate::time::Timestamp;

/// The calendar repeats after this many years: a pattern that matches no day in them never does.
const CYCLE_YEARS: u32 = 401;
/// chrono's dates and the field's own bound.
const LAST_YEAR: u32 = 9999;

/// What happens with local times that the clocks show twice, when they are set back.
///
/// (Times that the clocks skip fire once, at the instant that the offset before the skip gives: 02:30 that doesn't
/// exist is 03:30 summer time.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// Fixed hours (`hour: 1`) fire once, in the first pass; patterns with `*` hours fire in both, so that "every
    /// ten minutes" has no gap.
    #[default]
    Auto,
    /// In the first pass only.
    First,
    /// In both.
    Both,
}

/// A compiled cron timer.
#[derive(Debug, Clone, PartialEq)]
pub struct Cron {
    year: Field,
    month: Field,
    day: Field,
    week: Field,
    weekday: Field,
    hour: Field,
    minute: Field,
    second: Field,
    zone: Tz,
    overlap: Overlap,
}

impl Cron {
    /// Reads the cron fields of `parameters`; null counts as omitted.
    ///
    /// Omitted fields before the last given one match everything, those after it only their least value (week and
    /// day of week: everything). Nothing given: every second.
    pub(super) fn parse(parameters: &Object, zone: Tz) -> Result<Self, String> {
        let given: Vec<Option<String>> = KINDS.iter().map(|kind| text_of(parameters.get(kind.name))).collect();
        let last_given = given.iter().rposition(Option::is_some);
        let mut fields = Vec::with_capacity(KINDS.len());
        for (index, (kind, given)) in KINDS.into_iter().zip(given).enumerate() {
            fields.push(match given {
                Some(text) => Field::parse(kind, &text)?,
                None if last_given.is_some_and(|last| index > last) && !matches!(kind.name, "week" | "day_of_week") => {
                    Field::least(kind)
                }
                None => Field::any(kind),
            });
        }
        let [year, month, day, week, weekday, hour, minute, second] =
            <[Field; 8]>::try_from(fields).map_err(|_| "a cron timer has eight fields".to_owned())?;
        Ok(Self { year, month, day, week, weekday, hour, minute, second, zone, overlap: Overlap::Auto })
    }

    pub(super) fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// The first matching instant later than `after`.
    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after.micros().div_euclid(1_000_000) + 1;
        // An instant that a skip of the clocks gives, waiting for its turn.
        let mut skipped = self.skipped_before(from);
        loop {
            let before = offset(self.zone, from);
            let Some(local) = self.next_local(local_at(from + before)?) else {
                return skipped.map(instant);
            };
            let at = local.and_utc().timestamp() - before;
            if let Some(change) = first_change(self.zone, from, at) {
                if change.after > change.before && at < change.at + change.after - change.before {
                    skipped = Some(skipped.map_or(at, |other| other.min(at)));
                }
                if skipped.is_some_and(|skipped| skipped < change.at) {
                    return skipped.map(instant);
                }
                from = change.at;
                continue;
            }
            if skipped.is_some_and(|skipped| skipped <= at) {
                return skipped.map(instant);
            }
            if self.fires_once() && is_second_pass(self.zone, at) {
                from = at + 1;
                continue;
            }
            return Some(instant(at));
        }
    }

    /// Whether times that occur twice fire only the first time.
    const fn fires_once(&self) -> bool {
        match self.overlap {
            Overlap::Auto => !self.hour.has_star,
            Overlap::First => true,
            Overlap::Both => false,
        }
    }

    /// If the clocks skipped a while shortly before `from`: the first skipped local time that matches and whose
    /// instant is not before `from`.
    fn skipped_before(&self, from: i64) -> Option<i64> {
        let change = first_change(self.zone, from - zone::LARGEST_SHIFT, from)?;
        let end = change.at + change.after - change.before;
        if change.after <= change.before || from >= end {
            return None;
        }
        let local = self.next_local(local_at(from + change.before)?)?;
        let at = local.and_utc().timestamp() - change.before;
        (at < end).then_some(at)
    }

    /// The first matching local time that is not before `from`.
    fn next_local(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let day = from.date();
        if self.matches_day(day)
            && let Some((hour, minute, second)) = self.next_time(from.hour(), from.minute(), from.second())
        {
            return day.and_hms_opt(hour, minute, second);
        }
        let (hour, minute, second) = self.next_time(0, 0, 0)?;
        self.next_day(day.succ_opt()?)?.and_hms_opt(hour, minute, second)
    }

    /// The first matching time of day that is not before this one.
    fn next_time(&self, hour: u32, minute: u32, second: u32) -> Option<(u32, u32, u32)> {
        let (least_minute, least_second) = (self.minute.next(0)?, self.second.next(0)?);
        if self.hour.contains(hour) {
            if self.minute.contains(minute)
                && let Some(second) = self.second.next(second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = self.minute.next(minute + 1) {
                return Some((hour, minute, least_second));
            }
        }
        Some((self.hour.next(hour + 1)?, least_minute, least_second))
    }

    /// The first matching day that is not before this one.
    fn next_day(&self, from: NaiveDate) -> Option<NaiveDate> {
        let first_year = u32::try_from(from.year()).ok()?;
        let mut year = self.year.next(first_year)?;
        for _ in 0..CYCLE_YEARS {
            let mut month = if year == first_year { from.month() } else { 1 };
            while let Some(matching) = self.month.next(month).filter(|month| *month <= 12) {
                let first = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, matching, 1)?;
                let first = first.max(from);
                let days = first.iter_days().take_while(|day| day.month() == matching);
                if let Some(day) = days.into_iter().find(|day| self.matches_day(*day)) {
                    return Some(day);
                }
                month = matching + 1;
            }
            year = self.year.next(year + 1).filter(|year| *year <= LAST_YEAR)?;
        }
        None
    }

    fn matches_day(&self, day: NaiveDate) -> bool {
        u32::try_from(day.year()).is_ok_and(|year| self.year.contains(year))
            && self.month.contains(day.month())
            && self.weekday.contains(day.weekday().num_days_from_monday())
            && self.matches_day_of_month(day)
            && self.week.contains(day.iso_week().week())
    }

    fn matches_day_of_month(&self, day: NaiveDate) -> bool {
        if self.day.contains(day.day()) {
            return true;
        }
        if !self.day.last_day && self.day.positions.is_empty() {
            return false;
        }
        let last = days_of_month(day);
        let weekday = day.weekday().num_days_from_monday();
        (self.day.last_day && day.day() == last)
            || self.day.positions.iter().any(|position| {
                let right = match position.nth {
                    5 => day.day() + 7 > last,
                    nth => (day.day() - 1) / 7 == nth,
                };
                position.weekday == weekday && right
            })
    }
}

fn days_of_month(day: NaiveDate) -> u32 {
    u32::from(day.num_days_in_month())
}

fn local_at(seconds: i64) -> Option<NaiveDateTime> {
    DateTime::<Utc>::from_timestamp(seconds, 0).map(|at| at.naive_utc())
}

const fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
impl Cron {
    pub(super) fn matches(&self, local: NaiveDateTime) -> bool {
        self.matches_day(local.date())
            && self.hour.contains(local.hour())
            && self.minute.contains(local.minute())
            && self.second.contains(local.second())
    }

    pub(super) const fn once(&self) -> bool {
        self.fires_once()
    }
}
