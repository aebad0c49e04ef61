//! What came of a case beside what was recorded.

use model::resource::Object;
use serde_json::{Value, json};

use super::super::conductor::{Conductor, TaskRequest};
use super::super::inspect::Inspection;
use super::Outcome;

/// Numbers are equal by value; a set, tuple or view is its list.
pub fn same(found: &Value, recorded: &Value) -> bool {
    match (found, recorded) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (found, Value::Object(b)) if b.len() == 1 && b.keys().all(|key| key.starts_with('$')) => {
            b.iter().all(|(key, value)| match key.as_str() {
                "$opaque" => true,
                "$set" | "$tuple" | "$view" | "$datetime" => same(found, value),
                _ => found == recorded,
            })
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

pub fn differ(what: &str, found: &Value, recorded: &Value, into: &mut Vec<String>) {
    if !same(found, recorded) {
        into.push(format!("{what}:\n      found    {found}\n      recorded {recorded}"));
    }
}

pub fn inspection(found: &Inspection, recorded: Option<&Value>, outcome: &mut Outcome) {
    let empty = json!({});
    let found = serde_json::to_value(found).unwrap_or_default();
    differ("inspection", &found, recorded.unwrap_or(&empty), &mut outcome.differences);
}

/// The end of a run.
pub fn last(conductor: &Conductor, recorded: Option<&Value>, outcome: &mut Outcome) {
    let Some(recorded) = recorded else { return };
    let found = shown(conductor);
    for (key, recorded) in recorded.as_object().into_iter().flatten() {
        let list = match key.as_str() {
            "workflow_status" | "output" | "errors" => &mut outcome.differences,
            _ => &mut outcome.internal,
        };
        differ(key, found.get(key).unwrap_or(&Value::Null), recorded, list);
    }
}

/// The engine's state in the form of the recordings.
fn shown(conductor: &Conductor) -> Value {
    let state = conductor.state();
    let tasks: Vec<Value> = state
        .tasks
        .iter()
        .map(|task| {
            let mut shown = json!({
                "id": task.id,
                "route": task.route,
                "status": task.status,
                "ctx_in": state.contexts.indexes(task.ctx_in),
                "ctx_out": task.ctx_out.as_ref().map(|(transition, context)| json!({&**transition: context})),
                "prev": task.prev,
                "next": task.next,
                "term": task.term,
            });
            if let Some(retry) = &task.retry {
                shown["retry"] = serde_json::to_value(retry).unwrap_or_default();
            }
            shown
        })
        .collect();
    let staged: Vec<Value> = state
        .staged
        .values()
        .map(|staged| {
            let mut shown = json!({
                "id": staged.id,
                "route": staged.route,
                "ready": staged.ready,
                "ctx_in": state.contexts.indexes(staged.ctx_in),
                "completed": staged.completed,
            });
            if let Some(items) = &staged.items {
                shown["items"] = json!(items.statuses());
            }
            if staged.run_on_fail {
                shown["run_on_fail"] = true.into();
            }
            shown
        })
        .collect();
    let mut shown = json!({
        "workflow_status": state.status,
        "errors": state.errors,
        "log": [],
        "output": state.output,
        "routes": state.routes,
        "contexts": state.contexts.values(),
        "terminal_context": conductor.terminal_context().ok(),
        "tasks": tasks,
        "staged": staged,
    });
    if !state.reruns.is_empty() {
        shown["reruns"] = json!(state.reruns);
    }
    shown
}

/// A task request in the form of the recordings.
pub fn request(request: &TaskRequest) -> Object {
    let actions: Vec<Value> = request
        .actions
        .iter()
        .map(|action| {
            let mut shown = json!({"action": action.action, "input": action.input});
            if let Some(item) = action.item {
                shown["item_id"] = item.into();
            }
            shown
        })
        .collect();
    let mut shown = Object::new();
    shown.insert("id".to_owned(), json!(request.id));
    shown.insert("route".to_owned(), request.route.into());
    shown.insert("actions".to_owned(), actions.into());
    if let Some(delay) = request.delay {
        shown.insert("delay".to_owned(), delay.into());
    }
    if let Some(count) = request.items_count {
        shown.insert("items_count".to_owned(), count.into());
        shown.insert("concurrency".to_owned(), json!(request.concurrency));
    }
    shown
}
