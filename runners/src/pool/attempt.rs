//! One delivery: claim, render, run, finish.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bus::{Delivery, Job};
use domain::catalog::mentions_config;
use domain::executions::{self, Outcome, inquiry};
use domain::{DomainError, rendering};
use expr::params::{FinalParameters, ParamError, render_final};
use futures::FutureExt;
use model::{Action, Claim, Execution, Object, RunnerInfo, RunnerType, Session, Status, Versioned};
use serde_json::{Value, json};
use store::StoreExt;
use tracing::Instrument;

use super::Shared;
use crate::live::LiveOutput;
use crate::runner::{Ending, Failure, Run};
use crate::shell::outcome::failure;
use crate::stop::{Stop, StopReason};

/// Waits between attempts to store an outcome.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Before work goes back to the queue because the store failed.
const BACK_OFF: Duration = Duration::from_millis(500);

/// Serves the delivery. It is accepted as soon as the claim is durable, acknowledged if there is nothing to claim;
/// dropped before, it comes again.
pub async fn serve(shared: &Shared, delivery: Delivery) {
    let id = delivery.job.id();
    let span = tracing::info_span!("execution", %id);
    serve_within(shared, delivery).instrument(span).await;
}

async fn serve_within(shared: &Shared, delivery: Delivery) {
    let Job::Execution { id, hint } = &delivery.job else {
        tracing::error!("the run queue holds work that is no execution");
        return delivery.ack();
    };
    let Some(session) = shared.session.borrow().clone() else {
        // Back to the queue: this node may not claim.
        return delivery.release();
    };
    let Some((registration, stop)) = shared.running.register(*id, session.epoch) else {
        return delivery.ack();
    };
    // The session may have ended between the look and the registration.
    let current = shared.session.borrow().as_ref().map(|session| session.epoch);
    shared.running.stop_other_sessions(current);
    let known = match hint {
        Some(known) => Ok(Some(known.clone())),
        None => shared.services.store.read::<Execution>(*id).await.map(|found| found.map(Arc::new)),
    };
    let claimed = match known {
        Ok(Some(known)) => claim(shared, &known, &session).await,
        Ok(None) => Err(DomainError::NotFound(format!("execution {id} does not exist"))),
        Err(error) => Err(error.into()),
    };
    match claimed {
        Ok(claimed) => {
            let slot = delivery.accept();
            let _counted = Counted::new();
            run_and_finish(shared, &claimed, stop).await;
            drop(registration);
            drop(slot);
        }
        Err(error @ DomainError::Store(_)) => {
            tracing::warn!(%error, "the execution could not be claimed now");
            tokio::time::sleep(BACK_OFF).await;
            // Not the job's fault, unless the document can't even be read or written.
            let lasting = matches!(&error, DomainError::Store(error) if !error.is_retryable() && !error.is_stale());
            if lasting { drop(delivery) } else { delivery.release() }
        }
        Err(reason) => {
            tracing::debug!(%reason, "nothing to run");
            delivery.ack();
        }
    }
}

/// One of the executions that this node runs, for the metrics.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("squall_executions_running").increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("squall_executions_running").decrement(1.0);
    }
}

async fn claim(
    shared: &Shared,
    known: &Versioned<Execution>,
    session: &Session,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let holder = Claim { node: session.node.clone(), session: session.epoch };
    let info = RunnerInfo { hostname: shared.host.options.hostname.clone(), pid: std::process::id() };
    executions::claim(&shared.services, known, holder, info).await
}

async fn run_and_finish(shared: &Shared, claimed: &Arc<Versioned<Execution>>, stop: Stop) {
    let attempt = AssertUnwindSafe(attempt(shared, claimed, stop.clone())).catch_unwind().await;
    let ending = match attempt {
        Ok(Ok(ending)) => ending,
        Ok(Err(Failure(text))) => Ending::failed(text),
        Err(_) => {
            tracing::error!("the runner panicked");
            Ending::failed("internal error in the runner; the node's log has more")
        }
    };
    if stop.reason() == Some(StopReason::SessionLost) {
        // What runs under an ended session is recovery's to decide; this result would be refused.
        tracing::warn!("the session ended during the run");
        return;
    }
    if ending.status == Status::Running {
        return hand_over(shared, claimed, &stop).await;
    }
    finish(shared, claimed, ending, &stop).await;
}

/// The action and runner type as they were when the execution was requested.
async fn definitions(shared: &Shared, execution: &Execution) -> Result<(Arc<Action>, Arc<RunnerType>, bool), Failure> {
    let catalog = &shared.services.catalog;
    let plan = catalog.plan(&execution.action).await.map_err(DomainError::from)?;
    if let Some(plan) = plan.filter(|plan| plan.action_snapshot.id == execution.action_snapshot) {
        return Ok((plan.action.clone(), plan.runner.clone(), plan.wants_config));
    }
    let snapshot = catalog.snapshot(execution.action_snapshot).await.map_err(DomainError::from)?;
    let snapshot = snapshot.ok_or_else(|| Failure::new(format!("Action \"{}\" is gone.", execution.action)))?;
    let action: Action = serde_json::from_value(snapshot.body.clone())
        .map_err(|error| Failure::new(format!("Action \"{}\" can't be read: {error}", execution.action)))?;
    let runner = catalog.runner_type(&action.runner_type).await.map_err(DomainError::from)?;
    let runner = runner.ok_or_else(|| Failure::new(format!("RunnerType {} is not found.", action.runner_type)))?;
    let wants_config = [&action.parameters, &runner.runner_parameters]
        .into_iter()
        .any(|schemas| schemas.values().any(mentions_config));
    Ok((Arc::new(action), runner, wants_config))
}

async fn attempt(shared: &Shared, claimed: &Arc<Versioned<Execution>>, stop: Stop) -> Result<Ending, Failure> {
    let started = tokio::time::Instant::now();
    let (action, runner, wants_config) = definitions(shared, claimed).await?;
    if !runner.enabled {
        let text = format!("Runner \"{}\" has been disabled by the administrator.", runner.name);
        return Err(Failure(text));
    }
    let parameters = final_parameters(shared, claimed, &action, &runner, wants_config).await?;
    if stop.reason().is_some() {
        return Ok(Ending::new(Status::Canceled, Value::Null));
    }
    let mut run = Run {
        host: &shared.host,
        services: &shared.services,
        execution: claimed,
        action: &action,
        parameters,
        stop,
        live: LiveOutput::new(&shared.services, claimed),
    };
    metrics::histogram!("squall_execution_stage_seconds", "stage" => "start").record(started.elapsed().as_secs_f64());
    let ending = shared.registry.get(&action.reference, &runner.name).run(&mut run).await?;
    Ok(check_output(shared, &action, &runner, ending))
}

async fn final_parameters(
    shared: &Shared,
    execution: &Execution,
    action: &Action,
    runner: &RunnerType,
    wants_config: bool,
) -> Result<FinalParameters, Failure> {
    if runner.runner_parameters.is_empty() && action.parameters.is_empty() && execution.parameters.is_empty() {
        return Ok(FinalParameters::default());
    }
    let services = &shared.services;
    let user = execution.user().unwrap_or(&services.settings.system_user);
    let config = if wants_config { rendering::pack_config(services, &action.pack, user).await? } else { Object::new() };
    let mut vars = Object::new();
    vars.insert("action_context".to_owned(), Value::Object(execution.context.clone()));
    vars.insert("config_context".to_owned(), Value::Object(config));
    // The keys of `st2kv.user` are those of who asked through the API, if somebody did (spec/datastore.md §5).
    let key_user = execution.context.get("api_user").and_then(Value::as_str).unwrap_or(user);
    let rendered = rendering::with_keys(services, key_user, &vars, |context| {
        render_final(&runner.runner_parameters, &action.parameters, &execution.parameters, context)
    });
    rendered.await?.map_err(|error| match error {
        ParamError::Render(error) => Failure::new(error.to_string()),
        ParamError::Invalid(text) | ParamError::Cast(text) => Failure(text),
    })
}

/// Output schemas, where the node checks them (spec/runners.md §14).
fn check_output(shared: &Shared, action: &Action, runner: &RunnerType, ending: Ending) -> Ending {
    let checks = shared.services.settings.validate_output_schema && ending.status == Status::Succeeded;
    if !checks || runner.output_schema.is_empty() {
        return ending;
    }
    let whole = model::schema::validate(&Value::Object(runner.output_schema.clone()), &ending.result);
    let checked = whole.and_then(|()| {
        let part = runner.output_key.as_ref().and_then(|key| ending.result.get(key));
        match part {
            // Without a type it is the old form, a map of properties, which is not checked.
            Some(part) if action.output_schema.contains_key("type") => {
                model::schema::validate(&Value::Object(action.output_schema.clone()), part)
            }
            _ => Ok(()),
        }
    });
    match checked {
        Ok(()) => ending,
        Err(error) => Ending::new(
            Status::Failed,
            json!({
                "error": error.to_string(),
                "message": "Error validating output. See error output for more details.",
            }),
        ),
    }
}

/// Lets go of an execution that goes on by itself, until that is stored or refused.
async fn hand_over(shared: &Shared, claimed: &Arc<Versioned<Execution>>, stop: &Stop) {
    let mut wait = FIRST_RETRY;
    loop {
        match executions::hand_over(&shared.services, claimed).await {
            Ok(_) => return,
            Err(DomainError::Store(error)) if error.is_retryable() => {
                tracing::warn!(%error, "the execution could not be handed over yet");
            }
            Err(error) => {
                tracing::info!(%error, "the execution was not handed over");
                return;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
        if stop.reason() == Some(StopReason::SessionLost) {
            return;
        }
    }
}

/// Until it is stored or refused, or the session ends: then recovery decides.
async fn finish(shared: &Shared, claimed: &Arc<Versioned<Execution>>, ending: Ending, stop: &Stop) {
    let outcome = Outcome { status: ending.status, result: ending.result, context: ending.context };
    let mut wait = FIRST_RETRY;
    loop {
        let stored = match outcome.status {
            Status::Pending => inquiry::pend(&shared.services, claimed, outcome.result.clone()).await,
            _ => executions::finish(&shared.services, claimed, outcome.clone()).await,
        };
        match stored {
            Ok(finished) => {
                tracing::debug!(status = %finished.status, "finished");
                return;
            }
            Err(DomainError::Store(error)) if error.is_retryable() => {
                tracing::warn!(%error, "the outcome could not be stored yet");
            }
            Err(DomainError::Superseded(reason)) => {
                tracing::info!(%reason, "the outcome was refused");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the outcome can't be stored");
                store_failure(shared, claimed, &error).await;
                return;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
        if stop.reason() == Some(StopReason::SessionLost) {
            return;
        }
    }
}

/// An outcome that the store does not take ends as a failure that says so.
async fn store_failure(shared: &Shared, claimed: &Arc<Versioned<Execution>>, error: &DomainError) {
    let text = format!("the result could not be stored: {error}");
    let outcome = Outcome { status: Status::Failed, result: failure(text), context: Object::new() };
    if let Err(error) = executions::finish(&shared.services, claimed, outcome).await {
        tracing::error!(%error, "the execution is left to recovery");
    }
}
