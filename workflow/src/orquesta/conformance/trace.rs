//! Cases of explicit operations.

use std::sync::Arc;

use model::Timestamp;
use serde_json::{Value, json};

use super::super::conductor::{ConductError, Conductor, Env, Program, RerunRequest, TaskEvent};
use super::super::expression::Expressions;
use super::super::machines::task::Command;
use super::super::spec::{Definition, Document};
use super::super::state::State;
use super::super::status::Status;
use super::{Case, Outcome, compare};

pub fn run(case: &Case, document: &Document, expressions: &dyn Expressions, outcome: &mut Outcome) {
    let program = Arc::new(Program::new(Definition::read(document)));
    let env = Env { expressions, now: Timestamp::from_micros(0) };
    let mut conductor = match Conductor::create(program, case.context.clone(), case.inputs.clone(), env) {
        Ok(conductor) => conductor,
        Err(error) => return outcome.differences.push(error.to_string()),
    };
    for (at, (op, recorded)) in case.ops.iter().zip(&case.expected.steps).enumerate() {
        let found = match step(&mut conductor, op, env) {
            Ok(found) => found,
            Err(error) => json!({"raises": error.to_string()}),
        };
        let mut found = found;
        found["workflow_status"] = json!(conductor.status());
        let what = format!("step {at} {op}");
        let before = outcome.differences.len();
        compare::differ(&what, &found, recorded, &mut outcome.differences);
        if outcome.differences.len() > before {
            break;
        }
    }
    compare::last(&conductor, case.expected.last.as_ref(), outcome);
}

fn step(conductor: &mut Conductor, op: &Value, env: Env<'_>) -> Result<Value, ConductError> {
    match op["op"].as_str().unwrap_or_default() {
        "request_status" => conductor.request_status(status(&op["status"])).map(|()| json!({})),
        "next_tasks" => {
            let requests = conductor.next_tasks(env)?;
            let shown: Vec<Value> = requests
                .iter()
                .map(|request| {
                    let mut ctx = (*request.ctx).clone();
                    ctx.insert("__current_task".to_owned(), json!({"id": request.id, "route": request.route}));
                    let mut shown = compare::request(request);
                    shown.insert("ctx".to_owned(), ctx.into());
                    shown.into()
                })
                .collect();
            Ok(json!({"returns": shown}))
        }
        "task_event" => {
            let route = op["route"].as_u64().and_then(|route| u32::try_from(route).ok()).unwrap_or_default();
            let status =
                conductor.task_event(op["task"].as_str().unwrap_or_default(), route, event(&op["event"]), env)?;
            Ok(json!({"task_status": status}))
        }
        "rerun" => conductor.rerun(reruns(&op["tasks"]).as_deref()).map(|()| json!({})),
        "render_output" => conductor.render_output(env).map(|()| json!({})),
        "terminal_context" => conductor.terminal_context().map(|context| json!({"returns": context})),
        "get_output" => Ok(json!({"returns": conductor.output()})),
        "reload" => {
            let text = serde_json::to_string(conductor.state()).unwrap_or_default();
            let state: State = match serde_json::from_str(&text) {
                Ok(state) => state,
                Err(error) => return Ok(json!({"raises": error.to_string()})),
            };
            *conductor = Conductor::load(conductor.program().clone(), state)?;
            Ok(json!({}))
        }
        other => Ok(json!({"raises": format!("unknown operation {other}")})),
    }
}

pub fn reruns(tasks: &Value) -> Option<Vec<RerunRequest>> {
    let tasks = tasks.as_array()?;
    let request = |task: &Value| RerunRequest {
        task: task["task_id"].as_str().unwrap_or_default().to_owned(),
        route: task["route"].as_u64().and_then(|route| u32::try_from(route).ok()).unwrap_or_default(),
        reset_items: task["reset_items"].as_bool().unwrap_or_default(),
    };
    Some(tasks.iter().map(request).collect())
}

pub fn status(value: &Value) -> Status {
    value.as_str().and_then(Status::parse).unwrap_or_default()
}

fn event(event: &Value) -> TaskEvent {
    let result = event.get("result").cloned().map(Arc::new);
    match event["type"].as_str().unwrap_or_default() {
        "item" => TaskEvent::Item {
            item: event["item_id"].as_u64().and_then(|item| u32::try_from(item).ok()).unwrap_or_default(),
            status: status(&event["status"]),
            result,
            accumulated: event.get("accumulated_result").cloned(),
        },
        "task_noop_requested" => TaskEvent::Command(Command::Noop),
        "task_fail_requested" => TaskEvent::Command(Command::Fail),
        "task_continue_requested" => TaskEvent::Command(Command::Continue),
        "task_retry_requested" => TaskEvent::Command(Command::Retry),
        _ => TaskEvent::Action { status: status(&event["status"]), result },
    }
}
