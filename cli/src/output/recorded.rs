//! Recorded outputs of StackStorm's client against our printers: where a resource was recorded both as JSON and in
//! another form, the JSON is printed again in that form and must give the recorded bytes.

use std::path::PathBuf;

use serde_json::Value;

use super::{Format, Style, Zone, execution, schema, table, value, yaml};

const STYLE: Style = Style { format: Format::Human, colour: true, zone: Zone::UTC, columns: 150 };

/// What a recording printed on standard output; `None` (and a message) where the recordings aren't.
fn recorded(name: &str) -> Option<String> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("SQUALL_SHARED").map_or(default, PathBuf::from);
    let folder = shared.join("data/golden/cli");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no recordings at {} (set SQUALL_SHARED)", folder.display());
        return None;
    };
    let file = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with(name));
    let text = std::fs::read_to_string(file.expect("a recording of that number").path()).expect("a text");
    let (_, output) = text.split_once('\n').expect("the command line");
    let end = output.find("--- rc=").expect("the exit code");
    let output = &output[..end];
    Some(output.split("--- stderr ---").next().unwrap_or_default().to_owned())
}

/// The JSON of a recording.
fn document(name: &str) -> Option<Value> {
    recorded(name).map(|text| serde_json::from_str(&text).expect("JSON"))
}

fn names(document: &[&str]) -> Vec<String> {
    document.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_action_in_every_form() {
    let Some(action) = document("014") else { return };
    let resource = crate::resources::find("action").expect("actions");
    let rows: Vec<_> = value::ordered(&action, resource.order)
        .into_iter()
        .map(|name| (name.clone(), value::object_cell(&action, &name)))
        .collect();
    assert_eq!(Some(table::properties(&rows) + "\n"), recorded("013"));
    assert_eq!(Some(yaml::dump(&action, yaml::DOCUMENT) + "\n"), recorded("015"));
    assert_eq!(Some(super::python::json(&action, true) + "\n"), recorded("014"));
}

#[test]
fn an_execution_in_every_form() {
    let Some(run) = document("047") else { return };
    let elapsed = execution::elapsed(&run, chrono::Utc::now());
    assert_eq!(Some(yaml::dump(&run, yaml::DOCUMENT) + "\n"), recorded("048"));
    assert_eq!(Some(super::python::json(&run, true) + "\n"), recorded("047"));
    let chosen = execution::listing(&run, &names(&["status", "result"]), &STYLE, &elapsed);
    assert_eq!(Some(chosen + "\n"), recorded("051"));
    let listing = execution::listing(&run, &names(execution::GET), &STYLE, &elapsed);
    let suggestion = schema::suggestion(&run["result"]);
    assert_eq!(Some(format!("{listing}\n\n{suggestion}\n")), recorded("054"));
}

#[test]
fn a_workflow_and_its_tasks() {
    let Some(text) = recorded("036") else { return };
    let (parent, tasks) = text.split_once("\n}\n[").expect("an object and a list");
    let parent: Value = serde_json::from_str(&format!("{parent}\n}}")).expect("JSON");
    let rows: Vec<Value> = serde_json::from_str(&format!("[{tasks}")).expect("JSON");
    let style = Style { format: Format::Json, ..STYLE };
    let printed = execution::workflow_text(&parent, None, &style, "");
    let children = super::python::json(&Value::Array(rows), true);
    assert_eq!(format!("\n{printed}\n{children}\n"), text);
}
