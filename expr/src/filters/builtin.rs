//! Jinja2's own filters where the engine's differ or are missing.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, State, Value};

use super::{argument, failed};
use crate::jinja::values::{input, text};

/// Widest result of `center`.
const MAX_WIDTH: usize = 1 << 16;

pub(super) fn register(env: &mut Environment<'_>) {
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("string", |value: &Value| input(value));
    env.add_filter("center", center);
    env.add_filter("percent_format", percent_format);
    env.add_filter("wordcount", |value: &Value| input(value).map(|text| words(&text)));
}

/// Never fails: what isn't a number is the default.
fn int(value: &Value, default: Option<Value>, base: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = argument(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0));
    let base = argument(base, &kwargs, "base")?.and_then(|base| base.as_i64()).unwrap_or(10);
    kwargs.assert_all_used()?;
    let parsed = match value.kind() {
        ValueKind::Undefined => return input(value).map(Value::from),
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(truncated),
        ValueKind::String | ValueKind::Plain => {
            let text = text(value);
            let base = u32::try_from(base).unwrap_or(10);
            crate::params::python_int(&text, base)
                .map(Value::from)
                .or_else(|| crate::params::python_float(&text).and_then(truncated))
        }
        _ => None,
    };
    Ok(parsed.unwrap_or(default))
}

fn truncated(number: f64) -> Option<Value> {
    (number.is_finite() && number.abs() < 1e38).then(|| Value::from(number.trunc() as i128))
}

fn float(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = argument(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0.0));
    kwargs.assert_all_used()?;
    let parsed = match value.kind() {
        ValueKind::Undefined => return input(value).map(Value::from),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String | ValueKind::Plain => crate::params::python_float(&input(value)?),
        _ => None,
    };
    Ok(parsed.map_or(default, Value::from))
}

fn center(value: &Value, width: Option<usize>) -> Result<String, Error> {
    let (text, width) = (input(value)?, width.unwrap_or(80));
    if width > MAX_WIDTH {
        return Err(failed(format!("width is more than {MAX_WIDTH}")));
    }
    let missing = width.saturating_sub(text.chars().count());
    // Python puts the odd blank to the left when the width is odd.
    let left = missing / 2 + (missing & width & 1);
    Ok(format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left)))
}

/// `'…' % operand`.
fn percent_format(state: &mut State<'_, '_>, format: &Value, operand: &Value) -> Result<Value, Error> {
    let mut args = vec![format.clone()];
    match operand.kind() {
        ValueKind::Seq if operand.is_tuple() => args.extend(operand.try_iter()?),
        ValueKind::Map => {
            let pairs = operand.try_iter()?.map(|key| {
                let value = operand.get_item(&key).unwrap_or_default();
                (text(&key), value)
            });
            args.push(Value::from(Kwargs::from_iter(pairs)));
        }
        // Containers are printed as Python prints them.
        ValueKind::Seq => args.push(Value::from(text(operand))),
        _ => args.push(operand.clone()),
    }
    state.apply_filter("format", &args)
}

fn words(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}
