//! Picking attributes out of documents and writing them into table cells.

use serde_json::{Map, Value};

use super::{Zone, python, time};

/// Attributes that hold instants shown in the reader's zone.
const INSTANTS: &[&str] = &["start_timestamp", "end_timestamp", "occurrence_time", "expire_timestamp"];

/// The value at a dotted path. An attribute's own name may hold dots.
pub fn at<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(value) = document.get(path) {
        return Some(value);
    }
    let (head, rest) = path.split_once('.')?;
    at(document.get(head)?, rest)
}

/// The parts of a document that the given paths name, nested as in the document; what is missing is left out.
pub fn pick(document: &Value, paths: &[String]) -> Value {
    let mut out = Map::new();
    for path in paths {
        if let Some(value) = at(document, path) {
            insert(&mut out, document, path, value.clone());
        }
    }
    Value::Object(out)
}

fn insert(out: &mut Map<String, Value>, document: &Value, path: &str, value: Value) {
    match path.split_once('.') {
        Some((head, rest)) if document.get(path).is_none() => {
            let inner = out.entry(head.to_owned()).or_insert_with(|| Value::Object(Map::new()));
            if let (Value::Object(inner), Some(document)) = (inner, document.get(head)) {
                insert(inner, document, rest, value);
            }
        }
        _ => {
            out.insert(path.to_owned(), value);
        }
    }
}

/// The attributes of a document: those of `first` that it has in that order, then the others by name.
pub fn ordered(document: &Value, first: &[&str]) -> Vec<String> {
    let mut names: Vec<String> =
        first.iter().filter(|name| at(document, name).is_some()).map(|name| (*name).to_owned()).collect();
    let mut others: Vec<String> = match document {
        Value::Object(map) => map.keys().filter(|key| !first.contains(&key.as_str())).cloned().collect(),
        _ => Vec::new(),
    };
    others.sort();
    names.extend(others);
    names
}

/// A cell of a list.
pub fn list_cell(document: &Value, path: &str, zone: Zone) -> String {
    match at(document, path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::Array(items)) => items.iter().map(python::text).collect::<Vec<_>>().join(", "),
        Some(Value::String(text)) if INSTANTS.contains(&path) => time::display(text, zone),
        Some(value) => python::text(value),
    }
}

/// A cell of an object's table: structures as JSON, empty ones as nothing.
pub fn object_cell(document: &Value, path: &str) -> String {
    match at(document, path) {
        None | Some(Value::Null) => String::new(),
        Some(value @ (Value::Array(_) | Value::Object(_))) => {
            if python::is_falsy(value) {
                return String::new();
            }
            python::json(value, false).replace("\\n", "\n").replace("\\r", "").replace("\\\"", "\"")
        }
        Some(value) => python::text(value),
    }
}

/// What every listed document has, for `-a all`.
pub fn union(documents: &[Value]) -> Vec<String> {
    let keys = documents.iter().filter_map(Value::as_object).flat_map(Map::keys).cloned();
    keys.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_pick_nested_parts() {
        let document = json!({"action": {"ref": "core.noop", "pack": "core"}, "context": {"user": "x"}, "a.b": 1});
        let paths = ["action.ref", "context.user", "nope.x", "a.b"].map(str::to_owned);
        assert_eq!(
            pick(&document, &paths),
            json!({"action": {"ref": "core.noop"}, "context": {"user": "x"}, "a.b": 1})
        );
        assert_eq!(ordered(&document, &["context", "id"]), ["context", "a.b", "action"]);
    }

    #[test]
    fn cells_follow_the_recordings() {
        let document = json!({"l": ["a", 1], "d": {"u": 1}, "e": {}, "n": null, "b": true});
        let cells: Vec<_> = ["l", "d", "e", "n", "b", "x"].map(|path| list_cell(&document, path, Zone::UTC)).into();
        assert_eq!(cells, ["a, 1", "{'u': 1}", "{}", "", "True", ""]);
        let cells: Vec<_> = ["l", "e", "b"].map(|path| object_cell(&document, path)).into();
        assert_eq!(cells, ["[\n    \"a\",\n    1\n]", "", "True"]);
    }
}
