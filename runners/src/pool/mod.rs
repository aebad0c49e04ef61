//! The role: takes executions from the run queue, claims them, runs them, stores what came of them.

mod attempt;
mod running;

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Consumer, Event, Queue, Received, Topic};
use domain::Services;
use domain::action_token::ActionTokens;
use model::{Execution, Id, Session, Status};
use store::StoreExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::running::Running;
use crate::host::{Host, RunnerOptions};
use crate::registry::Registry;
use crate::stop::StopReason;

/// Between attempts to reach a bus or a store that fails.
const RETRY: Duration = Duration::from_millis(500);

/// Between looks at what has been idle.
const HOUSEKEEPING: Duration = Duration::from_secs(15);

/// How long runs may take to end on top of the grace, once they were told to.
const END: Duration = Duration::from_secs(15);

/// Runs actions on this node.
#[derive(Debug)]
pub struct RunnerPool {
    shared: Arc<Shared>,
    session: watch::Receiver<Option<Session>>,
}

/// What every attempt uses.
#[derive(Debug)]
pub(crate) struct Shared {
    pub services: Arc<Services>,
    pub host: Host,
    pub registry: Registry,
    pub running: Running,
    pub session: watch::Receiver<Option<Session>>,
}

impl RunnerPool {
    /// `session` is this node's membership: nothing is claimed while there is none, and what runs is killed when it
    /// ends.
    pub fn new(
        services: Arc<Services>,
        options: RunnerOptions,
        tokens: ActionTokens,
        session: watch::Receiver<Option<Session>>,
        registry: Registry,
    ) -> Self {
        let host = Host::new(options, tokens, &services.settings.system_user);
        let shared = Shared { services, host, registry, running: Running::default(), session: session.clone() };
        Self { shared: Arc::new(shared), session }
    }

    /// Works until `cancel`; then takes nothing new, waits for what runs up to `drain_limit`, and abandons the rest.
    ///
    /// Returns early only if the bus is closed.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), BusError> {
        let mut tasks = JoinSet::new();
        let work = async {
            let accepted = self.accept(&mut tasks, &cancel).await;
            self.drain(&mut tasks).await;
            accepted
        };
        tokio::select! {
            accepted = work => accepted,
            () = self.follow_cancellations() => Err(BusError::Closed),
            () = self.follow_session() => Err(BusError::Closed),
            () = self.keep_house() => Err(BusError::Closed),
        }
    }

    async fn accept(&self, tasks: &mut JoinSet<()>, cancel: &CancellationToken) -> Result<(), BusError> {
        let slots = Arc::new(Semaphore::new(self.shared.host.options.slots));
        let mut session = self.session.clone();
        loop {
            let ready = async {
                // The sender lives as long as the node; without it nothing can be claimed any more.
                if session.wait_for(Option::is_some).await.is_err() {
                    std::future::pending::<()>().await;
                }
                self.shared.services.bus.consume(Queue::Run, self.shared.host.options.slots).await
            };
            let consumed = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                consumed = ready => consumed,
            };
            match consumed {
                Ok(mut consumer) => {
                    if self.serve(consumer.as_mut(), &slots, tasks, cancel).await {
                        return Ok(());
                    }
                }
                Err(BusError::Closed) => return Err(BusError::Closed),
                Err(error) => tracing::warn!(%error, "the run queue can't be consumed"),
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// True when the pool is to end, false when the consumer has.
    async fn serve(
        &self,
        consumer: &mut dyn Consumer,
        slots: &Arc<Semaphore>,
        tasks: &mut JoinSet<()>,
        cancel: &CancellationToken,
    ) -> bool {
        let mut session = self.session.clone();
        loop {
            let next = async {
                let slot = slots.clone().acquire_owned().await.ok()?;
                if session.wait_for(Option::is_some).await.is_err() {
                    std::future::pending::<()>().await;
                }
                Some((slot, consumer.next().await?))
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return true,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a run ended in a panic");
                    }
                }
                next = next => {
                    let Some((slot, delivery)) = next else { return false };
                    let shared = self.shared.clone();
                    tasks.spawn(async move {
                        attempt::serve(&shared, delivery).await;
                        drop(slot);
                    });
                }
            }
        }
    }

    async fn drain(&self, tasks: &mut JoinSet<()>) {
        let options = &self.shared.host.options;
        let all_ended = async |tasks: &mut JoinSet<()>| while tasks.join_next().await.is_some() {};
        if tokio::time::timeout(options.drain_limit, all_ended(tasks)).await.is_ok() {
            return;
        }
        tracing::warn!(left = tasks.len(), "abandoning what still runs");
        self.shared.running.stop_all(StopReason::Shutdown);
        if tokio::time::timeout(options.kill_grace + END, all_ended(tasks)).await.is_err() {
            tasks.shutdown().await;
        }
    }

    async fn follow_cancellations(&self) {
        let mut events = self.shared.services.bus.subscribe(&[Topic::Cancel]);
        loop {
            match events.next().await {
                Some(Received::Event(event)) => {
                    if let Event::Cancel { execution } = event.as_ref() {
                        self.shared.running.stop(*execution, StopReason::Cancel);
                    }
                }
                Some(Received::Lost(_)) => self.look_for_cancellations().await,
                // The bus is closed: the work ends by itself.
                None => std::future::pending().await,
            }
        }
    }

    /// After events were lost, the store tells.
    async fn look_for_cancellations(&self) {
        for id in self.shared.running.ids() {
            match self.is_canceled(id).await {
                Ok(true) => self.shared.running.stop(id, StopReason::Cancel),
                Ok(false) => {}
                Err(error) => tracing::warn!(execution = %id, %error, "can't tell whether it is canceled"),
            }
        }
    }

    async fn is_canceled(&self, id: Id) -> Result<bool, store::StoreError> {
        let found = self.shared.services.store.read::<Execution>(id).await?;
        Ok(found.is_some_and(|execution| matches!(execution.status, Status::Canceling | Status::Canceled)))
    }

    /// Kills what runs under a session that is over.
    async fn follow_session(&self) {
        let mut session = self.session.clone();
        loop {
            let current = session.borrow_and_update().as_ref().map(|session| session.epoch);
            self.shared.running.stop_other_sessions(current);
            if session.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn keep_house(&self) {
        let mut next = Instant::now();
        loop {
            next += HOUSEKEEPING;
            tokio::time::sleep_until(next).await;
            self.shared.host.python.retire_idle();
        }
    }
}
