//! Requests: from an action's name and parameters to a stored execution that the scheduler knows of.

use std::sync::Arc;

use bus::{Change, Event, Job, Queue};
use expr::params::{ParamError, render_live};
use model::schema::validate_parameters;
use model::{Cause, Execution, Id, LogEntry, Object, ResultValue, Snapshot, Status, Versioned};
use serde_json::{Value, json};
use store::{Applied, Batch, StoreExt};

use crate::catalog::{Plan, mentions_config};
use crate::{DomainError, Services, rendering};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Action ref.
    pub action: String,
    pub parameters: Object,
    /// Must hold `user`; `pack` is added.
    pub context: Object,
    /// Milliseconds.
    pub delay: Option<u64>,
    pub notify: Option<Value>,
    pub callback: Option<Object>,
    pub parent: Option<Id>,
    pub cause: Option<Box<Cause>>,
    pub workflow_execution: Option<Id>,
    pub task_execution: Option<Id>,
    /// Derived id; fresh if none is given. An execution that is there under it is returned, not made again.
    pub id: Option<Id>,
    /// Leave out the check of the parameters (re-runs).
    pub unchecked: bool,
    /// The parameters are live already: neither render nor check them (retries).
    pub verbatim: bool,
    /// Where parameters can't be rendered, they have to fit the schema as they are; else no execution comes of the
    /// request (rules).
    pub strict: bool,
    /// Names that templates see beside the usual ones (`trigger` in rules).
    pub vars: Object,
    /// Snapshots that `cause` refers to.
    pub snapshots: Vec<Arc<Snapshot>>,
}

/// An execution ready to be stored, with the snapshots it refers to.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub execution: Execution,
    pub snapshots: Vec<Arc<Snapshot>>,
    /// Set when the parameters could not be rendered: the execution is stored as failed with this as its result,
    /// and the requester gets the text.
    pub failure: Option<String>,
}

/// Renders and checks; stores nothing. Errors: unknown or disabled action, bad parameters.
pub async fn prepare(services: &Services, mut request: Request) -> Result<Prepared, DomainError> {
    let Some(plan) = services.catalog.plan(&request.action).await? else {
        return Err(missing(services, &request.action).await);
    };
    complete_context(&mut request.context, &plan.action.pack);
    let rendered = match request.verbatim {
        true => Ok(std::mem::take(&mut request.parameters)),
        false => live_parameters(services, &plan, &mut request).await?,
    };
    let (parameters, failure) = match rendered {
        Ok(parameters) => (parameters, None),
        Err(ParamError::Render(error)) => (std::mem::take(&mut request.parameters), Some(error.to_string())),
        Err(ParamError::Invalid(text)) => (std::mem::take(&mut request.parameters), Some(text)),
        Err(ParamError::Cast(text)) => return Err(DomainError::Invalid(text)),
    };
    if failure.is_none() {
        if !plan.action.enabled {
            let text = format!("Unable to execute. Action \"{}\" is disabled.", request.action);
            return Err(DomainError::Invalid(text));
        }
        if !request.unchecked && !request.verbatim {
            check(&plan, &parameters, &request.parameters)?;
        }
    } else if request.strict {
        check(&plan, &parameters, &parameters)?;
    }
    Ok(build(services, &plan, request, parameters, failure))
}

/// The user of the parent is the user of the child; the action's pack is noted.
fn complete_context(context: &mut Object, pack: &str) {
    if let Some(user) = context.get("parent").and_then(|parent| parent.get("user")).cloned() {
        context.insert("user".to_owned(), user);
    }
    context.insert("pack".to_owned(), pack.into());
}

async fn missing(services: &Services, action: &str) -> DomainError {
    match services.catalog.action(action).await {
        Err(error) => error.into(),
        Ok(Some(found)) => DomainError::Invalid(format!("RunnerType {} is not found.", found.runner_type)),
        Ok(None) => DomainError::Invalid(format!("Action \"{action}\" cannot be found.")),
    }
}

async fn live_parameters(
    services: &Services,
    plan: &Plan,
    request: &mut Request,
) -> Result<Result<Object, ParamError>, DomainError> {
    let user = request.context.get("user").and_then(Value::as_str).unwrap_or(&services.settings.system_user);
    let mut vars = std::mem::take(&mut request.vars);
    vars.insert("action_context".to_owned(), Value::Object(request.context.clone()));
    if plan.wants_config || request.parameters.values().any(mentions_config) {
        let config = rendering::pack_config(services, &plan.action.pack, user).await?;
        vars.insert("config_context".to_owned(), Value::Object(config));
    } else {
        vars.insert("config_context".to_owned(), Value::Object(Object::new()));
    }
    let (runner, action) = (&plan.runner.runner_parameters, &plan.action.parameters);
    rendering::with_keys(services, user, &vars, |context| render_live(runner, action, &request.parameters, context))
        .await
}

fn check(plan: &Plan, live: &Object, given: &Object) -> Result<(), DomainError> {
    validate_parameters(&plan.parameters, live, false).map_err(|error| DomainError::Invalid(error.0))?;
    let immutable: Vec<&str> = given
        .keys()
        .filter(|name| plan.parameters.get(*name).and_then(|s| s.get("immutable")) == Some(&Value::Bool(true)))
        .map(String::as_str)
        .collect();
    if immutable.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = immutable.iter().map(|name| format!("'{name}'")).collect();
    Err(DomainError::Invalid(format!("Override of immutable parameter(s) [{}] is unsupported.", names.join(", "))))
}

fn build(services: &Services, plan: &Plan, request: Request, parameters: Object, failure: Option<String>) -> Prepared {
    let now = services.now();
    let id = request.id.unwrap_or_else(|| Id::fresh(now));
    let notify = request.notify.or_else(|| {
        (!plan.action.notify.is_empty() && request.parent.is_none()).then(|| Value::Object(plan.action.notify.clone()))
    });
    let mut execution = Execution {
        id,
        liveaction_id: Execution::liveaction_of(id),
        status: Status::Requested,
        action: request.action,
        action_is_workflow: plan.is_workflow(),
        runner_type: plan.runner.name.clone(),
        action_snapshot: plan.action_snapshot.id,
        runner_snapshot: plan.runner_snapshot.id,
        parameters,
        result: None,
        result_size: 0,
        context: request.context,
        cause: request.cause,
        parent: request.parent,
        log: vec![LogEntry { timestamp: now, status: Status::Requested }],
        start_timestamp: now,
        end_timestamp: None,
        delay: request.delay.filter(|delay| *delay > 0),
        notify,
        callback: request.callback,
        workflow_execution: request.workflow_execution,
        task_execution: request.task_execution,
        runner_info: None,
        claim: None,
        attempt: 0,
        check_at: None,
        postrun_pending: false,
        permits: Vec::new(),
        waits_for: Vec::new(),
        heard: model::Heard::default(),
        released_at: None,
    };
    execution.check_at = Some(execution.due().plus(services.settings.redrive_after));
    if let Some(text) = &failure {
        let result = json!({"error": text, "traceback": ""});
        execution.result_size = result.to_string().len() as u64;
        execution.result = Some(ResultValue::Inline(result));
        // Requested → failed is a legal edge.
        let _ = execution.advance(Status::Failed, now);
    }
    let mut snapshots = vec![plan.action_snapshot.clone(), plan.runner_snapshot.clone()];
    snapshots.extend(request.snapshots);
    Prepared { execution, snapshots, failure }
}

/// Stores executions together with the writes of `batch` in one commit, then announces them and rings the scheduler.
/// Executions whose id was there are left alone.
pub async fn submit(
    services: &Services,
    prepared: Vec<Prepared>,
    mut batch: Batch,
) -> Result<Vec<Arc<Versioned<Execution>>>, DomainError> {
    let mut fresh_snapshots: Vec<&Arc<Snapshot>> = Vec::new();
    for snapshot in prepared.iter().flat_map(|p| &p.snapshots) {
        let queued = fresh_snapshots.iter().any(|other| other.id == snapshot.id);
        if !queued && !services.catalog.has_snapshot(snapshot.id) {
            fresh_snapshots.push(snapshot);
        }
    }
    for snapshot in &fresh_snapshots {
        batch.insert_or_ignore(snapshot.as_ref());
    }
    let first = batch.writes.len();
    for one in &prepared {
        batch.insert_or_ignore(&one.execution);
    }
    let applied = services.store.commit(batch).await?;
    for snapshot in fresh_snapshots {
        services.catalog.snapshot_stored(snapshot);
    }
    let mut stored = Vec::with_capacity(prepared.len());
    for (one, applied) in prepared.into_iter().zip(&applied[first..]) {
        if *applied == Applied::Present {
            // Made by an earlier try of the same step; that one announced it.
            stored.extend(services.store.read::<Execution>(one.execution.id).await?.map(Arc::new));
            continue;
        }
        let execution = Arc::new(Versioned { rev: 1, doc: one.execution });
        if let Some(observer) = services.observer.get() {
            observer.requested(&execution);
        }
        services.bus.announce(Arc::new(Event::Execution(Change::Create, execution.clone())));
        let queue = if execution.status.is_completed() { Queue::PostRun } else { Queue::Schedule };
        ring(services, queue, &execution).await;
        stored.push(execution);
    }
    Ok(stored)
}

/// Tells a queue's consumers of an execution; if the bus can't, recovery will.
pub(super) async fn ring(services: &Services, queue: Queue, execution: &Arc<Versioned<Execution>>) {
    let job = Job::Execution { id: execution.id, hint: Some(execution.clone()) };
    if let Err(error) = services.bus.enqueue(queue, job).await {
        services.overflow.note(queue, &error);
        tracing::debug!(execution = %execution.id, queue = queue.as_str(), %error, "left to recovery");
    }
}

/// [`prepare`] and [`submit`] one. A rendering failure stores the failed execution and returns its text as
/// [`DomainError::Invalid`].
pub async fn request(services: &Services, request: Request) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let prepared = prepare(services, request).await?;
    let failure = prepared.failure.clone();
    let mut stored = submit(services, vec![prepared], Batch::new()).await?;
    match (failure, stored.pop()) {
        (Some(text), _) => Err(DomainError::Invalid(text)),
        (None, Some(execution)) => Ok(execution),
        (None, None) => Err(DomainError::Superseded("the execution was not stored".to_owned())),
    }
}

/// What may be said of a re-run.
#[derive(Debug, Clone, Default)]
pub struct Rerun {
    /// Over those of the original.
    pub parameters: Object,
    /// Of a workflow: run again from these tasks, in the same workflow.
    pub tasks: Vec<String>,
    /// Those of `tasks` whose items all run again, not only the failed ones.
    pub reset: Vec<String>,
    /// Milliseconds.
    pub delay: Option<u64>,
}

/// A new execution with the parameters of `original`, overridden by `parameters` (spec/api.md §7.2). They are not
/// checked: what is wrong with them shows when it runs.
pub async fn rerun(
    services: &Services,
    original: &Execution,
    options: Rerun,
    user: &str,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let Rerun { parameters, tasks, reset, delay } = options;
    let mut merged = original.parameters.clone();
    merged.extend(parameters);
    let mut context = Object::new();
    context.insert("trace_context".to_owned(), json!({"id_": original.trace()}));
    let mut link = Object::from_iter([("ref".to_owned(), json!(original.id))]);
    if !tasks.is_empty() {
        link.insert("tasks".to_owned(), json!(tasks));
    }
    if !reset.is_empty() {
        link.insert("reset".to_owned(), json!(reset));
    }
    context.insert("re-run".to_owned(), Value::Object(link));
    context.insert("user".to_owned(), user.into());
    let again = Request {
        action: original.action.clone(),
        parameters: merged,
        context,
        delay,
        unchecked: true,
        ..Request::default()
    };
    request(services, again).await
}
