//! Dispatch of trigger instances, and trigger rows (spec/rules.md §1 – §5).

use std::sync::Arc;

use model::{Id, Object, Timestamp, Trigger, TriggerInstance, TriggerType, Versioned};
use serde_json::Value;
use store::Fence;

use crate::{DomainError, Services};

/// An event to store and match.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Trigger ref.
    pub trigger: String,
    /// An object, or null for none.
    pub payload: Value,
    pub occurrence_time: Timestamp,
    /// Derived from the cause; fresh if none is given. One that is there already is not dispatched again.
    pub id: Option<Id>,
    /// `{id_?, trace_tag?}`.
    pub trace_context: Option<Object>,
    /// Check the payload against the type's schema (webhooks, sensors).
    pub validate: bool,
    /// The duty under which it is dispatched (timers), or none.
    pub fence: Option<Fence>,
}

/// Stores the instance, then rings the rules engine. `None`: an instance with this id was there.
///
/// Unknown triggers are [`DomainError::NotFound`], bad payloads [`DomainError::Invalid`].
pub async fn dispatch(
    services: &Services,
    event: Dispatch,
) -> Result<Option<Arc<Versioned<TriggerInstance>>>, DomainError> {
    let mut stored = dispatch_all(services, vec![event]).await?;
    Ok(stored.pop().flatten())
}

/// As [`dispatch`], in one commit; events of one call share the first one's fence.
pub async fn dispatch_all(
    services: &Services,
    events: Vec<Dispatch>,
) -> Result<Vec<Option<Arc<Versioned<TriggerInstance>>>>, DomainError> {
    let _ = (services, events);
    Ok(Vec::new())
}

/// Adds or replaces a trigger type, with its shadow trigger when it takes no parameters (spec/model.md §8.8).
pub async fn register_type(services: &Services, trigger_type: TriggerType) -> Result<TriggerType, DomainError> {
    let _ = services;
    Ok(trigger_type)
}

/// The trigger of this type with equal parameters, which a rule would use; none if it has to be made.
pub async fn find_trigger(
    services: &Services,
    type_ref: &str,
    parameters: &Object,
) -> Result<Option<Versioned<Trigger>>, DomainError> {
    let _ = (services, type_ref, parameters);
    Ok(None)
}

/// Checks parameters against the trigger type: its schema, and timers' units, dates, zones and cron fields.
pub fn check_parameters(trigger_type: &TriggerType, parameters: &Object) -> Result<(), DomainError> {
    let _ = (trigger_type, parameters);
    Ok(())
}
