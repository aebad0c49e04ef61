//! What the workflow engine asks of the node: executions and the datastore.

use std::sync::Arc;

use async_trait::async_trait;
use domain::executions::{self, Outcome, Request, inquiry};
use domain::{DomainError, Services, datastore, view};
use expr::{KeyAnswer, KeyRequest};
use model::{Execution, Heard, Id, Object, Status, Versioned};
use serde_json::{Value, json};
use store::{Batch, StoreExt};
use workflow::WorkflowState;
use workflow::engine::{Answers, Host, HostError, Launched, Order, Report, Signal, Wish, message};
use workflow::orquesta::expression::Expressions;
use workflow::orquesta::language::Language;

#[derive(Debug)]
pub struct NodeHost {
    services: Arc<Services>,
    state: Arc<dyn WorkflowState>,
}

fn failed(error: impl std::fmt::Display) -> HostError {
    HostError(error.to_string())
}

impl NodeHost {
    pub fn new(services: Arc<Services>, state: Arc<dyn WorkflowState>) -> Self {
        Self { services, state }
    }

    fn language(&self, answers: Answers) -> Language {
        let services = self.services.clone();
        let decrypt = move |text: &str| {
            let crypto = services.crypto.as_ref().ok_or("no crypto key is configured")?;
            crypto.decrypt(text).map_err(|error| error.to_string())
        };
        Language::new(answers, Arc::new(decrypt))
    }

    async fn execution(&self, id: Id) -> Result<Option<Versioned<Execution>>, HostError> {
        self.services.store.read::<Execution>(id).await.map_err(failed)
    }

    /// The context of a task's execution (spec/orquesta.md §23).
    fn context_of(parent: &Execution, workflow: Id, order: &Order) -> Object {
        let mut task = Object::from_iter([
            ("workflow_execution_id".to_owned(), json!(workflow)),
            ("task_execution_id".to_owned(), json!(order.task_execution)),
            ("task_name".to_owned(), json!(order.task)),
            ("task_id".to_owned(), json!(order.task)),
            ("task_route".to_owned(), json!(order.route)),
        ]);
        if let Some(item) = order.item {
            task.insert("item_id".to_owned(), json!(item));
        }
        let mut above = parent.context.clone();
        above.remove("workflow_execution");
        above.insert("execution_id".to_owned(), json!(parent.id));
        let link = match &order.chain {
            Some(link) => ("chain".to_owned(), link.node.clone()),
            None => ("orquesta".to_owned(), Value::Object(task)),
        };
        let mut context = Object::from_iter([link, ("parent".to_owned(), Value::Object(above))]);
        for key in ["user", "pack", "api_user", "source_channel"] {
            if let Some(value) = parent.context.get(key) {
                context.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(again) = &order.again {
            context.insert("re-run".to_owned(), again.clone());
        }
        context.insert("trace_context".to_owned(), json!({"id_": parent.trace()}));
        context
    }

    /// Moves an execution that stands for a workflow to a status that isn't its last, by way of `running` if need be;
    /// unless what says so is out of date, as `hears` knows.
    async fn show(
        &self,
        execution: Id,
        status: Status,
        hears: impl Fn(&mut Heard) -> bool + Send + Sync,
    ) -> Result<Arc<Versioned<Execution>>, DomainError> {
        executions::update(&self.services, execution, |execution, now| {
            let known = execution.heard;
            if execution.status.is_completed() || !hears(&mut execution.heard) {
                return Ok(false);
            }
            let steps = way(execution.status, status);
            for step in &steps {
                execution.advance(*step, now).map_err(|illegal| DomainError::Superseded(illegal.to_string()))?;
            }
            if !steps.is_empty() {
                execution.check_at = None;
            }
            Ok(!steps.is_empty() || execution.heard != known)
        })
        .await
    }

    /// Asks a workflow below for the same.
    async fn pass_on(&self, execution: Id, status: Status, revision: u64) -> Result<(), DomainError> {
        let changed = self.show(execution, status, |heard| heard.above(revision)).await?;
        domain::workflows::ask(&self.services, &changed).await
    }

    async fn end(&self, execution: Versioned<Execution>, status: Status, result: Value) -> Result<(), HostError> {
        if execution.status.is_completed() {
            return Ok(());
        }
        let execution = if execution.status.may_become(status) || execution.status == Status::Canceling {
            execution
        } else {
            Versioned::clone(&*self.show(execution.id, Status::Running, |_| true).await.map_err(failed)?)
        };
        let outcome = Outcome { status, result, context: Object::new() };
        executions::finish(&self.services, &execution, outcome).await.map_err(failed)?;
        Ok(())
    }
}

/// The steps to a status; none if it is there, or can't come there.
fn way(from: Status, to: Status) -> Vec<Status> {
    match (from, to) {
        _ if from == to => Vec::new(),
        (Status::Paused, Status::Running) => vec![Status::Resuming, to],
        _ if from.may_become(to) => vec![to],
        _ if from.may_become(Status::Running) && Status::Running.may_become(to) => vec![Status::Running, to],
        _ => Vec::new(),
    }
}

fn shown(status: workflow::orquesta::Status) -> Option<Status> {
    Status::parse(status.as_str())
}

#[async_trait]
impl Host for NodeHost {
    async fn launch(&self, workflow: Id, order: &Order) -> Result<Launched, HostError> {
        let Some(parent) = self.execution(order.parent).await? else {
            return Ok(Launched::Refused("The execution of the workflow is gone.".to_owned()));
        };
        let parameters = match &order.input {
            Value::Object(input) => input.clone(),
            Value::Null => Object::new(),
            _ => return Ok(Launched::Refused("The input of the task is not a mapping.".to_owned())),
        };
        let request = Request {
            action: order.action.clone(),
            parameters,
            context: Self::context_of(&parent, workflow, order),
            delay: order.delay,
            notify: order.chain.as_ref().and_then(|link| link.notify.clone()),
            parent: Some(order.parent),
            workflow_execution: Some(workflow),
            task_execution: Some(order.task_execution),
            id: Some(order.id),
            ..Request::default()
        };
        let prepared = match executions::prepare(&self.services, request).await {
            Ok(prepared) => prepared,
            Err(DomainError::Invalid(text) | DomainError::NotFound(text) | DomainError::Forbidden(text)) => {
                let known = self.services.catalog.action(&order.action).await.map_err(failed)?.is_some();
                return Ok(if known { Launched::Refused(text) } else { Launched::Unknown(text) });
            }
            Err(error) => return Err(failed(error)),
        };
        executions::submit(&self.services, vec![prepared], Batch::new()).await.map_err(failed)?;
        Ok(Launched::Requested)
    }

    async fn report(&self, _: Id, report: &Report) -> Result<(), HostError> {
        let Some(status) = shown(report.status) else { return Ok(()) };
        let Some(execution) = self.execution(report.execution).await? else { return Ok(()) };
        if status.is_completed() {
            return self.end(execution, status, report.result.clone().unwrap_or_default()).await;
        }
        let before = execution.status;
        if report.first && matches!(before, Status::Pausing | Status::Canceling) {
            return domain::workflows::ask(&self.services, &execution).await.map_err(failed);
        }
        if report.first && before == status {
            return Ok(());
        }
        let execution =
            self.show(report.execution, status, |heard| heard.own(report.revision)).await.map_err(failed)?;
        // The workflow above it wants to know; completions reach it by themselves.
        if let Some(above) = execution.workflow_execution
            && before != status
            && execution.status == status
            && (status == Status::Paused
                || (status == Status::Running && matches!(before, Status::Pausing | Status::Paused | Status::Resuming)))
        {
            let attempt = u32::try_from(execution.log.len()).unwrap_or(u32::MAX);
            let message = message::status(execution.id, attempt, status.into(), None, report.at);
            self.state.deliver(above, &[message]).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn signal(&self, _: Id, signal: &Signal) -> Result<(), HostError> {
        for id in &signal.executions {
            let Some(execution) = self.execution(*id).await? else { continue };
            if execution.status.is_completed() {
                continue;
            }
            let user = execution.user().unwrap_or(&self.services.settings.system_user).to_owned();
            let done = match signal.wish {
                // Nobody needs the answer any more.
                Wish::Cancel if execution.status == Status::Pending => {
                    inquiry::give_up(&self.services, &execution, Status::Canceled).await.map(|_| ())
                }
                // Plain actions under way run to their end.
                Wish::Cancel if execution.action_is_workflow || execution.status != Status::Running => {
                    executions::cancel(&self.services, *id, &user).await.map(|_| ())
                }
                Wish::Pause if execution.action_is_workflow => {
                    self.pass_on(*id, Status::Pausing, signal.revision).await
                }
                Wish::Resume if execution.action_is_workflow => {
                    self.pass_on(*id, Status::Resuming, signal.revision).await
                }
                _ => Ok(()),
            };
            match done {
                Ok(()) | Err(DomainError::Superseded(_) | DomainError::NotFound(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    async fn result(&self, execution: Id) -> Result<Value, HostError> {
        match self.execution(execution).await? {
            Some(execution) => view::result(&self.services, &execution).await.map_err(failed),
            None => Ok(Value::Null),
        }
    }

    fn expressions(&self, answers: Answers) -> Box<dyn Expressions> {
        Box::new(self.language(answers))
    }

    fn keys(&self, answers: Answers) -> Box<dyn expr::KeySource> {
        Box::new(self.language(answers))
    }

    async fn fetch_keys(&self, context: &Object, keys: &[KeyRequest]) -> Result<Answers, HostError> {
        let st2 = context.get("st2");
        let named = |key: &str| st2.and_then(|st2| st2.get(key)).and_then(Value::as_str);
        let user = named("api_user").or_else(|| named("user")).unwrap_or(&self.services.settings.system_user);
        let mut answers = Answers::new();
        for key in keys {
            let found = datastore::get(&self.services, key.scope, user, &key.name).await.map_err(failed)?;
            let answer = found
                .map_or(KeyAnswer::Absent, |pair| KeyAnswer::Value { secret: pair.doc.secret, value: pair.doc.value });
            answers.insert(key.clone(), answer);
        }
        Ok(answers)
    }
}
