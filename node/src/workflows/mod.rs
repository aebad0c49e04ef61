//! Workflows on this node: the engine's loop, the runner that begins workflows, and the way of completions and
//! cancellations into their inboxes.

mod chain_runner;
mod host;
mod runner;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{Event, Received, Topic};
use domain::{DomainError, Services};
use model::{Clock, Execution, Id, Status, Timestamp, Versioned};
use store::StoreError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workflow::engine::{Engine, EngineError, Options, Wish, message};
use workflow::{Message, StateError, WorkflowState};

pub use self::chain_runner::ActionChain;
use self::host::NodeHost;
pub use self::runner::Orquesta;

/// Before a lost subscription is made anew.
const RETRY: Duration = Duration::from_secs(1);

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

    /// Works on workflows, and passes on what is asked of them, until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let (stop, stopped) = watch::channel(false);
        let ending = async {
            cancel.cancelled().await;
            // The receiver lives as long as the loop.
            let _ = stop.send(true);
        };
        let follow = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.follow() => {}
            }
        };
        tokio::join!(ending, follow, self.engine.run(stopped));
    }

    /// Hears what is asked of executions that stand for workflows.
    async fn follow(&self) {
        loop {
            let mut events = self.services.bus.subscribe(&[Topic::Cancel, Topic::Execution]);
            while let Some(event) = events.next().await {
                // What was missed is found by recovery, which tells cancellations again.
                let Received::Event(event) = event else { continue };
                let (execution, wish, request) = match &*event {
                    Event::Cancel { execution } => (*execution, Wish::Cancel, format!("cancel {execution}")),
                    Event::Execution(_, execution) if execution.action_is_workflow => {
                        let wish = match execution.status {
                            Status::Pausing => Wish::Pause,
                            Status::Resuming => Wish::Resume,
                            _ => continue,
                        };
                        (execution.id, wish, format!("{} {}", execution.id, execution.log.len()))
                    }
                    _ => continue,
                };
                if let Err(error) = self.wish(execution, wish, &request).await {
                    tracing::warn!(%execution, %error, "a wish didn't reach its workflow");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn wish(&self, execution: Id, wish: Wish, request: &str) -> Result<(), EngineError> {
        let Some(head) = self.state.head_of_execution(execution).await? else { return Ok(()) };
        if head.execution != execution || head.finished.is_some() {
            return Ok(());
        }
        let now = self.services.now();
        let request = Id::derive("wish", head.created, &[request]);
        self.engine.deliver(head.id, &[message::wish(request, wish, now)]).await
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
}

/// What the state's failures are to the rest of the node.
fn domain_error(error: EngineError) -> DomainError {
    match error {
        EngineError::State(StateError::Misuse(text)) => DomainError::Invalid(text),
        error => DomainError::Store(StoreError::Unavailable(error.to_string())),
    }
}
