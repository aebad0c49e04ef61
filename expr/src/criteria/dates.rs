//! Dates in payloads: ISO 8601 first, then what people write (spec/rules.md §9, timediff).

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc, Weekday};
use model::Timestamp;

/// The instant that `text` means. Without a zone it is UTC; without a date it is today's.
pub(super) fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if text.is_empty() || text.len() > 100 {
        return None;
    }
    iso(text).or_else(|| natural(text, now.datetime())).map(|at| at.and_utc().into())
}

/// The date part, then `T` or a blank and a time with an optional offset.
fn iso(text: &str) -> Option<NaiveDateTime> {
    let split = text.find(['T', 't', ' ']);
    let (date, time) = split.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    let date = iso_date(date)?;
    let Some(time) = time else { return Some(date.and_time(NaiveTime::MIN)) };
    let (time, offset) = split_offset(time)?;
    let time = iso_time(time)?;
    date.and_time(time).checked_sub_offset(offset)
}

fn digits(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit())
}

fn iso_date(text: &str) -> Option<NaiveDate> {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |text: &str| text.parse::<u32>().ok();
    match parts.as_slice() {
        [year] if digits(year, &[4]) => NaiveDate::from_ymd_opt(year.parse().ok()?, 1, 1),
        [all] if digits(all, &[8]) => {
            NaiveDate::from_ymd_opt(all[..4].parse().ok()?, number(&all[4..6])?, number(&all[6..])?)
        }
        [year, rest @ ..] if digits(year, &[4]) => {
            let year = year.parse().ok()?;
            match rest {
                [week] if week.starts_with('W') && digits(&week[1..], &[2]) => {
                    NaiveDate::from_isoywd_opt(year, number(&week[1..])?, Weekday::Mon)
                }
                [week, day] if week.starts_with('W') && digits(&week[1..], &[2]) && digits(day, &[1]) => {
                    let monday = NaiveDate::from_isoywd_opt(year, number(&week[1..])?, Weekday::Mon)?;
                    let day = number(day).filter(|day| (1..=7).contains(day))?;
                    monday.checked_add_days(Days::new(u64::from(day - 1)))
                }
                [ordinal] if digits(ordinal, &[3]) => NaiveDate::from_yo_opt(year, number(ordinal)?),
                [month] if digits(month, &[2]) => NaiveDate::from_ymd_opt(year, number(month)?, 1),
                [month, day] if digits(month, &[1, 2]) && digits(day, &[1, 2]) => {
                    NaiveDate::from_ymd_opt(year, number(month)?, number(day)?)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Time and offset: `Z`, `+hh`, `+hhmm`, `+hh:mm`; none is UTC.
fn split_offset(text: &str) -> Option<(&str, FixedOffset)> {
    let utc = FixedOffset::east_opt(0)?;
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, utc));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, utc)) };
    let (time, offset) = text.split_at(at);
    let plain = offset[1..].replace(':', "");
    if !digits(&plain, &[2, 4]) {
        return None;
    }
    let hours: i32 = plain[..2].parse().ok()?;
    let minutes: i32 = plain.get(2..4).map_or(Some(0), |minutes| minutes.parse().ok())?;
    let seconds = hours * 3600 + minutes * 60;
    let seconds = if offset.starts_with('-') { -seconds } else { seconds };
    Some((time.trim_end(), FixedOffset::east_opt(seconds)?))
}

/// `hh:mm`, `hh:mm:ss`, `hh:mm:ss.f…`, and without colons.
fn iso_time(text: &str) -> Option<NaiveTime> {
    let (whole, fraction) = text.split_once(['.', ',']).map_or((text, None), |(whole, f)| (whole, Some(f)));
    let plain = whole.replace(':', "");
    let colons = whole.matches(':').count();
    if !digits(&plain, &[2, 4, 6]) || (colons > 0 && whole.len() != plain.len() / 2 * 3 - 1) {
        return None;
    }
    let part = |at: usize| plain.get(at..at + 2).map_or(Some(0), |text| text.parse::<u32>().ok());
    let nanos = match fraction {
        None => 0,
        Some(fraction) if plain.len() == 6 && !fraction.is_empty() && fraction.bytes().all(|c| c.is_ascii_digit()) => {
            let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            digits.parse().ok()?
        }
        Some(_) => return None,
    };
    NaiveTime::from_hms_nano_opt(part(0)?, part(2)?, part(4)?, nanos)
}

#[derive(Default)]
struct Guess {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    time: Option<NaiveTime>,
    offset: Option<FixedOffset>,
}

/// Month names, day, year, `m/d/y`, time with `am`/`pm`, in any order; names of zones and weekdays count for nothing.
fn natural(text: &str, now: DateTime<Utc>) -> Option<NaiveDateTime> {
    let mut guess = Guess::default();
    let mut understood = false;
    for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
        understood |= guess.take(word)?;
    }
    if !understood {
        return None;
    }
    let today = now.date_naive();
    let has_date = guess.year.is_some() || guess.month.is_some() || guess.day.is_some();
    let date = if has_date {
        let (year, month) = (guess.year.unwrap_or(today.year()), guess.month.unwrap_or(today.month()));
        NaiveDate::from_ymd_opt(year, month, guess.day.unwrap_or(today.day()))?
    } else {
        today
    };
    let at = date.and_time(guess.time.unwrap_or(NaiveTime::MIN));
    guess.offset.map_or(Some(at), |offset| at.checked_sub_offset(offset))
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Guess {
    /// Whether the word said something; `None` when it makes the whole text no date.
    fn take(&mut self, word: &str) -> Option<bool> {
        let lower = word.trim_end_matches('.').to_ascii_lowercase();
        let names =
            |name: &str| lower.len() >= 3 && (name.starts_with(&lower) || (name == "september" && lower == "sept"));
        if let Some(month) = MONTHS.iter().position(|name| names(name)) {
            self.month = Some(u32::try_from(month).ok()? + 1);
            return Some(true);
        }
        if DAYS.iter().any(|name| names(name)) || matches!(lower.as_str(), "at" | "on" | "and" | "of" | "t") {
            return Some(false);
        }
        if lower == "am" || lower == "pm" {
            return self.half_day(&lower);
        }
        if word.starts_with(['+', '-']) && self.time.is_some() {
            self.offset = Some(split_offset(word)?.1);
            return Some(true);
        }
        if word.contains(':') {
            return self.clock(&lower);
        }
        if word.contains('/') {
            return self.slashes(&lower);
        }
        if let Some(date) = iso_date(word).filter(|_| word.contains('-') || digits(word, &[8])) {
            (self.year, self.month, self.day) = (Some(date.year()), Some(date.month()), Some(date.day()));
            return Some(true);
        }
        let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        if number.bytes().all(|c| c.is_ascii_digit()) && !number.is_empty() {
            return self.number(number, &lower[number.len()..]);
        }
        // A zone's name.
        let zone = word.len() <= 5 && word.len() >= 3 && word.bytes().all(|c| c.is_ascii_uppercase());
        (zone && (self.time.is_some() || self.day.is_some())).then_some(false)
    }

    fn half_day(&mut self, half: &str) -> Option<bool> {
        use chrono::Timelike as _;
        let time = self.time.filter(|time| (1..=12).contains(&time.hour()))?;
        let hour = time.hour() % 12 + if half == "pm" { 12 } else { 0 };
        self.time = time.with_hour(hour);
        Some(true)
    }

    fn clock(&mut self, word: &str) -> Option<bool> {
        let (word, half) =
            match word.strip_suffix("am").map(|w| (w, "am")).or_else(|| word.strip_suffix("pm").map(|w| (w, "pm"))) {
                Some((word, half)) => (word, Some(half)),
                None => (word, None),
            };
        let (time, offset) = split_offset(word)?;
        let padded = if time.find(':') == Some(1) { format!("0{time}") } else { time.to_owned() };
        self.time = Some(iso_time(&padded)?);
        if offset.local_minus_utc() != 0 {
            self.offset = Some(offset);
        }
        half.map_or(Some(true), |half| self.half_day(half))
    }

    fn slashes(&mut self, word: &str) -> Option<bool> {
        let parts: Vec<u32> = word.split('/').map(str::parse).collect::<Result<_, _>>().ok()?;
        match parts.as_slice() {
            [year, month, day] if *year > 31 => {
                (self.year, self.month, self.day) = (full_year(*year), Some(*month), Some(*day));
            }
            [month, day, year] => {
                let (month, day) = if *month > 12 { (day, month) } else { (month, day) };
                (self.year, self.month, self.day) = (full_year(*year), Some(*month), Some(*day));
            }
            _ => return None,
        }
        Some(true)
    }

    fn number(&mut self, number: &str, suffix: &str) -> Option<bool> {
        let value: u32 = number.parse().ok()?;
        match (number.len(), suffix) {
            (1 | 2, "am" | "pm") => {
                self.time = NaiveTime::from_hms_opt(value, 0, 0);
                return self.half_day(suffix);
            }
            (1 | 2, "" | "st" | "nd" | "rd" | "th") if self.day.is_none() && (1..=31).contains(&value) => {
                self.day = Some(value);
            }
            (4, "") if self.year.is_none() => self.year = i32::try_from(value).ok().filter(|year| *year > 0),
            (2, "") if self.year.is_none() => self.year = full_year(value),
            _ => return None,
        }
        Some(true)
    }
}

fn full_year(year: u32) -> Option<i32> {
    let year = i32::try_from(year).ok()?;
    Some(match year {
        0..=68 => 2000 + year,
        69..=99 => 1900 + year,
        _ => year,
    })
}
