//! Trigger instances that are part of a larger commit.

use std::sync::Arc;

use bus::{Job, Queue};
use domain::Services;
use model::{Id, InstanceStatus, Object, Timestamp, TriggerInstance, Versioned};
use serde_json::Value;

/// A pending instance of a trigger that is known to exist.
pub(crate) fn pending(
    services: &Services,
    id: Id,
    trigger: &str,
    payload: Value,
    occurrence_time: Timestamp,
    trace_context: Option<Object>,
) -> TriggerInstance {
    TriggerInstance {
        id,
        trigger: trigger.to_owned(),
        payload,
        occurrence_time: occurrence_time.to_millis_precision(),
        status: InstanceStatus::Pending,
        trace_context,
        check_at: Some(services.now().plus(services.settings.redrive_after)),
    }
}

/// Tells the rules engines of a stored instance.
pub(crate) async fn ring(services: &Services, instance: Arc<Versioned<TriggerInstance>>) {
    let id = instance.id;
    let job = Job::TriggerInstance { id, hint: Some(instance) };
    if let Err(error) = services.bus.enqueue(Queue::Rules, job).await {
        services.overflow.note(Queue::Rules, &error);
        tracing::debug!(trigger_instance = %id, %error, "left to recovery");
    }
}
