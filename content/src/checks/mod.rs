//! From untrusted objects to resources: closed schemas, whose errors are those of StackStorm's API models.
//!
//! The same checks serve files of packs and bodies of requests. They know nothing of files: callers say where an
//! object came from.

mod pack;
mod resources;
mod schemas;

pub use pack::{config_schema, config_values, pack};
pub use resources::{action, alias, policy, rule, sensor, trigger_type};

use model::Object;
use serde_json::Value;

/// A text field, if it is there.
fn text(object: &Object, field: &str) -> Option<String> {
    object.get(field).and_then(Value::as_str).map(str::to_owned)
}

fn object(source: &Object, field: &str) -> Object {
    source.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn flag(object: &Object, field: &str, default: bool) -> bool {
    object.get(field).and_then(Value::as_bool).unwrap_or(default)
}

fn texts(object: &Object, field: &str) -> Vec<String> {
    let items = object.get(field).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
