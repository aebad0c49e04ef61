//! One workflow in an engine's hands: the conductor, the executions under way, and what they lead to. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::host::{Order, Report, Signal, Wish};
use super::message::{Below, Content, Rerun};
use crate::orquesta::{
    ActionRequest, ConductError, Conductor, Env, ErrorEntry, RerunRequest, Status, TaskEvent, TaskRequest,
};

/// A cycle of tasks that run nothing would never end.
const MAX_ROUNDS: usize = 20_000;

/// A workflow under way.
#[derive(Debug)]
pub struct Job {
    pub id: Id,
    pub created: Timestamp,
    /// The action execution that stands for it.
    pub execution: Id,
    pub conductor: Conductor,
    pub running: BTreeMap<Id, Running>,
    /// Launches so far: the next one's number.
    pub launches: u64,
    /// What its execution was told last.
    pub reported: Status,
    /// Where a re-run goes on in workflows below, until these are launched.
    pub below: Vec<Below>,
    pub(super) touched: BTreeSet<Id>,
}

/// An execution of a task that hasn't ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub task: String,
    pub route: u32,
    pub item: Option<u32>,
    /// What it said last, if it waits: paused, or pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Status>,
}

/// What a step leads to, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Launch(Order),
    Report(Report),
    Signal(Signal),
    /// For the log: kind and what happened.
    Note(&'static str, Value),
}

impl Job {
    pub fn new(id: Id, execution: Id, created: Timestamp, conductor: Conductor) -> Self {
        Self {
            id,
            created,
            execution,
            conductor,
            running: BTreeMap::new(),
            launches: 0,
            reported: Status::Unset,
            below: Vec::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The task execution of a place in the sequence.
    pub fn task_execution(&self, seq: u32) -> Id {
        Id::derive("task-execution", self.created, &[&self.id.to_string(), &seq.to_string()])
    }

    /// Lets it begin.
    ///
    /// # Errors
    ///
    /// Only keys of the datastore that are needed.
    pub fn start(&mut self, env: Env<'_>) -> Result<Vec<Effect>, ConductError> {
        let mut effects = Vec::new();
        if !self.conductor.status().is_completed() {
            // A new workflow can always run.
            let _ = self.conductor.request_status(Status::Running);
        }
        self.proceed(env, &mut effects)?;
        Ok(effects)
    }

    /// Takes a message from `source`. What is about executions that have ended, or were never launched, is dropped.
    ///
    /// # Errors
    ///
    /// Only keys of the datastore that are needed.
    pub fn take(&mut self, source: Id, content: Content, env: Env<'_>) -> Result<Vec<Effect>, ConductError> {
        let mut effects = Vec::new();
        match content {
            Content::Status { status, result } => self.take_status(source, status, result, env, &mut effects)?,
            Content::Refused { reason, .. } => {
                let result = json!({"errors": [{"message": reason}]});
                self.take_status(source, Status::Failed, Some(result), env, &mut effects)?;
            }
            Content::Wish { wish } => self.take_wish(wish, &mut effects),
            Content::Rerun { execution, rerun } => self.take_rerun(execution, rerun, env, &mut effects),
        }
        self.proceed(env, &mut effects)?;
        Ok(effects)
    }

    fn take_rerun(&mut self, execution: Id, rerun: Rerun, env: Env<'_>, effects: &mut Vec<Effect>) {
        let tasks = rerun.tasks.map(|tasks| tasks.into_iter().map(RerunRequest::from).collect::<Vec<_>>());
        match self.conductor.rerun(tasks.as_deref()) {
            Ok(()) => {
                self.execution = execution;
                self.reported = Status::Unset;
                self.below = rerun.below;
                self.conductor.amend_context(rerun.context);
                if self.conductor.is_idle() {
                    self.conductor.fail_with(ErrorEntry::new("There is nothing to run again."));
                }
            }
            Err(error) => {
                let result = json!({"output": null, "errors": [{"message": error.to_string()}]});
                let status = Status::Failed;
                effects.push(Effect::Report(Report {
                    execution,
                    status,
                    result: Some(result),
                    at: env.now,
                    first: true,
                    revision: 0,
                }));
            }
        }
        effects.push(Effect::Note("rerun", json!({ "execution": execution })));
    }

    fn take_status(
        &mut self,
        source: Id,
        status: Status,
        result: Option<Value>,
        env: Env<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ConductError> {
        let Some(running) = self.running.get(&source).cloned() else { return Ok(()) };
        if status.is_completed() {
            self.running.remove(&source);
            self.touched.insert(source);
        } else if let Some(execution) = self.running.get_mut(&source) {
            execution.waits = Some(status).filter(|status| matches!(status, Status::Paused | Status::Pending));
            self.touched.insert(source);
        }
        effects.push(Effect::Note(
            "execution",
            json!({"id": source, "task": running.task, "route": running.route, "item": running.item, "status": status}),
        ));
        let pending = self.conductor.find_task(&running.task, running.route);
        let answered = status.is_completed() && pending.is_some_and(|(_, task)| task.status == Status::Pending);
        if answered && matches!(self.conductor.status(), Status::Pausing | Status::Paused) {
            let _ = self.conductor.request_status(Status::Resuming);
        }
        let went_on = running.waits == Some(Status::Paused)
            && matches!(status, Status::Succeeded | Status::Failed | Status::Timeout);
        if status == Status::Running || went_on {
            // A paused child goes on: so does its parent.
            let _ = self.conductor.request_status(Status::Running);
        }
        if went_on {
            // It ended as soon as it went on.
            let event = match running.item {
                Some(item) => TaskEvent::Item { item, status: Status::Running, result: None, accumulated: None },
                None => TaskEvent::Action { status: Status::Running, result: None },
            };
            self.event(&running.task, running.route, event, env)?;
        }
        let result = result.map(Arc::new);
        let event = match running.item {
            Some(item) => TaskEvent::Item { item, status, result, accumulated: None },
            None => TaskEvent::Action { status, result },
        };
        self.event(&running.task, running.route, event, env)
    }

    /// An event of a task; what the conductor refuses fails the workflow.
    fn event(&mut self, task: &str, route: u32, event: TaskEvent, env: Env<'_>) -> Result<(), ConductError> {
        match self.conductor.task_event(task, route, event, env) {
            Ok(_) => Ok(()),
            Err(error) if error.keys().is_some() => Err(error),
            Err(error) => {
                self.conductor.fail_with(ErrorEntry::new(error.to_string()).of_task(&task.into(), Some(route)));
                Ok(())
            }
        }
    }

    fn take_wish(&mut self, wish: Wish, effects: &mut Vec<Effect>) {
        let status = match wish {
            Wish::Pause => Status::Paused,
            Wish::Resume => Status::Resuming,
            Wish::Cancel => Status::Canceled,
        };
        let taken = self.conductor.request_status(status);
        effects.push(Effect::Note(
            "wish",
            json!({"wish": wish, "refused": taken.as_ref().err().map(ToString::to_string)}),
        ));
        if taken.is_ok() && !self.running.is_empty() {
            effects.push(Effect::Signal(Signal {
                wish,
                executions: self.running.keys().copied().collect(),
                revision: 0,
            }));
        }
    }

    /// Schedules what can run, and reports what has changed.
    fn proceed(&mut self, env: Env<'_>, effects: &mut Vec<Effect>) -> Result<(), ConductError> {
        for round in 0.. {
            let requests = self.conductor.next_tasks(env)?;
            if requests.is_empty() {
                break;
            }
            if round == MAX_ROUNDS {
                let text = format!("more than {MAX_ROUNDS} rounds of tasks that run nothing follow each other");
                self.conductor.fail_with(ErrorEntry::new(text));
                break;
            }
            let mut at_once = Vec::new();
            for request in requests {
                let nothing_runs = request.actions.iter().all(|action| action.action.is_null());
                if request.items_count.is_none() || nothing_runs {
                    let event = TaskEvent::Action { status: Status::Running, result: None };
                    self.event(&request.id, request.route, event, env)?;
                }
                if nothing_runs {
                    let result = request.items_count.map(|_| Arc::new(json!([])));
                    at_once.push((request.id, request.route, result));
                } else {
                    self.launch(request, env, effects)?;
                }
            }
            for (task, route, result) in at_once {
                self.event(&task, route, TaskEvent::Action { status: Status::Succeeded, result }, env)?;
            }
        }
        self.report(env, effects)
    }

    fn launch(&mut self, request: TaskRequest, env: Env<'_>, effects: &mut Vec<Effect>) -> Result<(), ConductError> {
        let TaskRequest { id: task, route, actions, delay, concurrency, .. } = request;
        for ActionRequest { action, input, item } in actions {
            if let Some(item) = item {
                let event = TaskEvent::Item { item, status: Status::Running, result: None, accumulated: None };
                self.event(&task, route, event, env)?;
            }
            let seq = self.conductor.find_task(&task, route).map_or(0, |(seq, _)| seq);
            let number = self.launches.to_string();
            self.launches += 1;
            let id = Id::derive("workflow-execution", self.created, &[&self.id.to_string(), &number]);
            // With a limit, only the first items wait (spec/orquesta.md §13).
            let waits = item.is_none_or(|item| concurrency.is_none_or(|limit| i64::from(item) < limit));
            let again = self.below.iter().position(|below| below.is_for(&task, route, item));
            let order = Order {
                id,
                parent: self.execution,
                task_execution: self.task_execution(seq),
                task: task.to_string(),
                route,
                item,
                action: action.as_str().map_or_else(|| action.to_string(), str::to_owned),
                input,
                delay: delay
                    .filter(|_| waits)
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .map(|seconds| seconds * 1000),
                at: env.now,
                chain: None,
                again: again.map(|at| self.below.swap_remove(at).link),
            };
            self.running.insert(id, Running { task: task.to_string(), route, item, waits: None });
            self.touched.insert(id);
            effects.push(Effect::Note(
                "launch",
                json!({"id": id, "task": task, "route": route, "item": item, "action": order.action}),
            ));
            effects.push(Effect::Launch(order));
        }
        Ok(())
    }

    /// Tells the execution of the workflow its status. One that has completed waits for the last of its executions
    /// (spec/ha.md I-E11).
    fn report(&mut self, env: Env<'_>, effects: &mut Vec<Effect>) -> Result<(), ConductError> {
        let status = self.conductor.status();
        if status.is_completed() {
            if !self.running.is_empty() {
                self.drop_questions(effects);
                return Ok(());
            }
            self.conductor.render_output(env)?;
        }
        // Rendering may have failed it.
        let status = self.conductor.status();
        if status == self.reported {
            return Ok(());
        }
        let first = std::mem::replace(&mut self.reported, status) == Status::Unset;
        effects.push(Effect::Note("status", json!({ "status": status })));
        let result = status.is_completed().then(|| self.result());
        effects.push(Effect::Report(Report {
            execution: self.execution,
            status,
            result,
            at: env.now,
            first,
            revision: 0,
        }));
        Ok(())
    }

    /// Nobody needs the answers that are still waited for.
    fn drop_questions(&self, effects: &mut Vec<Effect>) {
        let waits = |running: &Running| running.waits == Some(Status::Pending);
        let executions: Vec<Id> =
            self.running.iter().filter(|(_, running)| waits(running)).map(|(id, _)| *id).collect();
        if !executions.is_empty() {
            effects.push(Effect::Signal(Signal { wish: Wish::Cancel, executions, revision: 0 }));
        }
    }

    /// The result of the workflow's execution.
    fn result(&self) -> Value {
        let mut result = json!({"output": self.conductor.output()});
        if self.conductor.status().is_abended() {
            result["errors"] = json!(self.conductor.errors());
        }
        result
    }

    /// Whether all is done and said.
    pub fn is_finished(&self) -> bool {
        self.conductor.status().is_completed() && self.running.is_empty()
    }
}
