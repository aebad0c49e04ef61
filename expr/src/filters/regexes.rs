//! `regex_*`.

use minijinja::value::{Kwargs, Tuple};
use minijinja::{Environment, Error, Value};

use super::{argument, failed};
use crate::jinja::values::{input, text};
use crate::pyregex::{Flags, PyRegex};

pub(super) fn register(env: &mut Environment<'_>) {
    env.add_filter("regex_match", regex_match);
    env.add_filter("regex_search", regex_search);
    env.add_filter("regex_replace", regex_replace);
    env.add_filter("regex_substring", regex_substring);
}

fn compile(pattern: &str, ignorecase: Option<Value>, kwargs: &Kwargs) -> Result<PyRegex, Error> {
    let ignore_case = argument(ignorecase, kwargs, "ignorecase")?.is_some_and(|flag| flag.is_true());
    kwargs.assert_all_used()?;
    PyRegex::new(pattern, Flags { ignore_case, dot_all: false }).map_err(failed)
}

fn named(positional: Option<Value>, kwargs: &Kwargs, name: &str) -> Result<String, Error> {
    let given = argument(positional, kwargs, name)?;
    given.map(|value| text(&value)).ok_or_else(|| failed(format!("missing 1 required positional argument: '{name}'")))
}

fn regex_match(
    value: &Value,
    pattern: Option<Value>,
    ignorecase: Option<Value>,
    kwargs: Kwargs,
) -> Result<bool, Error> {
    let pattern = named(pattern, &kwargs, "pattern")?;
    compile(&pattern, ignorecase, &kwargs)?.matches_start(&input(value)?).map_err(failed)
}

fn regex_search(
    value: &Value,
    pattern: Option<Value>,
    ignorecase: Option<Value>,
    kwargs: Kwargs,
) -> Result<bool, Error> {
    let pattern = named(pattern, &kwargs, "pattern")?;
    compile(&pattern, ignorecase, &kwargs)?.search(&input(value)?).map_err(failed)
}

fn regex_replace(
    value: &Value,
    pattern: Option<Value>,
    replacement: Option<Value>,
    ignorecase: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let pattern = named(pattern, &kwargs, "pattern")?;
    let replacement = named(replacement, &kwargs, "replacement")?;
    compile(&pattern, ignorecase, &kwargs)?.replace_all(&text(value), &replacement).map_err(failed)
}

/// The n-th of what `re.findall` gives: the match, its only group, or a tuple of its groups.
fn regex_substring(
    value: &Value,
    pattern: Option<Value>,
    result_index: Option<Value>,
    ignorecase: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let pattern = named(pattern, &kwargs, "pattern")?;
    let index = argument(result_index, &kwargs, "result_index")?.and_then(|index| index.as_i64()).unwrap_or(0);
    let mut found = compile(&pattern, ignorecase, &kwargs)?.find_all(&input(value)?).map_err(failed)?;
    let place = if index < 0 { index + i64::try_from(found.len()).unwrap_or(i64::MAX) } else { index };
    let place = usize::try_from(place).ok().filter(|place| *place < found.len());
    let mut groups = found.swap_remove(place.ok_or_else(|| failed("list index out of range"))?);
    Ok(match groups.len() {
        1 | 2 => Value::from(groups.pop().unwrap_or_default()),
        _ => Value::from(Tuple::from(groups.into_iter().skip(1).map(Value::from).collect::<Vec<_>>())),
    })
}
