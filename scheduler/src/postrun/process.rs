//! One completed execution.

use std::sync::Arc;

use domain::executions::{Prepared, submit};
use domain::{DomainError, Services, workflows};
use model::{Execution, TriggerInstance, Versioned};
use store::{Batch, StoreExt};

use super::{action_trigger, notify, retry};
use crate::instances::ring;
use crate::settings::PostRunSettings;

/// Does what follows, once; the mark is gone when this returns `Ok`.
pub(super) async fn process(
    services: &Services,
    settings: &PostRunSettings,
    execution: Arc<Versioned<Execution>>,
) -> Result<(), DomainError> {
    let mut execution = execution;
    loop {
        if !execution.status.is_completed() || !execution.postrun_pending {
            return Ok(());
        }
        workflows::tell(services, &execution).await?;
        let (retries, instances) = followers(services, settings, &execution).await?;
        match commit(services, &execution, retries, instances).await {
            Err(DomainError::Store(error)) if error.is_stale() => {
                match services.store.read::<Execution>(execution.id).await? {
                    Some(found) => execution = Arc::new(found),
                    None => return Ok(()),
                }
            }
            other => return other,
        }
    }
}

async fn followers(
    services: &Services,
    settings: &PostRunSettings,
    execution: &Execution,
) -> Result<(Vec<Prepared>, Vec<TriggerInstance>), DomainError> {
    let retries = retry::of(services, execution).await?;
    let mut instances = notify::of(services, execution).await?;
    if settings.action_trigger && settings.emit_when.contains(&execution.status) {
        instances.extend(action_trigger::of(services, execution).await?);
    }
    Ok((retries, instances))
}

async fn commit(
    services: &Services,
    execution: &Versioned<Execution>,
    retries: Vec<Prepared>,
    instances: Vec<TriggerInstance>,
) -> Result<(), DomainError> {
    let mut done = execution.clone();
    done.doc.postrun_pending = false;
    let mut batch = Batch::new();
    batch.update(&done);
    for instance in &instances {
        batch.insert_or_ignore(instance);
    }
    submit(services, retries, batch).await?;
    for instance in instances {
        ring(services, Arc::new(Versioned { rev: 1, doc: instance })).await;
    }
    Ok(())
}
