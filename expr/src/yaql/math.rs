//! Numbers.

use super::call::As::{Both, Function};
use super::call::{Call, Entry};
use super::interp::wrong;
use super::value::{R, V};
use crate::params::{python_float, python_int};
use crate::workflow::Fault;

pub(super) const TABLE: &[Entry] = &[
    ("int", Function, "value", |c| match c.value(0)? {
        V::Null => Ok(V::Int(0)),
        V::Int(number) => Ok(V::Int(number)),
        V::Bool(flag) => Ok(V::Int(flag.into())),
        V::Float(number) if number.is_finite() && number.abs() < 1e36 => Ok(V::Int(number as i128)),
        V::Float(_) => Err(Fault::new("OverflowError", "cannot convert float infinity to integer")),
        V::Text(text) => python_int(&text, 10).map(V::Int).ok_or_else(|| {
            let shown = model::python::repr(&serde_json::Value::String(text.to_string()));
            Fault::new("ValueError", format!("invalid literal for int() with base 10: {shown}"))
        }),
        _ => wrong(),
    }),
    ("float", Function, "value", |c| match c.value(0)? {
        V::Null => Ok(V::Float(0.0)),
        V::Bool(flag) => Ok(V::Float(f64::from(u8::from(flag)))),
        number @ (V::Int(_) | V::Float(_)) => Ok(V::Float(number.float())),
        V::Text(text) => python_float(&text).map(V::Float).ok_or_else(|| {
            let shown = model::python::repr(&serde_json::Value::String(text.to_string()));
            Fault::new("ValueError", format!("could not convert string to float: {shown}"))
        }),
        _ => wrong(),
    }),
    ("bool", Function, "value", |c| Ok(V::Bool(c.value(0)?.truthy()))),
    ("max", Function, "a b", |c| {
        let (a, b) = (c.value(0)?, c.value(1)?);
        Ok(if super::operators::binary(c.it, ">", &b, &a)?.truthy() { b } else { a })
    }),
    ("min", Function, "a b", |c| {
        let (a, b) = (c.value(0)?, c.value(1)?);
        Ok(if super::operators::binary(c.it, ">", &b, &a)?.truthy() { a } else { b })
    }),
    ("abs", Function, "op", |c| match c.value(0)? {
        V::Int(number) => Ok(V::Int(number.saturating_abs())),
        V::Float(number) => Ok(V::Float(number.abs())),
        _ => wrong(),
    }),
    ("sign", Function, "num", |c| match c.value(0)? {
        V::Int(number) => Ok(V::Int(number.signum())),
        V::Float(number) => Ok(V::Int(if number > 0.0 { 1 } else { -i128::from(number < 0.0) })),
        _ => wrong(),
    }),
    ("round", Function, "number ndigits?", round),
    ("pow", Function, "base exponent modulus?", pow),
    ("random", Function, "", |_| Ok(V::Float(random(u64::MAX) as f64 / u64::MAX as f64))),
    ("random", Function, "from to", |c| {
        let (from, to) = (c.int(0)?, c.int(1)?);
        let span = u64::try_from(to.saturating_sub(from)).map_err(|_| Fault::new("ValueError", "empty range"))?;
        Ok(V::Int(from + i128::from(random(span))))
    }),
    ("isInteger", Function, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Int(_))))),
    ("isNumber", Function, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Int(_) | V::Float(_))))),
    ("isBoolean", Function, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Bool(_))))),
    ("bitwiseAnd", Function, "left right", |c| Ok(V::Int(c.int(0)? & c.int(1)?))),
    ("bitwiseOr", Function, "left right", |c| Ok(V::Int(c.int(0)? | c.int(1)?))),
    ("bitwiseXor", Function, "left right", |c| Ok(V::Int(c.int(0)? ^ c.int(1)?))),
    ("bitwiseNot", Function, "arg", |c| Ok(V::Int(!c.int(0)?))),
    ("shiftBitsLeft", Function, "value bitsNumber", |c| {
        let by = u32::try_from(c.int(1)?).map_err(|_| Fault::new("ValueError", "negative shift count"))?;
        let factor = 1_i128.checked_shl(by).filter(|factor| by < 126 && *factor > 0);
        let shifted = factor.and_then(|factor| c.int(0).ok()?.checked_mul(factor));
        shifted.map(V::Int).ok_or_else(|| Fault::limit("an integer is too large"))
    }),
    ("shiftBitsRight", Function, "value bitsNumber", |c| {
        let by = u32::try_from(c.int(1)?).map_err(|_| Fault::new("ValueError", "negative shift count"))?;
        Ok(V::Int(c.int(0)? >> by.min(127)))
    }),
    ("isRegex", Both, "value", |c| Ok(V::Bool(matches!(c.value(0)?, V::Regex(_))))),
];

/// Up to `most`, from the seed of the standard library's hash maps: good enough for what workflows use it for.
fn random(most: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let drawn = RandomState::new().hash_one(std::time::Instant::now());
    if most == u64::MAX { drawn } else { drawn % (most + 1) }
}

/// To even.
fn round(c: &Call<'_, '_>) -> R {
    let digits = c.int_or(1, 0)?;
    match c.value(0)? {
        V::Int(number) if digits >= 0 => Ok(V::Int(number)),
        V::Int(number) => {
            let Some(unit) = u32::try_from(-digits).ok().and_then(|digits| 10_i128.checked_pow(digits)) else {
                return Ok(V::Int(0));
            };
            let low = number.div_euclid(unit) * unit;
            let rest = number - low;
            let up = rest * 2 > unit || (rest * 2 == unit && (low / unit) % 2 != 0);
            Ok(V::Int(if up { low + unit } else { low }))
        }
        V::Float(number) if digits == 0 => Ok(V::Float(number.round_ties_even())),
        V::Float(number) if digits > 0 => {
            let digits = usize::try_from(digits.min(300)).unwrap_or(300);
            Ok(V::Float(format!("{number:.digits$}").parse().unwrap_or(number)))
        }
        V::Float(number) => {
            let unit = 10_f64.powi(i32::try_from(-digits).unwrap_or(400));
            Ok(V::Float((number / unit).round_ties_even() * unit))
        }
        _ => wrong(),
    }
}

fn pow(c: &Call<'_, '_>) -> R {
    let (base, exponent) = (c.value(0)?, c.value(1)?);
    let too_large = || Fault::limit("an integer is too large");
    if c.has(2) {
        let (V::Int(base), V::Int(exponent)) = (base, exponent) else { return wrong() };
        let modulus = c.int(2)?;
        if modulus <= 0 || exponent < 0 || modulus > i128::from(u64::MAX) {
            return Err(Fault::new("ValueError", "pow() 3rd argument must be a small positive number"));
        }
        let (mut result, mut base, mut exponent) = (1 % modulus, base.rem_euclid(modulus) as u128, exponent);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = (result as u128 * base % modulus as u128) as i128;
            }
            base = base * base % modulus as u128;
            exponent >>= 1;
        }
        return Ok(V::Int(result));
    }
    match (&base, &exponent) {
        (V::Int(base), V::Int(exponent)) if *exponent >= 0 => {
            let exponent = u32::try_from(*exponent).map_err(|_| too_large())?;
            base.checked_pow(exponent).map(V::Int).ok_or_else(too_large)
        }
        (V::Int(_) | V::Float(_), V::Int(_) | V::Float(_)) => Ok(V::Float(base.float().powf(exponent.float()))),
        _ => wrong(),
    }
}
