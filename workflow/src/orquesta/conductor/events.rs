//! Events of tasks and items (spec/orquesta.md §7.1).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::super::expression::truthy;
use super::super::graph::NodeId;
use super::super::machines::task::{self, Command, Others, Rest};
use super::super::machines::workflow::{self, Standing};
use super::super::state::{ErrorEntry, RetryState, TaskState};
use super::super::status::Status;
use super::{ConductError, Conductor, Env, index, lookup};

/// The instance that an event was about, and the commands that follow from it.
type Outcome = (u32, Vec<(index::Place, Command)>);

const FAILED: &str = "Execution failed. See result for details.";

/// What happened to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskEvent {
    /// Its action has a status; `result` once it has completed.
    Action { status: Status, result: Option<Arc<Value>> },
    /// One of its items has a status.
    Item {
        item: u32,
        status: Status,
        result: Option<Arc<Value>>,
        /// Results of all items so far, if somebody else keeps them; otherwise the conductor's are taken.
        accumulated: Option<Value>,
    },
    /// An engine command, of the task that stands for it; or another run of a task.
    Command(Command),
}

impl TaskEvent {
    const fn status(&self) -> Option<Status> {
        match self {
            Self::Action { status, .. } | Self::Item { status, .. } => Some(*status),
            Self::Command(_) => None,
        }
    }

    const fn result(&self) -> Option<&Arc<Value>> {
        match self {
            Self::Action { result, .. } | Self::Item { result, .. } => result.as_ref(),
            Self::Command(_) => None,
        }
    }
}

impl Conductor {
    /// Takes an event of a task; returns the status of its instance afterwards. An event that comes too late, for an
    /// instance that has completed, changes nothing.
    ///
    /// # Errors
    ///
    /// If the task is unknown or not staged, or an expression of its `retry` fails (spec/orquesta.md §12): then the
    /// caller fails the workflow.
    pub fn task_event(
        &mut self,
        task: &str,
        route: u32,
        event: TaskEvent,
        env: Env<'_>,
    ) -> Result<Status, ConductError> {
        let node = self.program.graph.node_of(task).ok_or_else(|| ConductError::UnknownTask(task.to_owned()))?;
        // Commands that a task's end leads to are events of their own, after it.
        let mut queue = VecDeque::from([(node, route, event)]);
        let mut first = None;
        while let Some((node, route, event)) = queue.pop_front() {
            let (seq, commands) = self.one_event(node, route, event, env)?;
            first.get_or_insert(seq);
            // They come before what is queued: depth first.
            for (node, command) in commands.into_iter().rev() {
                queue.push_front((node.0, node.1, TaskEvent::Command(command)));
            }
            if queue.is_empty() {
                break;
            }
        }
        let seq = first.unwrap_or_default();
        if self.state.status.is_completed() {
            self.set_term(seq, true);
        }
        Ok(self.state.tasks[seq as usize].status)
    }

    /// One event, without the commands that follow from it; these are returned, in order.
    fn one_event(&mut self, node: NodeId, route: u32, event: TaskEvent, env: Env<'_>) -> Result<Outcome, ConductError> {
        let place = (node, route);
        let seq = match self.instance_for(place, &event, env)? {
            Some(seq) => seq,
            None => return Ok((self.index.latest(place).unwrap_or_default(), Vec::new())),
        };
        let others = self.note_staged(place, &event);
        if event.status() == Some(Status::Failed) || event == TaskEvent::Command(Command::Fail) {
            let id = self.state.tasks[seq as usize].id.clone();
            let mut entry = ErrorEntry::new(FAILED).of_task(&id, None);
            entry.result = event.result().filter(|result| !result.is_null()).cloned();
            self.log(entry);
        }
        let (from, to) = self.move_task(
            seq,
            match event {
                TaskEvent::Action { status, .. } => task::Event::Action(status, None),
                TaskEvent::Item { status, .. } => task::Event::Action(status, others),
                TaskEvent::Command(command) => task::Event::Command(command),
            },
        );
        if to == Status::Retrying {
            self.run_again(place, seq);
        }
        if to.is_completed() {
            self.complete(place, seq, event, env);
            if self.state.status.is_active() && self.wants_retry(seq, env)? {
                return self.one_event(node, route, TaskEvent::Command(Command::Retry), env);
            }
        }
        let mut commands = Vec::new();
        if to.is_completed() && from != to {
            commands = self.follow_transitions(place, seq, env)?;
        }
        self.tell_workflow(place, seq);
        if self.state.status.is_completed() {
            self.set_term(seq, true);
        }
        Ok((seq, commands))
    }

    /// The instance that an event is about, a new one if it begins one; `None` if the event comes too late.
    fn instance_for(
        &mut self,
        place: index::Place,
        event: &TaskEvent,
        env: Env<'_>,
    ) -> Result<Option<u32>, ConductError> {
        let known = self.index.latest(place);
        let staged = self.index.staged(place).filter(|number| !self.state.staged[number].completed);
        if let Some(seq) = known {
            let status = self.state.tasks[seq as usize].status;
            let begins = match event {
                TaskEvent::Command(command) => *command != Command::Retry,
                TaskEvent::Action { status: to, .. } | TaskEvent::Item { status: to, .. } => {
                    status.is_completed() && to.is_starting()
                }
            };
            if !begins {
                let late = status.is_completed() && !matches!(event, TaskEvent::Command(_));
                return Ok((!late).then_some(seq));
            }
            if staged.is_none() {
                return Ok(None);
            }
        }
        let name = self.program.graph.get(place.0).name.clone();
        let Some(number) = staged else { return Err(ConductError::NotStaged(name.to_string())) };
        let (ctx_in, prev) = {
            let staged = &self.state.staged[&number];
            (staged.ctx_in, staged.prev.clone())
        };
        let retry = self.retry_of(place, ctx_in, env)?;
        let seq = u32::try_from(self.state.tasks.len()).unwrap_or(u32::MAX);
        self.state.tasks.push(TaskState {
            id: name,
            route: place.1,
            status: Status::Unset,
            ctx_in,
            ctx_out: None,
            prev,
            next: BTreeMap::new(),
            term: false,
            retry,
            started: Some(env.now),
            ended: None,
            items: None,
            result: None,
        });
        self.index.begin(&self.program.graph, place, seq, &self.state.tasks);
        Ok(Some(seq))
    }

    /// Records an event in the staged entry: the item's status, or that a plain task isn't staged any more. Returns
    /// what the other items are, where that matters.
    fn note_staged(&mut self, place: index::Place, event: &TaskEvent) -> Option<Others> {
        let number = self.index.staged(place);
        let items = number.and_then(|number| self.state.staged.get_mut(&number)?.items.as_mut());
        let TaskEvent::Item { item, status, result, .. } = event else {
            if items.is_none() && *event != TaskEvent::Command(Command::Retry) {
                self.unstage(place);
            }
            return None;
        };
        let (Some(number), Some(items)) = (number, items) else {
            return task::regards_others(*status).then_some(Others::Dormant(Rest::Completed));
        };
        let item_index = *item as usize;
        items.set(item_index, *status);
        if let Some(result) = result
            && (status.is_completed() || !result.is_null())
        {
            items.set_result(item_index, result.clone());
        }
        let others = task::regards_others(*status).then(|| index::others(items, Some(item_index)));
        self.index.dirty.items.insert((number, *item));
        others
    }

    /// An instance has completed: its result is known, and it isn't staged any more.
    fn complete(&mut self, place: index::Place, seq: u32, event: TaskEvent, env: Env<'_>) {
        let number = self.index.staged(place);
        let staged = number.and_then(|number| self.state.staged.get(&number));
        let items = staged.and_then(|staged| staged.items.as_ref());
        let (result, statuses) = match event {
            TaskEvent::Item { accumulated: Some(Value::Null), .. } => (Some(Value::Array(Vec::new()).into()), items),
            TaskEvent::Item { accumulated: Some(results), .. } => (Some(Arc::new(results)), items),
            TaskEvent::Item { accumulated: None, .. } => {
                (items.map(|items| Arc::new(items.accumulated())).or_else(|| Some(Arc::default())), items)
            }
            // A task without items to run succeeds as a whole.
            TaskEvent::Action { result, .. } => (
                if items.is_some() { Some(result.unwrap_or_else(|| Value::Array(Vec::new()).into())) } else { result },
                items,
            ),
            TaskEvent::Command(_) => (None, None),
        };
        let statuses = statuses.map(|items| items.statuses().to_vec());
        let instance = &mut self.state.tasks[seq as usize];
        instance.result = result;
        instance.items = statuses;
        instance.ended = Some(env.now);
        self.index.dirty.tasks.insert(seq);
        if instance.status.is_abended()
            && let Some(number) = number
            && let Some(staged) = self.state.staged.get_mut(&number)
            && staged.items.is_some()
        {
            staged.completed = true;
            let staged = &self.state.staged[&number];
            self.index.stage(place, number, staged);
        } else {
            self.unstage(place);
        }
    }

    /// Whether the instance is to run again (spec/orquesta.md §12).
    fn wants_retry(&self, seq: u32, env: Env<'_>) -> Result<bool, ConductError> {
        let instance = &self.state.tasks[seq as usize];
        if !matches!(instance.status, Status::Succeeded | Status::Failed) {
            return Ok(false);
        }
        let Some(retry) = instance.retry.as_ref().filter(|retry| retry.tally < retry.count) else { return Ok(false) };
        let Some(when) = &retry.when else { return Ok(instance.status.is_abended()) };
        let ctx = self.state.contexts.merged(instance.ctx_in);
        let scope = lookup::scope(self, &ctx, &instance.id, instance.route, instance.result.as_deref());
        Ok(truthy(&lookup::text(env.expressions, when, &scope)?))
    }

    /// Stages an instance once more, with its contexts.
    fn run_again(&mut self, place: index::Place, seq: u32) {
        self.unstage(place);
        let instance = &mut self.state.tasks[seq as usize];
        let mut delay = 0;
        if let Some(retry) = &mut instance.retry {
            retry.tally += 1;
            delay = retry.delay.unwrap_or_default();
        }
        instance.ended = None;
        let (ctx_in, prev) = (instance.ctx_in, instance.prev.clone());
        let number = self.stage(place.0, place.1, ctx_in, prev, true);
        if let Some(staged) = self.state.staged.get_mut(&number) {
            staged.retry_delay = Some(delay);
        }
    }

    /// Evaluates a task's `retry` for a new instance.
    fn retry_of(&self, place: index::Place, ctx_in: u32, env: Env<'_>) -> Result<Option<RetryState>, ConductError> {
        let node = self.program.graph.get(place.0);
        let Some(retry) = &node.retry else { return Ok(None) };
        let ctx = self.state.contexts.merged(ctx_in);
        let scope = lookup::scope(self, &ctx, &node.name, place.1, None);
        let whole = |what: &'static str, value: &Value| -> Result<i64, ConductError> {
            let value = env.expressions.evaluate(value, &scope)?;
            value.as_i64().ok_or_else(|| ConductError::RetryNotAnInteger { what, task: node.name.to_string() })
        };
        Ok(Some(RetryState {
            when: retry.when.clone(),
            count: whole("count", &retry.count)?,
            delay: retry.delay.as_ref().map(|delay| whole("delay", delay)).transpose()?,
            tally: 0,
        }))
    }

    /// A task instance's status as an event of the workflow.
    fn tell_workflow(&mut self, place: index::Place, seq: u32) {
        let instance = &self.state.tasks[seq as usize];
        let status = instance.status;
        let remediated = status.is_abended() && self.is_remediated(place.0, instance);
        let standing = if self.index.has_cancelled() {
            Standing::Canceled
        } else if self.index.has_held() {
            Standing::Paused
        } else if self.index.has_ready() || self.leads_on(place, instance) {
            Standing::Incomplete
        } else {
            Standing::Completed
        };
        let event = workflow::Event::Task { status, remediated, active: self.index.has_active(), standing };
        let from = self.state.status;
        let Some(to) = workflow::next(from, event) else { return };
        self.state.status = to;
        if to.is_completed() && !from.is_completed() {
            self.find_unreachable_joins();
        }
    }

    /// Whether something can run behind an instance: a join that waits for more only can if that more may still come,
    /// and then there is something active or ready, which decides by itself.
    fn leads_on(&self, place: index::Place, instance: &TaskState) -> bool {
        let graph = &self.program.graph;
        graph.get(place.0).edges.iter().any(|edge| {
            instance.next.get(&edge.id) == Some(&true)
                && (graph.get(edge.target).barrier.is_none()
                    || self.index.fired((edge.target, place.1)) >= graph.requirement(edge.target))
        })
    }

    /// Whether a failure leads on: to anything but `continue`.
    fn is_remediated(&self, node: NodeId, instance: &TaskState) -> bool {
        let graph = &self.program.graph;
        graph.get(node).edges.iter().any(|edge| {
            instance.next.get(&edge.id) == Some(&true) && graph.get(edge.target).command != Some(Command::Continue)
        })
    }

    /// A join that waits when all is over can't be reached any more (spec/orquesta.md §8).
    fn find_unreachable_joins(&mut self) {
        for number in self.index.waiting() {
            let Some(staged) = self.state.staged.get(&number) else { continue };
            let (id, route) = (staged.id.clone(), staged.route);
            let message = format!(
                "UnreachableJoinError: The join task|route \"{id}|{route}\" is partially satisfied but unreachable."
            );
            self.log(ErrorEntry::new(message).of_task(&id, Some(route)));
            self.fail();
        }
    }

    pub(super) fn set_term(&mut self, seq: u32, term: bool) {
        let instance = &mut self.state.tasks[seq as usize];
        if instance.term != term {
            instance.term = term;
            self.index.dirty.tasks.insert(seq);
        }
    }
}
