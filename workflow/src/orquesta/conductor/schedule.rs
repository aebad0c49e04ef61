//! What to run next, rendered (spec/orquesta.md §7, §11, §13).

use std::sync::Arc;

use model::resource::Object;
use serde_json::Value;

use super::super::expression::{Expressions, Failure, Scope};
use super::super::spec::{Task, WithItems};
use super::super::state::{ErrorEntry, Items, Staged};
use super::super::status::Status;
use super::{ConductError, Conductor, Env, lookup, object, settle};

/// A task to run, or more items of one.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRequest {
    pub id: Arc<str>,
    pub route: u32,
    /// The task's context.
    pub ctx: Arc<Object>,
    /// One; for a with-items task those items that may run now, none if its list is empty.
    pub actions: Vec<ActionRequest>,
    /// Seconds.
    pub delay: Option<i64>,
    /// How many items the list has; `None` for other tasks.
    pub items_count: Option<u32>,
    pub concurrency: Option<i64>,
}

/// An action to run.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionRequest {
    /// Null: nothing runs, the task succeeds at once.
    pub action: Value,
    pub input: Value,
    pub item: Option<u32>,
}

/// The items of a task, its context and its delay.
type List = (Vec<Value>, Arc<Object>, Option<i64>);

/// A with-items task, rendered once for all the calls that hand out its items.
#[derive(Debug, Clone)]
pub(super) struct RenderedItems {
    ctx: Arc<Object>,
    delay: Option<i64>,
    actions: Vec<(Value, Value)>,
    concurrency: Option<i64>,
}

impl Conductor {
    /// Tasks that may run now, by name and route. They stay staged until an event says that they run. If one can't
    /// be rendered, all such failures are logged, the workflow fails and nothing is returned.
    ///
    /// # Errors
    ///
    /// Only [`Failure::NeedsKeys`].
    pub fn next_tasks(&mut self, env: Env<'_>) -> Result<Vec<TaskRequest>, ConductError> {
        let schedulable = self.state.status.is_schedulable();
        if !schedulable && self.state.status != Status::Failed {
            return Ok(Vec::new());
        }
        let mut requests = Vec::new();
        let mut faulty = false;
        for number in self.index.ready() {
            let Some(staged) = self.state.staged.get(&number) else { continue };
            if !schedulable && !staged.run_on_fail {
                continue;
            }
            let (id, route) = (staged.id.clone(), staged.route);
            match self.render(number, env) {
                Ok(request) => requests.extend(request),
                Err(failure) => {
                    faulty = true;
                    let failure = settle(failure)?;
                    self.log(ErrorEntry::new(failure.to_string()).of_task(&id, Some(route)));
                }
            }
        }
        if faulty {
            self.fail();
            requests.clear();
        }
        Ok(requests)
    }

    fn render(&mut self, number: u64, env: Env<'_>) -> Result<Option<TaskRequest>, Failure> {
        let program = self.program.clone();
        let staged = &self.state.staged[&number];
        let Some(task) = program.definition.tasks.get(&*staged.id) else { return Ok(None) };
        if let Some(with) = &task.with {
            return self.render_items(number, task, with, env);
        }
        let ctx = self.state.contexts.merged(staged.ctx_in);
        let scope = lookup::scope(self, &ctx, &staged.id, staged.route, None);
        let delay = delay_of(task, staged, env.expressions, &scope)?;
        let action = action_of(task, env.expressions, &scope)?;
        let input = env.expressions.evaluate(&task.input, &scope)?;
        Ok(Some(TaskRequest {
            id: staged.id.clone(),
            route: staged.route,
            actions: vec![ActionRequest { action, input, item: None }],
            delay,
            items_count: None,
            concurrency: None,
            ctx,
        }))
    }

    fn render_items(
        &mut self,
        number: u64,
        task: &Task,
        with: &WithItems,
        env: Env<'_>,
    ) -> Result<Option<TaskRequest>, Failure> {
        let rendered = match self.index.rendered.get(&number) {
            Some(rendered) => rendered.clone(),
            None => {
                let (list, ctx, delay) = self.evaluate_list(number, task, with, env)?;
                if let Some(staged) = self.state.staged.get_mut(&number)
                    && staged.items.is_none()
                {
                    staged.items = Some(Items::new(list.len()));
                    self.index.dirty.staged.insert(number);
                }
                let rendered = Arc::new(self.render_list(number, task, with, (&list, ctx, delay), env)?);
                self.index.rendered.insert(number, rendered.clone());
                rendered
            }
        };
        let Some(staged) = self.state.staged.get_mut(&number) else { return Ok(None) };
        let Some(items) = &mut staged.items else { return Ok(None) };
        let limit = match rendered.concurrency {
            None => usize::MAX,
            Some(concurrency) => {
                let active = items.tally().count(Status::is_active);
                usize::try_from(concurrency).unwrap_or(usize::MAX).saturating_sub(active as usize)
            }
        };
        let chosen = items.unset(limit);
        if chosen.is_empty() && !items.is_empty() {
            return Ok(None);
        }
        let actions = chosen.into_iter().filter_map(|item| {
            let (action, input) = rendered.actions.get(item)?.clone();
            Some(ActionRequest { action, input, item: u32::try_from(item).ok() })
        });
        Ok(Some(TaskRequest {
            id: staged.id.clone(),
            route: staged.route,
            ctx: rendered.ctx.clone(),
            actions: actions.collect(),
            delay: rendered.delay,
            items_count: u32::try_from(items.len()).ok(),
            concurrency: rendered.concurrency,
        }))
    }

    /// The list of items, and what is evaluated with it.
    fn evaluate_list(&self, number: u64, task: &Task, with: &WithItems, env: Env<'_>) -> Result<List, Failure> {
        let staged = &self.state.staged[&number];
        let ctx = self.state.contexts.merged(staged.ctx_in);
        let scope = lookup::scope(self, &ctx, &staged.id, staged.route, None);
        let delay = delay_of(task, staged, env.expressions, &scope)?;
        match env.expressions.list(&with.expression, &scope)? {
            Some(list) => Ok((list, ctx, delay)),
            None => {
                let text = format!("The value of \"{}\" is not type of list.", with.expression);
                Err(Failure::new("TypeError", text))
            }
        }
    }

    fn render_list(
        &self,
        number: u64,
        task: &Task,
        with: &WithItems,
        (list, ctx, delay): (&[Value], Arc<Object>, Option<i64>),
        env: Env<'_>,
    ) -> Result<RenderedItems, Failure> {
        let staged = &self.state.staged[&number];
        let scope = lookup::scope(self, &ctx, &staged.id, staged.route, None);
        let concurrency = concurrency_of(with, env.expressions, &scope)?;
        let mut actions = Vec::with_capacity(list.len());
        for element in list {
            let item = item_of(&with.names, element);
            let scope = Scope { item: Some(&item), ..scope };
            let action = action_of(task, env.expressions, &scope)?;
            actions.push((action, env.expressions.evaluate(&task.input, &scope)?));
        }
        Ok(RenderedItems { ctx: ctx.clone(), delay, actions, concurrency })
    }
}

/// What `item()` gives for an element of the list (spec/orquesta.md §11).
fn item_of(names: &[String], element: &Value) -> Value {
    match (names, element) {
        ([], element) => element.clone(),
        (names, Value::Array(parts)) => object(names.iter().cloned().zip(parts.iter().cloned()).collect()),
        ([name], element) => object(Object::from_iter([(name.clone(), element.clone())])),
        (_, element) => element.clone(),
    }
}

fn action_of(task: &Task, expressions: &dyn Expressions, scope: &Scope<'_>) -> Result<Value, Failure> {
    task.action.as_ref().map_or(Ok(Value::Null), |action| lookup::text(expressions, action, scope))
}

/// The delay before a run, in seconds; the one of a retry stands in the place of the task's own.
fn delay_of(
    task: &Task,
    staged: &Staged,
    expressions: &dyn Expressions,
    scope: &Scope<'_>,
) -> Result<Option<i64>, Failure> {
    if staged.retry_delay.is_some() {
        return Ok(staged.retry_delay);
    }
    let Some(delay) = &task.delay else { return Ok(None) };
    let delay = expressions.evaluate(delay, scope)?;
    match delay.as_i64() {
        Some(0) => Ok(None),
        Some(delay) => Ok(Some(delay)),
        None => Err(Failure::new("TypeError", "The value of task delay is not type of integer.")),
    }
}

/// How many items may run at a time; at least one.
fn concurrency_of(with: &WithItems, expressions: &dyn Expressions, scope: &Scope<'_>) -> Result<Option<i64>, Failure> {
    let Some(concurrency) = &with.concurrency else { return Ok(None) };
    let value = expressions.evaluate(concurrency, scope)?;
    let kind = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => match number.as_i64() {
            Some(concurrency) => return Ok(Some(concurrency.max(1))),
            None => "float",
        },
        Value::Bool(_) => "bool",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    };
    Err(Failure::new("TypeError", format!("'<=' not supported between instances of '{kind}' and 'int'")))
}
