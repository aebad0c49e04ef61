//! `st2 trace`: what belongs together, and what led to what (`spec/cli.md` §9.4).

use serde_json::{Value, json};

use crate::context::{Context, say};
use crate::error::Result;
use crate::http::Query;
use crate::output::{Format, execution, python, table, value, yaml};
use crate::resources::find;
use crate::verbs;

/// The parts of a trace: the list's name, what a row is called, and the name in `caused_by`.
const PARTS: &[(&str, &str, &str)] = &[
    ("trigger_instances", "trigger-instance", "trigger_instance"),
    ("rules", "rule", "rule"),
    ("action_executions", "execution", "action_execution"),
];
const HEAD: [&str; 3] = ["id", "trace_tag", "start_timestamp"];
const COLUMNS: [&str; 4] = ["id", "type", "ref", "updated_at"];

/// `trace get`.
pub async fn get(context: &Context) -> Result<()> {
    let Some(resource) = find("trace") else { return Ok(()) };
    let matches = &context.matches;
    let wanted = [("execution", "execution"), ("rule", "rule"), ("trigger-instance", "trigger-instance")];
    let target = wanted.iter().find_map(|(option, kind)| matches.one(option).map(|id| (*kind, id.to_owned())));
    verbs::each(context, resource, "id", &Query::new(), |document| {
        let target = target.as_ref().map(|(kind, id)| (*kind, id.as_str()));
        say(&text(context, &document, target));
        Ok(())
    })
    .await
}

/// A trace with its parts. With a target only the chain that led to it.
pub fn text(context: &Context, document: &Value, target: Option<(&str, &str)>) -> String {
    let style = &context.style;
    let mut rows = rows(document);
    if let Some((kind, id)) = target {
        rows = chain(&rows, kind, id);
    }
    let matches = &context.matches;
    let kinds =
        [("show-trigger-instances", "trigger-instance"), ("show-rules", "rule"), ("show-executions", "execution")];
    let asked: Vec<&str> = kinds.iter().filter(|(option, _)| matches.has(option)).map(|(_, kind)| *kind).collect();
    if !asked.is_empty() {
        rows.retain(|row| row.get("type").and_then(Value::as_str).is_some_and(|kind| asked.contains(&kind)));
    }
    if matches.has("hide-noop-triggers") {
        let causes: Vec<Value> = rows.iter().filter_map(|row| value::at(row, "caused_by.id").cloned()).collect();
        rows.retain(|row| {
            row.get("type").and_then(Value::as_str) != Some("trigger-instance")
                || row.get("id").is_some_and(|id| causes.contains(id))
        });
    }
    let columns = COLUMNS.map(str::to_owned);
    let shown: Vec<Value> = rows.iter().map(|row| value::pick(row, &columns)).collect();
    match style.format {
        Format::Json => python::json(&Value::Array(shown), true),
        Format::Yaml => yaml::dump(&Value::Array(shown), yaml::DOCUMENT),
        Format::Human => {
            let head = execution::listing(document, &HEAD.map(str::to_owned), style, "");
            let cells = |row: &Value| columns.iter().map(|name| value::list_cell(row, name, style.zone)).collect();
            let cells: Vec<Vec<String>> = shown.iter().map(cells).collect();
            let limits = table::limits(&columns, &cells, &[], style.columns);
            format!("{head}\n{}", table::grid(&columns, &cells, &limits))
        }
    }
}

fn rows(document: &Value) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for (list, kind, _) in PARTS {
        for part in document.get(list).and_then(Value::as_array).into_iter().flatten() {
            rows.push(json!({
                "id": part.get("object_id"),
                "type": kind,
                "ref": part.get("ref"),
                "updated_at": part.get("updated_at"),
                "caused_by": part.get("caused_by"),
            }));
        }
    }
    rows.sort_by_key(|row| row.get("updated_at").and_then(Value::as_str).unwrap_or_default().to_owned());
    rows
}

/// The target and, before it, what caused it, what caused that, and so on.
fn chain(rows: &[Value], kind: &str, id: &str) -> Vec<Value> {
    let text = |row: &Value, path: &str| value::at(row, path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut wanted = (kind.to_owned(), id.to_owned());
    let mut chain: Vec<Value> = Vec::new();
    while chain.len() < rows.len() {
        let Some(row) = rows.iter().find(|row| text(row, "type") == wanted.0 && text(row, "id") == wanted.1) else {
            break;
        };
        chain.push(row.clone());
        let cause = text(row, "caused_by.type");
        let kind = PARTS.iter().find(|(_, _, name)| *name == cause).map_or("", |(_, kind, _)| kind);
        // a rule's execution names rule and trigger instance together
        let id = text(row, "caused_by.id");
        wanted = (kind.to_owned(), id.split(':').next().unwrap_or_default().to_owned());
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_walked_backwards() {
        let document = json!({
            "trigger_instances": [{"object_id": "t", "updated_at": "1", "caused_by": {}}, {"object_id": "u", "updated_at": "4", "caused_by": {"type": "action_execution", "id": "e"}}],
            "rules": [{"object_id": "r", "updated_at": "2", "caused_by": {"type": "trigger_instance", "id": "t"}}],
            "action_executions": [{"object_id": "e", "updated_at": "3", "caused_by": {"type": "rule", "id": "r:t"}}],
        });
        let all = rows(&document);
        let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&all), ["t", "r", "e", "u"]);
        assert_eq!(ids(&chain(&all, "execution", "e")), ["t", "r", "e"]);
        assert!(chain(&all, "rule", "nope").is_empty());
    }
}
