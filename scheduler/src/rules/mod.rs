//! From trigger instances to executions (spec/rules.md §7, §13).
//!
//! For each instance: the rules of its trigger, compiled once and kept until something they are made of changes; all
//! are matched before any is enforced; then executions, enforcement records and the instance's `processed` are
//! committed together. All ids derive from rule and instance, so repeating an instance changes nothing.

mod compiled;
mod enforce;
mod process;

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Job, Queue};
use domain::{DomainError, Services};
use model::{Timestamp, TriggerInstance};
use store::{Cond, Order, Query, StoreError, StoreExt};
use tokio_util::sync::CancellationToken;

use crate::queue::{Handler, serve};
use crate::settings::RulesSettings;
use compiled::CompiledRules;

/// The rules engine; any number of nodes run one.
#[derive(Debug)]
pub struct RulesEngine {
    services: Arc<Services>,
    settings: RulesSettings,
}

/// What the tasks of an engine share.
#[derive(Debug)]
struct Shared {
    services: Arc<Services>,
    settings: RulesSettings,
    rules: CompiledRules,
}

impl RulesEngine {
    pub fn new(services: Arc<Services>, settings: RulesSettings) -> Self {
        Self { services, settings }
    }

    /// Matches until `cancel`, or until the bus is closed.
    pub async fn run(self, cancel: CancellationToken) {
        let concurrency = self.settings.concurrency;
        let rules = CompiledRules::new(self.settings.cached_triggers);
        let shared = Shared { rules, services: self.services, settings: self.settings };
        serve(Arc::new(shared), concurrency, &cancel).await;
    }
}

#[async_trait]
impl Handler for Shared {
    const QUEUE: Queue = Queue::Rules;
    /// By the time at which recovery would look: only unprocessed instances have one.
    type Cursor = Timestamp;

    fn services(&self) -> &Services {
        &self.services
    }

    async fn handle(&self, job: &Job) -> Result<(), DomainError> {
        let instance = match job {
            Job::TriggerInstance { hint: Some(hint), .. } => Some(hint.clone()),
            Job::TriggerInstance { id, hint: None } => {
                self.services.store.read::<TriggerInstance>(*id).await?.map(Arc::new)
            }
            Job::Execution { .. } => None,
        };
        match instance {
            Some(instance) => process::process(self, instance).await,
            None => Ok(()),
        }
    }

    async fn backlog(&self, cursor: Timestamp, limit: usize) -> Result<(Vec<Job>, Option<Timestamp>), StoreError> {
        let query =
            Query::filter(Cond::Gt("check_at", cursor.into())).order(Order::Asc("check_at")).limit(limit as u64);
        let found = self.services.store.search::<TriggerInstance>(&query).await?;
        let next = found.last().and_then(|last| last.check_at);
        let job = |instance: model::Versioned<TriggerInstance>| Job::TriggerInstance {
            id: instance.id,
            hint: Some(Arc::new(instance)),
        };
        Ok((found.into_iter().map(job).collect(), next))
    }
}
