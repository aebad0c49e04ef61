//! What follows a completion (spec/scheduling.md §5 post-run, §7): retry policies, notifications, the action trigger.
//!
//! Everything that follows one execution is committed together with the removal of its mark, so it happens once:
//! retries and trigger instances have ids derived from the execution.
//!
//! One difference to StackStorm: an instance of `core.st2.generic.actiontrigger` is stored only while some enabled
//! rule uses that trigger. StackStorm stores one for each completed execution, which nobody reads and which would cost
//! each plain execution a fourth durable write.

mod action_trigger;
mod notify;
mod process;
mod retry;

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Job, Queue};
use domain::{DomainError, Services};
use model::{Execution, Id, Timestamp, Versioned};
use store::{Cond, Query, StoreError, StoreExt};
use tokio_util::sync::CancellationToken;

use crate::queue::{Handler, execution_of, serve};
use crate::settings::PostRunSettings;

/// The notifier; any number of nodes run one.
#[derive(Debug)]
pub struct PostRun {
    services: Arc<Services>,
    settings: PostRunSettings,
}

impl PostRun {
    pub fn new(services: Arc<Services>, settings: PostRunSettings) -> Self {
        Self { services, settings }
    }

    /// Works until `cancel`, or until the bus is closed.
    pub async fn run(self, cancel: CancellationToken) {
        let concurrency = self.settings.concurrency;
        serve(Arc::new(self), concurrency, &cancel).await;
    }
}

#[async_trait]
impl Handler for PostRun {
    const QUEUE: Queue = Queue::PostRun;
    type Cursor = Option<Id>;

    fn services(&self) -> &Services {
        &self.services
    }

    async fn handle(&self, job: &Job) -> Result<(), DomainError> {
        match execution_of(&self.services, job).await? {
            Some(execution) => process::process(&self.services, &self.settings, execution).await,
            None => Ok(()),
        }
    }

    async fn backlog(&self, cursor: Option<Id>, limit: usize) -> Result<(Vec<Job>, Option<Option<Id>>), StoreError> {
        let mut query = Query::eq("postrun", 1).limit(limit as u64);
        query.conds.extend(cursor.map(Cond::IdAfter));
        let found = self.services.store.search::<Execution>(&query).await?;
        let next = found.last().map(|last| Some(last.id));
        let job =
            |execution: Versioned<Execution>| Job::Execution { id: execution.id, hint: Some(Arc::new(execution)) };
        Ok((found.into_iter().map(job).collect(), next))
    }
}

/// The time of the cause of whatever follows.
fn ended(execution: &Execution) -> Timestamp {
    execution.end_timestamp.unwrap_or(execution.start_timestamp)
}
