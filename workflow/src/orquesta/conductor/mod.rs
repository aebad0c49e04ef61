//! The conductor: decides what a workflow does next. Pure: it reads no clock, no store and no network; whatever it
//! decided is in its [`State`] and in what its calls return (spec/orquesta.md §7).
//!
//! Calls that fail with [`Failure::NeedsKeys`] leave the state half-way: the caller drops the conductor, fetches the
//! keys, loads the state that it stored last, and repeats the call.

mod delta;
mod events;
mod index;
mod lookup;
mod output;
mod rerun;
mod schedule;
mod transitions;

#[cfg(test)]
mod tests;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use model::Timestamp;
use model::resource::Object;
use serde_json::Value;

pub use delta::Delta;
pub use events::TaskEvent;
pub use rerun::RerunRequest;
pub use schedule::{ActionRequest, TaskRequest};

use self::index::Index;
use super::contexts::{Contexts, merge};
use super::expression::{Expressions, Failure, Scope};
use super::graph::Graph;
use super::machines::{task, workflow};
use super::spec::{Assignment, Definition};
use super::state::{ErrorEntry, State, VERSION};
use super::status::Status;

/// What doesn't change while a workflow runs: its definition and the graph made from it.
#[derive(Debug, Clone)]
pub struct Program {
    pub definition: Definition,
    pub graph: Graph,
}

impl Program {
    pub fn new(definition: Definition) -> Self {
        let graph = Graph::compose(&definition);
        Self { definition, graph }
    }
}

/// What a step may use from outside.
#[derive(Debug, Clone, Copy)]
pub struct Env<'a> {
    pub expressions: &'a dyn Expressions,
    pub now: Timestamp,
}

/// Why a call was refused or not finished. The text of each begins with the reference's class.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConductError {
    #[error(
        "InvalidWorkflowStatusTransition: Unable to process event \"workflow_{to}\" for workflow in \"{from}\" status."
    )]
    StatusTransition { to: Status, from: Status },
    #[error("InvalidTask: Task \"{0}\" does not exist.")]
    UnknownTask(String),
    #[error("InvalidTaskStateEntry: Task \"{0}\" is not staged or has not started yet.")]
    NotStaged(String),
    #[error("ValueError: The retry {what} for task \"{task}\" is not an integer.")]
    RetryNotAnInteger { what: &'static str, task: String },
    #[error("WorkflowIsActiveAndNotRerunableError: Unable to rerun workflow because it is not in a completed state.")]
    NotRerunnable,
    #[error("InvalidTaskRerunRequest: Unable to rerun task|route(s) because it doesn't exist or isn't rerunnable: {0}")]
    RerunRequest(String),
    #[error("WorkflowContextError: Workflow is not in completed status.")]
    NotCompleted,
    #[error("state version {0} is not supported")]
    Version(u32),
    #[error("the state names the task \"{0}\", which the definition doesn't have")]
    ForeignState(String),
    #[error(transparent)]
    Expression(#[from] Failure),
}

impl ConductError {
    /// Whether the call can be repeated once keys of the datastore are fetched.
    pub const fn keys(&self) -> Option<&Vec<expr::KeyRequest>> {
        match self {
            Self::Expression(Failure::NeedsKeys(keys)) => Some(keys),
            _ => None,
        }
    }
}

/// A workflow under way.
#[derive(Debug, Clone)]
pub struct Conductor {
    program: Arc<Program>,
    state: State,
    index: Index,
}

impl Conductor {
    /// Begins a workflow: evaluates inputs and vars over the parent context, and stages the first tasks
    /// (spec/orquesta.md §6.2).
    ///
    /// # Errors
    ///
    /// Only [`Failure::NeedsKeys`]: other faults of expressions are logged, and the workflow has failed.
    pub fn create(program: Arc<Program>, parent: Object, inputs: Object, env: Env<'_>) -> Result<Self, ConductError> {
        let state = State {
            version: VERSION,
            status: Status::Unset,
            inputs,
            contexts: Contexts::default(),
            routes: Vec::new(),
            tasks: Vec::new(),
            staged: std::collections::BTreeMap::new(),
            next_staged: 0,
            errors: Vec::new(),
            output: None,
            reruns: Vec::new(),
        };
        let mut conductor = Self { index: Index::default(), program, state };
        match conductor.initial_context(parent, env)? {
            Ok(initial) => {
                conductor.state.contexts = Contexts::new(initial);
                conductor.state.routes.push(Vec::new());
                for start in conductor.program.clone().graph.starts() {
                    conductor.stage(*start, 0, 0, std::collections::BTreeMap::new(), true);
                }
            }
            Err(failures) => {
                for failure in failures {
                    conductor.log(ErrorEntry::new(failure.to_string()));
                }
                conductor.state.status = Status::Failed;
            }
        }
        Ok(conductor)
    }

    /// Goes on with a state that was stored.
    ///
    /// # Errors
    ///
    /// If the state is of an unknown version or of another definition.
    pub fn load(program: Arc<Program>, state: State) -> Result<Self, ConductError> {
        if state.version != VERSION {
            return Err(ConductError::Version(state.version));
        }
        let index = Index::of(&program.graph, &state)?;
        Ok(Self { program, state, index })
    }

    pub const fn state(&self) -> &State {
        &self.state
    }

    pub const fn program(&self) -> &Arc<Program> {
        &self.program
    }

    pub const fn status(&self) -> Status {
        self.state.status
    }

    pub fn errors(&self) -> &[ErrorEntry] {
        &self.state.errors
    }

    pub const fn output(&self) -> Option<&Object> {
        self.state.output.as_ref()
    }

    /// The initial context, or all failures of evaluating it.
    fn initial_context(&self, parent: Object, env: Env<'_>) -> Result<Result<Object, Vec<Failure>>, ConductError> {
        let mut context = parent;
        let mut failures = Vec::new();
        let Definition { inputs, vars, .. } = &self.program.definition;
        let given = |input: &Assignment| self.state.inputs.get(&input.name).unwrap_or(&input.value).clone();
        let inputs = inputs.iter().map(|input| (&input.name, given(input)));
        let vars = vars.iter().map(|var| (&var.name, var.value.clone()));
        for (name, value) in inputs.chain(vars) {
            let scope = Scope { ctx: &context, task: None, item: None, tasks: self };
            match env.expressions.evaluate(&value, &scope) {
                Ok(value) => merge(&mut context, &Object::from_iter([(name.clone(), value)])),
                Err(failure) => failures.push(settle(failure)?),
            }
        }
        Ok(if failures.is_empty() { Ok(context) } else { Err(failures) })
    }

    /// Asks for a status of the workflow: run, pause, resume, cancel, fail.
    ///
    /// # Errors
    ///
    /// [`ConductError::StatusTransition`] if the workflow can't take it.
    pub fn request_status(&mut self, status: Status) -> Result<(), ConductError> {
        let from = self.state.status;
        for seq in self.index.interruptible() {
            let others = self.items_of_instance(seq).map(|(_, items)| index::others(items, None));
            self.move_task(seq, task::Event::Workflow(status, others));
        }
        let event = workflow::Event::Request { status, active: self.index.has_active(), over: self.index.is_over() };
        if let Some(next) = workflow::next(from, event) {
            self.state.status = next;
        }
        let again = matches!((from, status), (Status::Pausing, Status::Paused) | (Status::Canceling, Status::Canceled));
        if status != from && self.state.status == from && !again {
            return Err(ConductError::StatusTransition { to: status, from });
        }
        Ok(())
    }

    /// Fails the workflow if it isn't over in another way.
    fn fail(&mut self) {
        // A status that can't become failed stays: that is all the rules ask for.
        let _ = self.request_status(Status::Failed);
    }

    /// Fails the workflow for a reason outside of its expressions.
    pub fn fail_with(&mut self, entry: ErrorEntry) {
        self.log(entry);
        self.fail();
    }

    /// Adds to the error log, unless an equal entry is there.
    fn log(&mut self, entry: ErrorEntry) {
        if self.index.logged.insert(fingerprint(&entry)) || !self.state.errors.contains(&entry) {
            self.state.errors.push(entry);
        }
    }

    /// Applies an event to a task instance; returns its status before and after.
    fn move_task(&mut self, seq: u32, event: task::Event) -> (Status, Status) {
        let instance = &mut self.state.tasks[seq as usize];
        let from = instance.status;
        let to = task::next(from, event).unwrap_or(from);
        if from != to {
            instance.status = to;
            self.index.moved(seq, from, to);
        }
        (from, to)
    }
}

/// Failures that are the workflow's own are kept, others end the call.
fn settle(failure: Failure) -> Result<Failure, ConductError> {
    match failure {
        Failure::NeedsKeys(_) => Err(failure.into()),
        Failure::Error { .. } => Ok(failure),
    }
}

fn fingerprint(entry: &ErrorEntry) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(entry).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// A mapping as an expression's value.
fn object(map: Object) -> Value {
    Value::Object(map)
}
