//! From trigger instances to executions (spec/rules.md §7, §13).
//!
//! For each instance: the rules of its trigger, compiled once and kept until something they are made of changes; all
//! are matched before any is enforced; then executions, enforcement records and the instance's `processed` are
//! committed together. All ids derive from rule and instance, so repeating an instance changes nothing.

mod compiled;
mod enforce;
mod process;

use std::sync::Arc;
use std::time::Duration;

use bus::{Delivery, Job, Queue};
use domain::Services;
use model::{Timestamp, TriggerInstance, Versioned};
use store::{Cond, Order, Query, StoreExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::queue::{PAUSE, consume};
use crate::settings::RulesSettings;
use compiled::CompiledRules;

/// What is in work may take this long to end after the role was told to.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause between looks at the queue while the store has a backlog.
const REFILL_INTERVAL: Duration = Duration::from_millis(20);
const REFILL_PAGE: u64 = 500;

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

    /// Matches until `cancel`, or until the bus is closed; what is in work then is finished, or done again later.
    pub async fn run(self, cancel: CancellationToken) {
        let concurrency = self.settings.concurrency.max(1);
        let Some(mut jobs) = consume(&self.services, Queue::Rules, concurrency, &cancel).await else { return };
        let rules = CompiledRules::new(self.settings.cached_triggers);
        let shared = Arc::new(Shared { rules, services: self.services, settings: self.settings });
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut backlog: Option<Timestamp> = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => if let Err(error) = ended {
                    tracing::error!(%error, "matching a trigger instance failed");
                },
                () = shared.services.overflow.noted(Queue::Rules) => { backlog.get_or_insert_default(); }
                () = tokio::time::sleep(REFILL_INTERVAL), if backlog.is_some() && tasks.len() < concurrency => {
                    backlog = refill(&shared, backlog.unwrap_or_default(), &mut tasks).await;
                }
                delivery = jobs.next() => match delivery {
                    Some(delivery) => {
                        let shared = shared.clone();
                        tasks.spawn(async move { take(&shared, delivery).await });
                    }
                    None => break,
                },
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("trigger instances in work were left to recovery");
        }
    }
}

/// A job: acknowledged once the instance is processed, or nothing can be done about it.
async fn take(shared: &Shared, delivery: Delivery) {
    let instance = match &delivery.job {
        Job::TriggerInstance { hint: Some(hint), .. } => Ok(Some(hint.clone())),
        Job::TriggerInstance { id, hint: None } => {
            shared.services.store.read::<TriggerInstance>(*id).await.map(|found| found.map(Arc::new))
        }
        Job::Execution { .. } => Ok(None),
    };
    let outcome = match instance {
        Ok(Some(instance)) => process::process(shared, instance).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => delivery.ack(),
        Err(error) => {
            tracing::warn!(trigger_instance = %delivery.job.id(), %error, "can't be matched now; trying again");
            tokio::time::sleep(PAUSE).await;
            drop(delivery);
        }
    }
}

/// The queue was full: takes unprocessed instances from the store, in the order in which recovery would, once few
/// wait in the queue. Returns where to go on.
async fn refill(shared: &Arc<Shared>, from: Timestamp, tasks: &mut JoinSet<()>) -> Option<Timestamp> {
    let waiting = shared.services.bus.waiting(Queue::Rules).await;
    if !waiting.is_ok_and(|waiting| waiting <= shared.settings.concurrency) {
        return Some(from);
    }
    let room = shared.settings.concurrency.saturating_sub(tasks.len()) as u64;
    let query = Query::filter(Cond::Gt("check_at", from.into()))
        .order(Order::Asc("check_at"))
        .limit(REFILL_PAGE.min(room).max(1));
    let found: Vec<Versioned<TriggerInstance>> = match shared.services.store.search(&query).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "can't read the backlog; trying again");
            return Some(from);
        }
    };
    let next = found.last().and_then(|last| last.check_at);
    for instance in found {
        let shared = shared.clone();
        tasks.spawn(async move {
            let id = instance.id;
            if let Err(error) = process::process(&shared, Arc::new(instance)).await {
                tracing::warn!(trigger_instance = %id, %error, "can't be matched now; left to recovery");
            }
        });
    }
    next
}
