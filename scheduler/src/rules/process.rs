//! One trigger instance.

use std::sync::Arc;

use domain::executions::{Prepared, submit};
use domain::rendering::with_keys;
use domain::{DomainError, Services};
use expr::criteria::{CompiledCriteria, MatchError, Verdict};
use expr::{KeyAnswer, KeyRequest, KeySource};
use model::{InstanceStatus, Object, RuleEnforcement, TriggerInstance, Versioned};
use store::{Batch, StoreExt};

use super::Shared;
use super::compiled::{CompiledRule, RulesOfTrigger};
use super::enforce::{Enforced, Origin, enforce, failure};

/// Matches and enforces; the instance is processed (or failed) when this returns `Ok`.
pub(super) async fn process(shared: &Shared, instance: Arc<Versioned<TriggerInstance>>) -> Result<(), DomainError> {
    let mut instance = instance;
    loop {
        if matches!(instance.status, InstanceStatus::Processed | InstanceStatus::ProcessingFailed) {
            return Ok(());
        }
        match attempt(shared, &instance).await {
            Err(DomainError::Store(error)) if error.is_stale() => {
                // Somebody else works on it, or did.
                match shared.services.store.read::<TriggerInstance>(instance.id).await? {
                    Some(found) => instance = Arc::new(found),
                    None => return Ok(()),
                }
            }
            other => return other,
        }
    }
}

async fn attempt(shared: &Shared, instance: &Versioned<TriggerInstance>) -> Result<(), DomainError> {
    let services = &shared.services;
    let Some(rules) = shared.rules.of(services, &instance.trigger).await? else {
        return end(services, instance, InstanceStatus::Processed, Vec::new(), Vec::new()).await;
    };
    let mut records = Vec::new();
    let matched = match select(services, &rules, instance, &mut records).await {
        Ok(matched) => matched,
        Err(SelectError::Unmatchable(error)) => {
            tracing::warn!(trigger_instance = %instance.id, trigger = instance.trigger, %error, "can't be matched");
            return end(services, instance, InstanceStatus::ProcessingFailed, records, Vec::new()).await;
        }
        Err(SelectError::Domain(error)) => return Err(error),
    };
    metrics::counter!("squall_trigger_instances_matched_total").increment(1);
    let origin = Origin::of(instance);
    let mut executions = Vec::new();
    for rule in matched {
        let Enforced { record, execution } = enforce(services, &rules, rule, instance, &origin).await?;
        records.push(record);
        executions.extend(execution);
        if executions.len() >= shared.settings.executions_per_commit.max(1) {
            // An instance with this many matches takes several commits; ids are derived, so a crash between them
            // only means that the first ones are found there.
            commit(services, Batch::new(), std::mem::take(&mut records), std::mem::take(&mut executions)).await?;
        }
    }
    end(services, instance, InstanceStatus::Processed, records, executions).await
}

/// Commits what is left together with the instance's end.
async fn end(
    services: &Services,
    instance: &Versioned<TriggerInstance>,
    status: InstanceStatus,
    records: Vec<RuleEnforcement>,
    executions: Vec<Prepared>,
) -> Result<(), DomainError> {
    let mut ended = instance.clone();
    ended.doc.status = status;
    ended.doc.check_at = None;
    let mut batch = Batch::new();
    batch.update(&ended);
    commit(services, batch, records, executions).await?;
    if let Some(observer) = services.observer.get() {
        observer.processed(&ended, services.now());
    }
    Ok(())
}

async fn commit(
    services: &Services,
    mut batch: Batch,
    records: Vec<RuleEnforcement>,
    executions: Vec<Prepared>,
) -> Result<(), DomainError> {
    for record in &records {
        batch.insert_or_ignore(record);
    }
    submit(services, executions, batch).await.map(drop)
}

enum SelectError {
    /// A stored rule has an operator that doesn't exist: no rule of the instance is enforced.
    Unmatchable(MatchError),
    Domain(DomainError),
}

/// All rules that fire: the standard ones that match, else the backstops that do.
async fn select<'a>(
    services: &Services,
    rules: &'a RulesOfTrigger,
    instance: &TriggerInstance,
    records: &mut Vec<RuleEnforcement>,
) -> Result<Vec<&'a CompiledRule>, SelectError> {
    for backstops in [false, true] {
        let mut matched = Vec::new();
        for rule in rules.rules.iter().filter(|rule| rule.is_backstop == backstops) {
            let verdict = verdict(services, &rule.criteria, instance).await?;
            for (nth, failed) in verdict.failures.iter().enumerate() {
                let reason = failed.reason(&rule.rule.reference, &instance.id.to_string());
                records.push(failure(services, &rule.rule, instance, nth, reason));
            }
            if verdict.matched {
                matched.push(rule);
            }
        }
        if !matched.is_empty() {
            return Ok(matched);
        }
    }
    Ok(Vec::new())
}

/// Nothing is fetched yet.
#[derive(Debug)]
struct Unfetched;

impl KeySource for Unfetched {
    fn get(&self, _: &KeyRequest) -> KeyAnswer {
        KeyAnswer::Unknown
    }

    fn decrypt(&self, _: &str) -> Result<String, String> {
        Err("not fetched yet".to_owned())
    }
}

/// Most criteria need no datastore: they are decided on the spot.
async fn verdict(
    services: &Services,
    criteria: &CompiledCriteria,
    instance: &TriggerInstance,
) -> Result<Verdict, SelectError> {
    let now = services.now();
    match criteria.matches(&instance.payload, &Unfetched, now) {
        Ok(verdict) => return Ok(verdict),
        Err(MatchError::NeedsKeys(_)) => {}
        Err(error) => return Err(SelectError::Unmatchable(error)),
    }
    let user = &services.settings.system_user;
    with_keys(services, user, &Object::new(), |context| criteria.matches(&instance.payload, context.keys, now))
        .await
        .map_err(SelectError::Domain)?
        .map_err(SelectError::Unmatchable)
}
