//! `version_*`: strict SemVer 2.

use std::cmp::Ordering;

use minijinja::{Environment, Error};
use semver::Version;

use super::failed;

pub(super) fn register(env: &mut Environment<'_>) {
    env.add_filter("version_compare", |value: &str, other: &str| compare(value, other).map(|order| order as i64));
    env.add_filter("version_more_than", |value: &str, other: &str| compare(value, other).map(Ordering::is_gt));
    env.add_filter("version_less_than", |value: &str, other: &str| compare(value, other).map(Ordering::is_lt));
    env.add_filter("version_equal", |value: &str, other: &str| compare(value, other).map(Ordering::is_eq));
    env.add_filter("version_match", version_match);
    env.add_filter("version_bump_major", |value: &str| {
        parse(value).map(|v| format!("{}.0.0", v.major.saturating_add(1)))
    });
    env.add_filter("version_bump_minor", |value: &str| {
        parse(value).map(|v| format!("{}.{}.0", v.major, v.minor.saturating_add(1)))
    });
    env.add_filter("version_bump_patch", |value: &str| {
        parse(value).map(|v| format!("{}.{}.{}", v.major, v.minor, v.patch.saturating_add(1)))
    });
    env.add_filter("version_strip_patch", |value: &str| parse(value).map(|v| format!("{}.{}", v.major, v.minor)));
}

fn parse(text: &str) -> Result<Version, Error> {
    Version::parse(text).map_err(|_| failed(format!("{text} is not valid SemVer string")))
}

fn compare(value: &str, other: &str) -> Result<Ordering, Error> {
    Ok(parse(value)?.cmp_precedence(&parse(other)?))
}

fn version_match(value: &str, expression: &str) -> Result<bool, Error> {
    let operators = [">=", "<=", "==", "!=", ">", "<"];
    let operator = operators.into_iter().find(|operator| expression.starts_with(operator));
    let other = &expression[operator.map_or(0, str::len)..];
    if operator.is_none() && !expression.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(failed(format!(
            "match_expr parameter should be in format <op><ver>, where <op> is one of ['<', '>', '==', '<=', '>=', \
             '!=']. You provided: '{expression}'"
        )));
    }
    let order = compare(value, other)?;
    Ok(match operator {
        Some(">=") => order.is_ge(),
        Some("<=") => order.is_le(),
        Some("!=") => order.is_ne(),
        Some(">") => order.is_gt(),
        Some("<") => order.is_lt(),
        _ => order.is_eq(),
    })
}
