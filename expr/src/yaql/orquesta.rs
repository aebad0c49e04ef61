//! Orquesta's and StackStorm's own functions (spec/orquesta.md §25).

use serde_json::Value;

use super::call::As::Function;
use super::call::{Call, Entry};
use super::interp::wrong;
use super::texts;
use super::value::{Kind, R, V};
use crate::workflow::{Fault, is_completed, is_failure, json_error};

pub(super) const TABLE: &[Entry] = &[
    ("ctx", Function, "key?", |c| match c.optional(0)? {
        Some(key) if key.truthy() => c.it.data(c.it.records().variable(&texts::text(&key))?),
        _ => c.it.whole_context(),
    }),
    ("result", Function, "", |c| c.it.data(c.it.records().result()?)),
    ("succeeded", Function, "", |c| c.it.records().current_is(|status| status == "succeeded").map(V::Bool)),
    ("failed", Function, "", |c| c.it.records().current_is(is_failure).map(V::Bool)),
    ("completed", Function, "", |c| c.it.records().current_is(is_completed).map(V::Bool)),
    ("task_status", Function, "task_id route?", |c| {
        let route = optional_route(c, 1)?;
        Ok(V::text(c.it.records().status(&texts::text(&c.value(0)?), route)))
    }),
    ("task", Function, "task_id? route?", |c| {
        let id = c.optional(0)?.filter(V::truthy).map(|id| texts::text(&id));
        V::from_json(&c.it.records().record(id.as_deref(), optional_route(c, 1)?)?)
    }),
    ("item", Function, "key?", |c| {
        let key = c.optional(0)?.filter(V::truthy).map(|key| texts::text(&key));
        V::from_json(&c.it.records().item(key.as_deref())?)
    }),
    ("st2kv", Function, "key decrypt? default?", |c| {
        let V::Text(key) = c.value(0)? else {
            return Err(Fault::new("TypeError", "Given key is not typeof string."));
        };
        let decrypt = match c.optional(1)? {
            None => false,
            Some(V::Bool(flag)) => flag,
            Some(_) => return Err(Fault::new("TypeError", "Decrypt parameter is not typeof bool.")),
        };
        let default = c.optional(2)?.map(|value| value.to_json()).transpose()?;
        V::from_json(&c.it.records().key(&key, decrypt, default)?)
    }),
    ("json", Function, "value", |c| match c.value(0)? {
        V::Text(text) => parse_json(&text),
        _ => Err(Fault::new("TypeError", "Given object is not typeof string.")),
    }),
    ("from_json_string json_parse", Function, "value", |c| parse_json(&c.text(0)?)),
    ("zip", Function, "* **", zip),
    ("to_json_string json_dump", Function, "value indent? separators?", |c| {
        let json = c.value(0)?.to_json()?;
        let indent = match c.optional(1)? {
            None | Some(V::Null) => None,
            Some(V::Int(indent)) => usize::try_from(indent).ok(),
            Some(_) => return wrong(),
        };
        let (item, key) = match c.optional(2)? {
            None | Some(V::Null) => (",".to_owned(), ": ".to_owned()),
            Some(V::Seq(pair)) if pair.items.len() == 2 => (texts::text(&pair.items[0]), texts::text(&pair.items[1])),
            Some(_) => return wrong(),
        };
        let out = crate::filters::dumps_with(&json, indent, &item, &key);
        let out = out.map_err(|error| Fault::new("ValueError", error.to_string()))?;
        c.it.charge(out.len())?;
        Ok(V::text(out))
    }),
    ("regex_match", Function, "value pattern ignorecase?", |c| filter(c, "regex_match")),
    ("regex_search", Function, "value pattern ignorecase?", |c| filter(c, "regex_search")),
    ("regex_replace", Function, "value pattern replacement ignorecase?", |c| filter(c, "regex_replace")),
    ("regex_substring", Function, "value pattern result_index? ignorecase?", |c| filter(c, "regex_substring")),
    ("version_compare", Function, "value pattern", |c| filter(c, "version_compare")),
    ("version_more_than", Function, "value pattern", |c| filter(c, "version_more_than")),
    ("version_less_than", Function, "value pattern", |c| filter(c, "version_less_than")),
    ("version_equal", Function, "value pattern", |c| filter(c, "version_equal")),
    ("version_match", Function, "value pattern", |c| filter(c, "version_match")),
    ("version_bump_major", Function, "value", |c| filter(c, "version_bump_major")),
    ("version_bump_minor", Function, "value", |c| filter(c, "version_bump_minor")),
    ("version_bump_patch", Function, "value", |c| filter(c, "version_bump_patch")),
    ("version_strip_patch", Function, "value", |c| filter(c, "version_strip_patch")),
    ("use_none", Function, "value", |c| filter(c, "use_none")),
    ("basename", Function, "path", |c| filter(c, "basename")),
    ("dirname", Function, "path", |c| filter(c, "dirname")),
    ("to_human_time_from_seconds", Function, "seconds", |c| match c.value(0)? {
        V::Int(_) | V::Float(_) => filter(c, "to_human_time_from_seconds"),
        _ => Err(Fault::new("AssertionError", "")),
    }),
    ("json_escape", Function, "value", |c| filter(c, "json_escape")),
    ("jsonpath_query", Function, "value query", |c| {
        let values = c.values()?;
        let frozen = !values.first().is_some_and(V::is_thawed);
        V::from_json(&filtered(c, if frozen { "jsonpath query of frozen data" } else { "jsonpath_query" }, &values)?)
    }),
    ("to_yaml_string yaml_dump", Function, "value indent? allow_unicode?", |c| filter(c, "to_yaml_string")),
    ("from_yaml_string yaml_parse", Function, "value", |c| V::parsed(&filtered(c, "from_yaml_string", &c.values()?)?)),
];

fn optional_route(c: &Call<'_, '_>, at: usize) -> R<Option<u32>> {
    match c.optional(at)? {
        None | Some(V::Null) => Ok(None),
        Some(V::Int(route)) => Ok(u32::try_from(route).ok()),
        Some(_) => wrong(),
    }
}

fn parse_json(text: &str) -> R {
    let parsed: Value = serde_json::from_str(text).map_err(|error| json_error(text, &error))?;
    V::parsed(&parsed)
}

/// The longest list decides; null counts as an empty one, and a single list is given back as it is.
fn zip(c: &Call<'_, '_>) -> R {
    let mut pad = V::Null;
    for (name, expr) in &c.named {
        match *name {
            "pad" => pad = c.eval(expr)?,
            _ => return wrong(),
        }
    }
    let lists = c.rest().collect::<R<Vec<_>>>()?;
    if let [only] = lists.as_slice() {
        return Ok(only.clone());
    }
    let mut columns = Vec::new();
    for list in &lists {
        columns.push(match list {
            V::Null => Vec::new(),
            other => super::call::items(other)?,
        });
    }
    let count = columns.iter().map(Vec::len).max().unwrap_or(0);
    c.it.charge(count.saturating_mul(columns.len() * 32))?;
    let row = |at: usize| V::list(columns.iter().map(|column| column.get(at).unwrap_or(&pad).clone()).collect());
    V::seq((0..count).map(row).collect::<R<_>>()?, Kind::List)
}

/// A function that Jinja has as a filter too.
fn filter(c: &Call<'_, '_>, name: &str) -> R {
    V::from_json(&filtered(c, name, &c.values()?)?)
}

fn filtered(c: &Call<'_, '_>, name: &str, values: &[V]) -> R<Value> {
    let values = values.iter().map(V::to_json).collect::<R<Vec<Value>>>()?;
    let found = crate::workflow::call_filter(name, &values)?;
    c.it.charge(64)?;
    Ok(found)
}
