//! Executions as `run` and `execution get` show them (`spec/cli.md` §9).

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{Format, Style, literal, python, table, time, value, yaml};

/// Attributes of a plain execution just run.
pub const RUN: &[&str] =
    &["id", "action.ref", "context.user", "parameters", "status", "start_timestamp", "end_timestamp", "result"];
/// Attributes of a plain execution asked for.
pub const GET: &[&str] =
    &["id", "action.ref", "context.user", "parameters", "status", "start_timestamp", "end_timestamp", "log", "result"];
/// Attributes of a workflow.
pub const WORKFLOW: &[&str] =
    &["id", "action.ref", "parameters", "status", "start_timestamp", "end_timestamp", "log", "result"];
/// The same when the result lists its tasks (action chains): the last one's result comes first.
const CHAIN: &[&str] =
    &["id", "action.ref", "parameters", "status", "result_task", "result", "start_timestamp", "end_timestamp", "log"];
const FAILED_CHAIN: &[&str] = &["error", "traceback", "failed_on"];
const TASK_COLUMNS: [&str; 5] = ["id", "status", "task", "action", "start_timestamp"];

/// No later status follows.
pub fn is_completed(status: &str) -> bool {
    ["succeeded", "failed", "timeout", "abandoned", "canceled"].contains(&status)
}

/// `run` waits while the status is one of these (and, unlike a poll, also during a policy's delay).
pub fn is_awaited(status: &str) -> bool {
    ["requested", "scheduled", "running", "canceling"].contains(&status)
}

/// Whether an execution may have children to show.
pub fn is_workflow(execution: &Value) -> bool {
    let runner = value::at(execution, "action.runner_type").and_then(Value::as_str).unwrap_or_default();
    ["orquesta", "orchestra", "action-chain", "mistral-v2", "mistral-v1", "workflow"].contains(&runner)
        || execution.get("children").and_then(Value::as_array).is_some_and(|children| !children.is_empty())
}

/// The status of a document.
pub fn status(execution: &Value) -> &str {
    execution.get("status").and_then(Value::as_str).unwrap_or_default()
}

/// ` (5s elapsed)` for an execution that runs or has run.
pub fn elapsed(execution: &Value, now: DateTime<Utc>) -> String {
    let text = |name: &str| execution.get(name).and_then(Value::as_str);
    let end = match status(execution) {
        "running" => None,
        status if is_completed(status) => match text("end_timestamp") {
            None => return String::new(),
            end => end,
        },
        _ => return String::new(),
    };
    let seconds = text("start_timestamp").and_then(|start| time::elapsed(start, end, now));
    seconds.map(|seconds| format!(" ({seconds}s elapsed)")).unwrap_or_default()
}

/// An execution as it is listed: the status coloured and with its duration.
pub fn for_list(mut execution: Value, style: &Style, now: DateTime<Utc>) -> Value {
    let shown = style.status(status(&execution)) + &elapsed(&execution, now);
    if let Some(status) = execution.get_mut("status") {
        *status = Value::String(shown);
    }
    execution
}

/// One line per attribute, structures as YAML below their name.
pub fn listing(execution: &Value, attributes: &[String], style: &Style, elapsed: &str) -> String {
    let lines: Vec<String> = attributes
        .iter()
        .map(|name| {
            let text = attribute(execution, name, style);
            let extra = if name == "status" { elapsed } else { "" };
            format!("{}: {text}{extra}", style.paint(94, name))
        })
        .collect();
    lines.join("\n")
}

fn attribute(execution: &Value, name: &str, style: &Style) -> String {
    let found = value::at(execution, name).unwrap_or(&Value::Null);
    let text = match (name, found) {
        ("start_timestamp" | "end_timestamp", Value::String(text)) => return time::display(text, style.zone),
        ("start_timestamp" | "end_timestamp", Value::Null) => return String::new(),
        ("status", Value::String(status)) => return style.paint(93, &style.status(status)),
        (_, Value::String(text)) => text,
        (_, value @ (Value::Array(_) | Value::Object(_))) => return block(value),
        (_, value) => return python::text(value),
    };
    let looks = |open, close| text.starts_with(open) && text.ends_with(close);
    if (looks('{', '}') || looks('[', ']'))
        && let Some(value @ (Value::Array(_) | Value::Object(_))) = literal::parse(text)
    {
        return block(&value);
    }
    text.clone()
}

/// A structure below its name: line feeds within texts are shown as such, quotes bare.
fn block(value: &Value) -> String {
    if matches!(value, Value::Object(map) if map.is_empty()) {
        return "\n{}".to_owned();
    }
    let text = yaml::dump(value, yaml::EMBEDDED).replace('\r', "").replace("\n\n", "\n");
    let lines: Vec<String> =
        text.lines().map(|line| if line.is_empty() { String::new() } else { format!("  {line}") }).collect();
    format!("\n{}", lines.join("\n").replace("\\n", "\n").replace("\\r", "\r").replace("\\\"", "\""))
}

/// The table of `-d`.
pub fn detail(execution: &Value, attributes: &[String], style: &Style, elapsed: &str) -> String {
    let rows: Vec<(String, String)> = attributes
        .iter()
        .map(|name| {
            let cell = match value::at(execution, name) {
                Some(Value::String(text)) if name.ends_with("_timestamp") => time::display(text, style.zone),
                Some(Value::String(text)) if name == "status" => style.status(text) + elapsed,
                _ => value::object_cell(execution, name),
            };
            (name.clone(), cell)
        })
        .collect();
    table::properties(&rows)
}

/// What to show of a workflow: a chain's last task is lifted out of the result.
pub fn workflow(execution: &Value) -> (Value, &'static [&'static str]) {
    let tasks = value::at(execution, "result.tasks").and_then(Value::as_array);
    let Some(task) = tasks.and_then(|tasks| tasks.last()) else { return (execution.clone(), WORKFLOW) };
    let mut shown = execution.clone();
    let result = task.get("result").cloned().unwrap_or(Value::Null);
    let name = task.get("name").cloned().unwrap_or(Value::Null);
    if let Value::Object(map) = &mut shown {
        if status(execution) == "failed" {
            for key in ["error", "traceback"] {
                map.insert(key.to_owned(), result.get(key).cloned().unwrap_or(Value::Null));
            }
            map.insert("failed_on".to_owned(), name.clone());
        }
        map.insert("result_task".to_owned(), name);
        map.insert("result".to_owned(), result);
    }
    (shown, CHAIN)
}

/// A workflow's own part, in the format asked for.
pub fn workflow_text(execution: &Value, asked: Option<&[String]>, style: &Style, elapsed: &str) -> String {
    let (shown, names) = workflow(execution);
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    if let Some(asked) = asked {
        names = asked.to_vec();
    } else if style.format != Format::Human {
        names.extend(FAILED_CHAIN.iter().map(|name| (*name).to_owned()));
    }
    match style.format {
        Format::Human => listing(&shown, &names, style, elapsed),
        Format::Json => python::json(&value::pick(&shown, &names), true),
        Format::Yaml => yaml::dump(&value::pick(&shown, &names), yaml::DOCUMENT),
    }
}

/// The tasks of a workflow, children below their parents as the server sends them.
pub fn tasks(children: &[Value], root: &str, widths: &[usize], style: &Style, now: DateTime<Utc>) -> String {
    let rows = task_rows(children, root, now);
    let columns = TASK_COLUMNS.map(str::to_owned);
    match style.format {
        Format::Json => python::json(&Value::Array(rows), true),
        Format::Yaml => yaml::dump(&Value::Array(rows), yaml::DOCUMENT),
        Format::Human => {
            let cells = |row: &Value| TASK_COLUMNS.map(|name| task_cell(row, name, style)).to_vec();
            let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
            let mut limits = table::limits(&columns, &cells, widths, style.columns);
            if widths.is_empty()
                && let Some(id) = limits.first_mut()
            {
                *id = None;
            }
            table::grid(&columns, &cells, &limits)
        }
    }
}

fn task_cell(row: &Value, name: &str, style: &Style) -> String {
    let text = python::text(row.get(name).unwrap_or(&Value::Null));
    match name {
        "start_timestamp" => time::display(&text, style.zone),
        "status" => {
            let (status, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
            style.status(status) + rest
        }
        _ => text,
    }
}

fn task_rows(children: &[Value], root: &str, now: DateTime<Utc>) -> Vec<Value> {
    let text = |document: &Value, path: &str| value::at(document, path).and_then(Value::as_str).map(str::to_owned);
    let has_children = |child: &Value| child.get("children").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
    let nested = children.iter().any(has_children);
    let depths = depths(children, root);
    children
        .iter()
        .zip(depths)
        .map(|(child, depth)| {
            let id = text(child, "id").unwrap_or_default();
            let id = match (nested, has_children(child)) {
                (false, _) => id,
                (true, true) => format!("{}+ {id}", " ".repeat(depth)),
                (true, false) => format!("{}  {id}", " ".repeat(depth)),
            };
            let names = ["context.orquesta.task_name", "context.chain.name", "context.mistral.task_name"];
            let task = names.iter().find_map(|path| text(child, path));
            let mut row = json!({
                "id": id,
                "status": format!("{}{}", status(child), elapsed(child, now)),
                "action": text(child, "action.ref"),
                "start_timestamp": child.get("start_timestamp"),
            });
            if let Some(task) = task {
                row["task"] = json!(task);
            }
            row
        })
        .collect()
}

/// How many executions stand between each child and the workflow.
fn depths(children: &[Value], root: &str) -> Vec<usize> {
    let id = |document: &Value, name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let parents: std::collections::HashMap<String, String> =
        children.iter().map(|child| (id(child, "id"), id(child, "parent"))).collect();
    children
        .iter()
        .map(|child| {
            let mut depth = 0;
            let mut parent = id(child, "parent");
            // a loop in the data must not become ours
            while parent != root && depth < children.len() {
                let Some(next) = parents.get(&parent) else { break };
                parent = next.clone();
                depth += 1;
            }
            depth
        })
        .collect()
}

/// `result.KEY` of `-k`.
pub fn result_key(execution: &Value, key: &str) -> Value {
    let result = execution.get("result").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    value::at(&result, key).cloned().unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Zone;

    const PLAIN: Style = Style { format: Format::Human, colour: false, zone: Zone::UTC, columns: 150 };

    #[test]
    fn texts_in_structures_keep_their_line_feeds() {
        let execution = json!({"result": {"x": "a'b\nc", "l": [], "t": "say \"x\"\u{e9}\nend"}});
        let shown = attribute(&execution, "result", &PLAIN);
        assert_eq!(shown, "\n  l: []\n  t: \"say \"x\"\\xE9\nend\"\n  x: 'a''b\n    c'");
    }

    #[test]
    fn literals_in_texts_are_opened_up() {
        let execution = json!({"result": "{'a': [1]}", "parameters": "{bad}", "end_timestamp": null});
        assert_eq!(attribute(&execution, "result", &PLAIN), "\n  a:\n  - 1");
        assert_eq!(attribute(&execution, "parameters", &PLAIN), "{bad}");
        assert_eq!(attribute(&execution, "end_timestamp", &PLAIN), "");
        assert_eq!(attribute(&execution, "context.user", &PLAIN), "None");
    }

    #[test]
    fn nested_tasks_are_indented() {
        let child = |id: &str, parent: &str, children: &[&str]| json!({"id": id, "parent": parent, "children": children, "status": "pending"});
        let children = [child("a", "r", &["b"]), child("b", "a", &["c"]), child("c", "b", &[]), child("d", "r", &[])];
        let ids: Vec<_> = task_rows(&children, "r", Utc::now()).iter().map(|row| row["id"].clone()).collect();
        assert_eq!(ids, ["+ a", " + b", "    c", "  d"]);
    }
}
