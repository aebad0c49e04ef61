//! Workflows on this node: the engine's loop, the runners that begin them, and the way of completions and
//! cancellations into their inboxes.

mod chain_runner;
mod host;
mod inspect;
mod rerun;
mod runner;

use std::sync::Arc;

use async_trait::async_trait;
use domain::{DomainError, Services};
use model::{Clock, Execution, Id, Status, Timestamp, Versioned};
use serde_json::Value;
use store::StoreError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workflow::engine::{Engine, EngineError, Options, Wish, message, picture};
use workflow::orquesta::Document;
use workflow::{Head, Message, StateError, WorkflowState};

pub use self::chain_runner::ActionChain;
use self::host::NodeHost;
pub use self::runner::Orquesta;

/// The engine, and what it is told.
#[derive(Debug)]
pub struct Workflows {
    services: Arc<Services>,
    state: Arc<dyn WorkflowState>,
    engine: Engine,
}

/// The services' clock, as the engine wants it.
#[derive(Debug)]
struct ServiceClock(Arc<Services>);

impl Clock for ServiceClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

impl Workflows {
    pub fn new(services: &Arc<Services>, state: Arc<dyn WorkflowState>) -> Arc<Self> {
        let host = Arc::new(NodeHost::new(services.clone(), state.clone()));
        let clock = Arc::new(ServiceClock(services.clone()));
        let engine = Engine::new(state.clone(), host, clock, Options::default());
        Arc::new(Self { services: services.clone(), state, engine })
    }

    /// Works on workflows until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let (stop, stopped) = watch::channel(false);
        let ending = async {
            cancel.cancelled().await;
            // The receiver lives as long as the loop.
            let _ = stop.send(true);
        };
        tokio::join!(ending, self.engine.run(stopped));
    }

    /// The workflow that an execution stands for now.
    async fn head(&self, execution: Id) -> Result<Option<Head>, DomainError> {
        let head = self.state.head_of_execution(execution).await.map_err(|error| domain_error(error.into()))?;
        Ok(head.filter(|head| head.execution == execution))
    }

    async fn deliver(&self, workflow: Id, message: Message) -> Result<(), DomainError> {
        self.engine.deliver(workflow, &[message]).await.map_err(domain_error)
    }
}

#[async_trait]
impl domain::workflows::Workflows for Workflows {
    async fn completed(&self, execution: &Versioned<Execution>) -> Result<(), DomainError> {
        let Some(workflow) = execution.workflow_execution else { return Ok(()) };
        let result = match &execution.result {
            Some(model::ResultValue::Inline(result)) => Some(result),
            // A blob is fetched by whoever works on the workflow.
            Some(model::ResultValue::Blob { .. }) => None,
            None => Some(&serde_json::Value::Null),
        };
        let message =
            message::status(execution.id, execution.attempt, execution.status.into(), result, self.services.now());
        self.deliver(workflow, message).await
    }

    async fn asked(&self, execution: &Versioned<Execution>) -> Result<(), DomainError> {
        let wish = match execution.status {
            Status::Pausing => Wish::Pause,
            Status::Resuming => Wish::Resume,
            Status::Canceling => Wish::Cancel,
            _ => return Ok(()),
        };
        let Some(head) = self.head(execution.id).await? else { return Ok(()) };
        if head.finished.is_some() {
            return Ok(());
        }
        let request = Id::derive("wish", head.created, &[&execution.id.to_string(), &execution.log.len().to_string()]);
        self.deliver(head.id, message::wish(request, wish, self.services.now())).await
    }

    async fn inspect(&self, definition: &str) -> Result<Vec<Value>, DomainError> {
        let document = Document::load(definition).map_err(|error| DomainError::Invalid(error.to_string()))?;
        inspect::faults(&self.services, &document).await
    }

    async fn picture(&self, execution: Id) -> Result<Option<Value>, DomainError> {
        let head = self.state.head_of_execution(execution).await.map_err(|error| domain_error(error.into()))?;
        let Some(head) = head else { return Ok(None) };
        // `Reader` is what a workflow's state and a claimed one have in common.
        let picture = picture::of(&*self.state, &head).await.map_err(domain_error)?;
        Ok(Some(picture))
    }

    async fn has_begun(&self, execution: Id) -> Result<bool, DomainError> {
        Ok(self.head(execution).await?.is_some())
    }
}

/// What the state's failures are to the rest of the node.
fn domain_error(error: EngineError) -> DomainError {
    match error {
        EngineError::State(StateError::Misuse(text)) => DomainError::Invalid(text),
        error => DomainError::Store(StoreError::Unavailable(error.to_string())),
    }
}
