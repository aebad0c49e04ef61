//! Cases that run by themselves: tasks are scheduled, actions complete in order with recorded results.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::Timestamp;
use model::resource::Object;
use serde_json::{Value, json};

use super::super::conductor::{ConductError, Conductor, Env, Program, TaskEvent};
use super::super::expression::Expressions;
use super::super::spec::{Definition, Document};
use super::super::status::Status;
use super::{Case, Outcome, compare, trace};

/// Longer runs are stuck in a cycle.
const MAX_STEPS: usize = 500;

/// An action execution: task, route, item.
type Execution = (Arc<str>, u32, Option<u32>);

struct Run<'a> {
    case: &'a Case,
    conductor: Conductor,
    env: Env<'a>,
    events: Vec<Value>,
    running: VecDeque<Execution>,
    /// Requests that aren't made yet, by place.
    waiting: Vec<usize>,
    order: VecDeque<&'a str>,
    completions: u64,
    attempts: HashMap<Execution, u32>,
}

pub fn run(case: &Case, document: &Document, expressions: &dyn Expressions, outcome: &mut Outcome) {
    let program = Arc::new(Program::new(Definition::read(document)));
    let env = Env { expressions, now: Timestamp::from_micros(0) };
    let conductor = match Conductor::create(program, case.context.clone(), case.inputs.clone(), env) {
        Ok(conductor) => conductor,
        Err(error) => return outcome.differences.push(error.to_string()),
    };
    let mut run = Run {
        case,
        conductor,
        env,
        events: Vec::new(),
        running: VecDeque::new(),
        waiting: (0..case.events.len()).collect(),
        order: case.completion_order.iter().map(String::as_str).collect(),
        completions: 0,
        attempts: HashMap::new(),
    };
    let ended = run.go();
    let raised = ended.err().map(|error| error.to_string());
    let events = std::mem::take(&mut run.events);
    compare_events(&events, &case.expected.events, outcome);
    compare::differ("raises", &json!(raised), &json!(case.expected.raises), &mut outcome.differences);
    compare::last(&run.conductor, case.expected.last.as_ref(), outcome);
}

fn compare_events(found: &[Value], recorded: &[Value], outcome: &mut Outcome) {
    for at in 0..found.len().max(recorded.len()) {
        let null = Value::Null;
        let (found, recorded) = (found.get(at).unwrap_or(&null), recorded.get(at).unwrap_or(&null));
        if !compare::same(found, recorded) {
            return compare::differ(&format!("event {at}"), found, recorded, &mut outcome.differences);
        }
    }
}

impl Run<'_> {
    fn go(&mut self) -> Result<(), ConductError> {
        if !self.conductor.status().is_completed() {
            self.conductor.request_status(Status::Running)?;
        }
        for _ in 0..MAX_STEPS {
            self.make_requests("before")?;
            self.schedule()?;
            self.make_requests("scheduled")?;
            if !self.running.is_empty() {
                self.complete_one()?;
                continue;
            }
            let idle = self.waiting.iter().position(|at| self.case.events[*at].after == "idle");
            let Some(idle) = idle else { break };
            let at = self.waiting.remove(idle);
            self.make_request(at)?;
        }
        self.conductor.render_output(self.env)
    }

    /// Makes the requests that are due in a phase.
    fn make_requests(&mut self, phase: &str) -> Result<(), ConductError> {
        let due: Vec<usize> = self
            .waiting
            .iter()
            .copied()
            .filter(|at| {
                let request = &self.case.events[*at];
                request.after == self.completions && request.when.as_deref().unwrap_or("before") == phase
            })
            .collect();
        self.waiting.retain(|at| !due.contains(at));
        due.into_iter().try_for_each(|at| self.make_request(at))
    }

    fn make_request(&mut self, at: usize) -> Result<(), ConductError> {
        let request = &self.case.events[at];
        let raised = match request.op.as_str() {
            "pause" => self.conductor.request_status(Status::Paused),
            "resume" => self.conductor.request_status(Status::Resuming),
            "cancel" => self.conductor.request_status(Status::Canceled),
            "fail" => self.conductor.request_status(Status::Failed),
            "rerun" => {
                let tasks = json!(request.tasks);
                self.conductor.rerun(trace::reruns(&tasks).as_deref())
            }
            "respond" => {
                let held = matches!(self.conductor.status(), Status::Paused | Status::Pausing);
                let resumed = if held { self.conductor.request_status(Status::Resuming) } else { Ok(()) };
                self.again(request.task.as_deref(), request.route);
                resumed
            }
            "task_running" => {
                let requested = self.conductor.request_status(Status::Running);
                if let Some(task) = &request.task {
                    let event = TaskEvent::Action { status: Status::Running, result: None };
                    self.conductor.task_event(task, request.route.unwrap_or_default(), event, self.env)?;
                }
                self.again(request.task.as_deref(), request.route);
                requested
            }
            other => panic!("unknown request {other}"),
        };
        let mut event = json!({"event": "request", "op": request.op, "workflow_status": self.conductor.status()});
        if let Some(task) = &request.task {
            event["task"] = json!(task);
        }
        if request.op == "rerun" {
            event["tasks"] = json!(request.tasks);
        }
        if let Err(error) = raised {
            event["raises"] = error.to_string().into();
        }
        self.events.push(event);
        Ok(())
    }

    /// A task that was held runs on.
    fn again(&mut self, task: Option<&str>, route: Option<u32>) {
        if let Some(task) = task {
            self.running.push_back((task.into(), route.unwrap_or_default(), None));
        }
    }

    fn schedule(&mut self) -> Result<(), ConductError> {
        for _ in 0..MAX_STEPS {
            let requests = self.conductor.next_tasks(self.env)?;
            if requests.is_empty() {
                break;
            }
            let mut at_once = Vec::new();
            for request in requests {
                let mut shown = compare::request(&request);
                shown.insert("event".to_owned(), "schedule".into());
                if self.case.show_ctx {
                    let mut ctx = Object::clone(&request.ctx);
                    // The reference keeps it among the variables, where no expression can see it.
                    ctx.insert("__current_task".to_owned(), json!({"id": request.id, "route": request.route}));
                    shown.insert("ctx".to_owned(), ctx.into());
                }
                self.events.push(shown.into());
                let (id, route) = (request.id.clone(), request.route);
                if request.items_count.is_none() || request.actions.is_empty() {
                    let event = TaskEvent::Action { status: Status::Running, result: None };
                    self.conductor.task_event(&id, route, event, self.env)?;
                }
                if request.actions.iter().all(|action| action.action.is_null()) {
                    at_once.push((id, route, request.items_count.is_some()));
                    continue;
                }
                for action in &request.actions {
                    if let Some(item) = action.item {
                        let event = TaskEvent::Item { item, status: Status::Running, result: None, accumulated: None };
                        self.conductor.task_event(&id, route, event, self.env)?;
                    }
                    self.running.push_back((id.clone(), route, action.item));
                }
            }
            for (id, route, items) in at_once {
                let result = items.then(|| Arc::new(json!([])));
                let event = TaskEvent::Action { status: Status::Succeeded, result };
                let status = self.conductor.task_event(&id, route, event, self.env)?;
                self.events.push(json!({
                    "event": "complete", "task": id, "route": route, "status": "succeeded", "auto": true,
                    "task_status": status, "workflow_status": self.conductor.status(),
                }));
            }
        }
        Ok(())
    }

    fn complete_one(&mut self) -> Result<(), ConductError> {
        let wanted = self.order.front().and_then(|wanted| {
            self.running.iter().position(|execution| names(execution).iter().any(|name| name == wanted))
        });
        let at = match wanted {
            Some(at) => {
                self.order.pop_front();
                at
            }
            None if self.case.pick.as_deref() == Some("last") => self.running.len() - 1,
            None => 0,
        };
        let Some(execution) = self.running.remove(at) else { return Ok(()) };
        let attempt = self.attempts.entry(execution.clone()).or_default();
        let (task, route, item) = execution;
        let mock = self.case.mocks.iter().find(|mock| {
            *mock.task == *task
                && mock.route.is_none_or(|of| of == route)
                && (mock.item.is_none() || mock.item == item)
                && mock.attempt.is_none_or(|of| of == *attempt)
        });
        *attempt += 1;
        let status = mock.map_or(Status::Succeeded, |mock| trace::status(&json!(mock.status)));
        let result = Some(Arc::new(mock.map(|mock| mock.result.clone()).unwrap_or_default()));
        let event = match item {
            Some(item) => TaskEvent::Item { item, status, result, accumulated: None },
            None => TaskEvent::Action { status, result },
        };
        let task_status = self.conductor.task_event(&task, route, event, self.env)?;
        self.completions += 1;
        let mut shown = json!({
            "event": "complete", "task": task, "route": route, "status": status,
            "task_status": task_status, "workflow_status": self.conductor.status(),
        });
        if let Some(item) = item {
            shown["item"] = item.into();
        }
        self.events.push(shown);
        Ok(())
    }
}

/// What an order may call an execution.
fn names((task, route, item): &Execution) -> Vec<String> {
    let mut names = vec![task.to_string(), format!("{task}@{route}")];
    if let Some(item) = item {
        names.push(format!("{task}#{item}"));
        names.push(format!("{task}@{route}#{item}"));
    }
    names
}
