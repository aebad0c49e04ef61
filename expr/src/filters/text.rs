//! Texts: paths, spans of time, magic none, secrets.

use chrono::{Datelike, NaiveDate, TimeDelta, Timelike};
use minijinja::{Environment, Error, State, Value};

use super::failed;
use crate::jinja::values::{input, text};
use crate::jinja::{KEYS_VARIABLE, keys_of};

/// What `use_none` writes for null; the cast after rendering makes it null again.
pub(crate) const MAGIC_NONE: &str = "%*****__%NONE%__*****%";

pub(super) fn register(env: &mut Environment<'_>) {
    env.add_filter("use_none", use_none);
    env.add_filter("basename", basename);
    env.add_filter("dirname", dirname);
    env.add_filter("to_human_time_from_seconds", to_human_time_from_seconds);
    env.add_filter("decrypt_kv", decrypt_kv);
}

fn use_none(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        input(value)?;
    }
    Ok(if value.is_none() { Value::from(MAGIC_NONE) } else { value.clone() })
}

fn basename(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn dirname(path: &str) -> String {
    let head = path.rfind('/').map_or("", |slash| &path[..=slash]);
    let bare = head.trim_end_matches('/');
    if bare.is_empty() { head.to_owned() } else { bare.to_owned() }
}

/// Counted from the calendar's first day, so whole months are lost, as in StackStorm.
fn to_human_time_from_seconds(value: &Value) -> Result<String, Error> {
    if !value.is_number() {
        return Err(failed(format!("{} is not a number of seconds", text(value))));
    }
    let exact = f64::try_from(value.clone()).map_err(failed)?;
    if exact == 0.0 {
        return Ok("0s".to_owned());
    }
    if exact < 1.0 {
        return Ok(format!("{}μs", text(value)));
    }
    let overflow = || failed("date value out of range");
    let seconds = TimeDelta::try_seconds(exact.round_ties_even() as i64).ok_or_else(overflow)?;
    let first = NaiveDate::from_ymd_opt(1, 1, 1).and_then(|day| day.and_hms_opt(0, 0, 0)).ok_or_else(overflow)?;
    let end = first.checked_add_signed(seconds).filter(|end| end.year() <= 9999).ok_or_else(overflow)?;
    let parts = [
        (i64::from(end.year() - 1), 'y'),
        (i64::from(end.day() - 1), 'd'),
        (i64::from(end.hour()), 'h'),
        (i64::from(end.minute()), 'm'),
        (i64::from(end.second()), 's'),
    ];
    let from = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    Ok(parts[from..].iter().map(|(count, unit)| format!("{count}{unit}")).collect())
}

fn decrypt_kv(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let keys = state.lookup(KEYS_VARIABLE).and_then(|root| keys_of(&root));
    keys.ok_or_else(|| failed("the datastore is not available here"))?.decrypt(&input(value)?)
}
