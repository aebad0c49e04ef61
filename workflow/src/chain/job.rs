//! A chain under way: what a message leads to (spec/actionchain.md §3, §6). Pure.

use expr::{KeyRequest, KeySource};
use model::{Id, Object, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::definition::{Definition, Node};
use super::render::{Fault, render, source};
use super::result::{Entry, Error, of_chain};
use crate::engine::message::Content;
use crate::engine::{ChainLink, Effect, Order, Report, Signal, Wish};
use crate::orquesta::Status;

/// A chain to begin. All of it is kept, unchanged, as long as the chain is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Derived from the execution.
    pub id: Id,
    /// The action execution that stands for it.
    pub execution: Id,
    pub definition: Definition,
    /// The action's parameters.
    pub parameters: Object,
    /// The execution's context.
    pub context: Object,
    /// What templates see as `action_context.parent`.
    pub parent: Object,
    /// The pack's configuration.
    pub config: Object,
    pub display_published: bool,
    /// Names of nodes that send no notification.
    pub skip_notify: Vec<String>,
    /// What nodes without a section of their own send.
    pub notify: Option<Value>,
}

/// The node that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    pub node: String,
    pub execution: Id,
    pub since: Timestamp,
    /// As it was heard last.
    pub status: Status,
    /// Whether the chain paused because this waits: then it goes on by itself.
    #[serde(default)]
    pub holds_up: bool,
}

/// A step needs these keys of the datastore; the chain it was asked of is spoilt and has to be loaded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsKeys(pub Vec<KeyRequest>);

/// A chain under way.
#[derive(Debug, Clone)]
pub struct Chain {
    pub begin: Begin,
    pub created: Timestamp,
    pub status: Status,
    /// The chain's variables, published ones among them.
    pub vars: Object,
    pub published: Object,
    pub entries: Vec<Entry>,
    pub current: Option<Current>,
    pub error: Option<Error>,
    /// Launches so far: the next one's number.
    pub launches: u64,
    /// What its execution was told last.
    pub reported: Status,
    /// How many entries are stored.
    pub(crate) written: usize,
}

/// What a step can see.
struct Env<'a> {
    keys: &'a dyn KeySource,
    now: Timestamp,
    effects: Vec<Effect>,
}

impl Chain {
    pub fn new(begin: Begin, created: Timestamp) -> Self {
        Self {
            begin,
            created,
            status: Status::Unset,
            vars: Object::new(),
            published: Object::new(),
            entries: Vec::new(),
            current: None,
            error: None,
            launches: 0,
            reported: Status::Unset,
            written: 0,
        }
    }

    /// Renders the variables and launches the first node.
    ///
    /// # Errors
    ///
    /// Keys of the datastore that are needed.
    pub fn start(&mut self, keys: &dyn KeySource, now: Timestamp) -> Result<Vec<Effect>, NeedsKeys> {
        let mut env = Env { keys, now, effects: Vec::new() };
        self.status = Status::Running;
        match self.initial_vars(keys)? {
            Ok(vars) => {
                self.vars = vars;
                let first = self.begin.definition.first().map(str::to_owned);
                self.go_to(first, &mut env)?;
            }
            Err(cause) => self.fail(Error::new("Failed initializing ``vars`` in chain", &cause)),
        }
        Ok(self.reporting(env))
    }

    /// Takes a message from `source`. What is about executions other than the current one is dropped.
    ///
    /// # Errors
    ///
    /// Keys of the datastore that are needed.
    pub fn take(
        &mut self,
        source: Id,
        content: Content,
        keys: &dyn KeySource,
        now: Timestamp,
    ) -> Result<Vec<Effect>, NeedsKeys> {
        let mut env = Env { keys, now, effects: Vec::new() };
        if self.status.is_completed() {
            return Ok(env.effects);
        }
        match content {
            Content::Status { status, result } => {
                if self.current.as_ref().is_some_and(|current| current.execution == source) {
                    env.note("execution", json!({"id": source, "status": status}));
                    self.take_status(status, result.unwrap_or_default(), &mut env)?;
                }
            }
            Content::Refused { reason, known } => {
                if self.current.as_ref().is_some_and(|current| current.execution == source) {
                    env.note("refused", json!({"id": source, "reason": reason}));
                    self.take_refusal(&reason, known, &mut env)?;
                }
            }
            Content::Wish { wish } => {
                env.note("wish", json!({ "wish": wish }));
                self.take_wish(wish, &mut env)?;
            }
            // Chains can't be run again from a task.
            Content::Rerun { .. } => {}
        }
        Ok(self.reporting(env))
    }

    fn take_status(&mut self, status: Status, result: Value, env: &mut Env<'_>) -> Result<(), NeedsKeys> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.status = status;
        let waits = matches!(status, Status::Paused | Status::Pending);
        if waits && matches!(self.status, Status::Running | Status::Pausing) {
            current.holds_up = self.status == Status::Running;
            self.status = Status::Paused;
        } else if !waits && current.holds_up {
            current.holds_up = false;
            if self.status == Status::Paused {
                self.status = Status::Running;
            }
        }
        if !status.is_completed() {
            return Ok(());
        }
        let Some(current) = self.current.take() else { return Ok(()) };
        let entry = Entry {
            name: current.node.clone(),
            execution: Some(current.execution),
            created: current.since,
            updated: env.now,
            status,
            result,
        };
        self.entries.push(entry);
        self.publish(&current.node, env)?;
        self.proceed(env)
    }

    /// The execution couldn't be requested at all.
    fn take_refusal(&mut self, reason: &str, known: bool, env: &mut Env<'_>) -> Result<(), NeedsKeys> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let Current { node: task, since, .. } = current;
        let action = self.begin.definition.node(&task).map(|node| node.action.clone()).unwrap_or_default();
        let mut entry = Entry {
            name: task.clone(),
            execution: None,
            created: since,
            updated: env.now,
            status: Status::Failed,
            result: json!({"error": reason, "traceback": reason}),
        };
        if known {
            self.entries.push(entry);
            self.publish(&task, env)?;
            return self.proceed(env);
        }
        let message = format!("Failed to run task \"{task}\". Action with reference \"{action}\" doesn't exist.");
        let error = Error::new(&message, &format!("Task :: {task} - Action with ref {action} not registered."));
        entry.result = json!({"error": error.error, "traceback": error.traceback});
        self.entries.push(entry);
        self.fail(error);
        Ok(())
    }

    fn take_wish(&mut self, wish: Wish, env: &mut Env<'_>) -> Result<(), NeedsKeys> {
        let running = self.current.as_ref().map(|current| (current.execution, current.status));
        let signal = |env: &mut Env<'_>, execution| {
            env.effects.push(Effect::Signal(Signal { wish, executions: vec![execution], revision: 0 }));
        };
        match (wish, running) {
            (Wish::Cancel, None) => self.status = Status::Canceled,
            (Wish::Cancel, Some((execution, _))) => {
                self.status = Status::Canceling;
                signal(env, execution);
            }
            (Wish::Pause, Some((execution, _))) if self.status == Status::Running => {
                self.status = Status::Pausing;
                signal(env, execution);
            }
            // It waits already; now until somebody lets it go on.
            (Wish::Pause, Some(_)) => {
                if let Some(current) = &mut self.current {
                    current.holds_up = false;
                }
            }
            (Wish::Pause, None) if self.status == Status::Running => self.status = Status::Paused,
            (Wish::Resume, running) if matches!(self.status, Status::Paused | Status::Pausing) => {
                self.status = Status::Running;
                match running {
                    Some((execution, Status::Paused)) => signal(env, execution),
                    // Still waits for an answer.
                    Some((_, Status::Pending)) => {
                        self.status = Status::Paused;
                        // Its execution says that it goes on.
                        self.reported = Status::Resuming;
                        if let Some(current) = &mut self.current {
                            current.holds_up = true;
                        }
                    }
                    Some(_) => {}
                    None => self.proceed(env)?,
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// After a node: what its end leads to, unless somebody wants the chain to stop.
    fn proceed(&mut self, env: &mut Env<'_>) -> Result<(), NeedsKeys> {
        let Some(last) = self.entries.last() else { return Ok(()) };
        let (last_status, name) = (last.status, last.name.clone());
        match self.status {
            Status::Canceling => self.status = Status::Canceled,
            // Someone who resumes it finds the node completed.
            Status::Pausing | Status::Paused => self.status = Status::Paused,
            Status::Running if last_status == Status::Canceled => self.status = Status::Canceled,
            Status::Running => {
                let succeeded = last_status == Status::Succeeded;
                let next = self.begin.definition.node(&name).and_then(|node| node.next(succeeded)).map(str::to_owned);
                if next.is_none() {
                    self.status = match last_status {
                        Status::Succeeded | Status::Timeout => last_status,
                        _ => Status::Failed,
                    };
                } else {
                    self.go_to(next, env)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn go_to(&mut self, name: Option<String>, env: &mut Env<'_>) -> Result<(), NeedsKeys> {
        let Some(name) = name else {
            self.fail(Error::new("Failed to get the first node", "The chain has no node."));
            return Ok(());
        };
        let Some(node) = self.begin.definition.node(&name).cloned() else {
            let message = format!("Failed to get next node \"{name}\".");
            self.fail(Error::new(&message, &format!("Unable to find node with name \"{name}\".")));
            return Ok(());
        };
        match self.parameters_of(&node, env.keys)? {
            Ok(parameters) => self.launch(&node, parameters, env),
            Err(cause) => {
                let message = format!("Failed to run task \"{name}\". Parameter rendering failed.");
                let error = Error::new(&message, &cause);
                self.entries.push(Entry {
                    name,
                    execution: None,
                    created: env.now,
                    updated: env.now,
                    status: Status::Failed,
                    result: json!({"error": error.error, "traceback": error.traceback}),
                });
                self.fail(error);
            }
        }
        Ok(())
    }

    fn launch(&mut self, node: &Node, parameters: Object, env: &mut Env<'_>) {
        let number = self.launches.to_string();
        self.launches += 1;
        let workflow = self.begin.id.to_string();
        let id = Id::derive("chain-execution", self.created, &[&workflow, &number]);
        let silent = self.begin.skip_notify.contains(&node.name);
        let notify = if silent { None } else { node.notify.clone().or_else(|| self.begin.notify.clone()) };
        self.current = Some(Current {
            node: node.name.clone(),
            execution: id,
            since: env.now,
            status: Status::Requested,
            holds_up: false,
        });
        env.note("launch", json!({"id": id, "task": node.name, "action": node.action}));
        env.effects.push(Effect::Launch(Order {
            id,
            parent: self.begin.execution,
            task_execution: Id::derive("chain-task", self.created, &[&workflow, &number]),
            task: node.name.clone(),
            route: 0,
            item: None,
            action: node.action.clone(),
            input: Value::Object(parameters),
            delay: None,
            at: env.now,
            chain: Some(Box::new(ChainLink { node: node.shown(), notify })),
            again: None,
        }));
    }

    fn parameters_of(&self, node: &Node, keys: &dyn KeySource) -> Result<Result<Object, String>, NeedsKeys> {
        let mut scope = self.scope();
        scope.insert("action_context".to_owned(), json!({"parent": self.begin.parent}));
        scope.insert("config_context".to_owned(), Value::Object(self.begin.config.clone()));
        render_all(node.parameters(), &scope, keys, &format!("action parameter \"{{}}\" in task \"{}\"", node.name))
    }

    fn initial_vars(&self, keys: &dyn KeySource) -> Result<Result<Object, String>, NeedsKeys> {
        let mut scope = self.begin.parameters.clone();
        scope.insert("__context".to_owned(), Value::Object(self.begin.context.clone()));
        render_all(&self.begin.definition.vars, &scope, keys, "variable \"{}\"")
    }

    /// Sets variables after a node, whatever became of it.
    fn publish(&mut self, name: &str, env: &mut Env<'_>) -> Result<(), NeedsKeys> {
        let Some(node) = self.begin.definition.node(name) else { return Ok(()) };
        if node.publish.is_empty() {
            return Ok(());
        }
        let what = format!("publish parameter \"{{}}\" in task \"{name}\"");
        match render_all(&node.publish, &self.scope(), env.keys, &what)? {
            Ok(published) => {
                self.vars.extend(published.clone());
                self.published.extend(published);
            }
            Err(cause) => self.fail(Error { error: cause.clone(), traceback: cause }),
        }
        Ok(())
    }

    /// What templates see, later names over earlier ones: parameters, results, variables, reserved names.
    fn scope(&self) -> Object {
        let mut results = Object::new();
        for entry in &self.entries {
            results.insert(entry.name.clone(), entry.result.clone());
        }
        let mut scope = self.begin.parameters.clone();
        scope.extend(results.clone());
        scope.extend(self.vars.clone());
        scope.insert("__results".to_owned(), Value::Object(results));
        scope.insert("__context".to_owned(), Value::Object(self.begin.context.clone()));
        scope
    }

    fn fail(&mut self, error: Error) {
        self.error = Some(error);
        self.status = Status::Failed;
    }

    fn reporting(&mut self, mut env: Env<'_>) -> Vec<Effect> {
        let shown = self.status;
        if shown != self.reported {
            let first = std::mem::replace(&mut self.reported, shown) == Status::Unset;
            env.note("status", json!({ "status": shown }));
            let result = shown.is_completed().then(|| self.result());
            env.effects.push(Effect::Report(Report {
                execution: self.begin.execution,
                status: shown,
                result,
                at: env.now,
                first,
                revision: 0,
            }));
        }
        env.effects
    }

    /// What its execution shows.
    pub fn result(&self) -> Value {
        let published = self.begin.display_published.then_some(&self.published);
        of_chain(&self.entries, published, self.error.as_ref())
    }
}

impl Env<'_> {
    fn note(&mut self, kind: &'static str, what: Value) {
        self.effects.push(Effect::Note(kind, what));
    }
}

/// Renders each value; `what` says what one of them is, with `{}` for its name.
fn render_all(
    values: &Object,
    scope: &Object,
    keys: &dyn KeySource,
    what: &str,
) -> Result<Result<Object, String>, NeedsKeys> {
    let mut rendered = Object::new();
    for (name, value) in values {
        match render(value, scope, keys) {
            Ok(value) => {
                rendered.insert(name.clone(), value);
            }
            Err(Fault::NeedsKeys(keys)) => return Err(NeedsKeys(keys)),
            Err(Fault::Text(cause)) => {
                let (what, template) = (what.replace("{}", name), source(value));
                return Ok(Err(format!("Failed rendering value for {what} (template string={template}): {cause}")));
            }
        }
    }
    Ok(Ok(rendered))
}
