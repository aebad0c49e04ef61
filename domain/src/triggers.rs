//! Dispatch of trigger instances, and trigger rows (spec/rules.md §1 – §5).

use std::sync::Arc;

use bus::{Change, Event, Job, Queue};
use model::schema::validate;
use model::{Id, InstanceStatus, Object, Resource, Timestamp, Trigger, TriggerInstance, TriggerType, Versioned};
use serde_json::{Value, json};
use store::{Applied, Batch, Cond, Fence, Query, StoreError, StoreExt};

use crate::races::Races;
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
    let mut batch = Batch { writes: Vec::new(), fence: events.first().and_then(|event| event.fence.clone()) };
    let mut instances = Vec::with_capacity(events.len());
    for event in events {
        let instance = instance_of(services, event).await?;
        batch.insert_or_ignore(&instance);
        instances.push(instance);
    }
    let applied = services.store.commit(batch).await?;
    let mut stored = Vec::with_capacity(instances.len());
    for (instance, applied) in instances.into_iter().zip(applied) {
        if applied == Applied::Present {
            stored.push(None);
            continue;
        }
        let instance = Arc::new(Versioned { rev: 1, doc: instance });
        let job = Job::TriggerInstance { id: instance.id, hint: Some(instance.clone()) };
        if let Err(error) = services.bus.enqueue(Queue::Rules, job).await {
            services.overflow.note(Queue::Rules, &error);
            tracing::debug!(trigger_instance = %instance.id, %error, "left to recovery");
        }
        stored.push(Some(instance));
    }
    Ok(stored)
}

async fn instance_of(services: &Services, event: Dispatch) -> Result<TriggerInstance, DomainError> {
    let Some(trigger) = services.catalog.trigger(&event.trigger).await? else {
        return Err(DomainError::NotFound(format!("Trigger \"{}\" is not registered.", event.trigger)));
    };
    if event.validate {
        check_payload(services, &trigger, &event.payload).await?;
    }
    let now = services.now();
    let payload = if event.payload.is_null() { json!({}) } else { event.payload };
    Ok(TriggerInstance {
        id: event.id.unwrap_or_else(|| Id::fresh(now)),
        trigger: event.trigger,
        payload,
        occurrence_time: event.occurrence_time.to_millis_precision(),
        status: InstanceStatus::Pending,
        trace_context: event.trace_context,
        check_at: Some(now.plus(services.settings.redrive_after)),
    })
}

async fn check_payload(services: &Services, trigger: &Trigger, payload: &Value) -> Result<(), DomainError> {
    let Some(trigger_type) = services.catalog.trigger_type(&trigger.type_ref).await? else {
        return Ok(());
    };
    if trigger_type.payload_schema.is_empty() {
        return Ok(());
    }
    let Err(error) = validate(&Value::Object(trigger_type.payload_schema.clone()), payload) else {
        return Ok(());
    };
    if !services.settings.validate_trigger_payload {
        tracing::warn!(trigger = trigger.reference, %error, "payload does not fit the trigger type's schema");
        return Ok(());
    }
    Err(DomainError::Invalid(format!(
        "Trigger payload validation failed and validation is enabled, not dispatching a trigger \"{}\" ({}): \
         {error}",
        trigger.reference,
        model::python::repr(payload)
    )))
}

/// Tells caches and watchers of a stored change.
pub(crate) fn announce<T: Resource>(services: &Services, change: Change, id: Id, reference: &str) {
    services.catalog.forget::<T>();
    services.bus.announce(Arc::new(Event::Content {
        change,
        collection: T::COLLECTION.name.to_owned(),
        id,
        reference: reference.to_owned(),
    }));
}

/// Adds or replaces a trigger type, with its shadow trigger when it takes no parameters (spec/model.md §8.8).
///
/// A type that is there keeps its id; one that is equal is not written again.
pub async fn register_type(services: &Services, mut trigger_type: TriggerType) -> Result<TriggerType, DomainError> {
    let mut races = Races::default();
    loop {
        let old = services.store.first::<TriggerType>(&Query::eq("ref", trigger_type.reference.as_str())).await?;
        if let Some(old) = &old {
            trigger_type.id = old.id;
        }
        let mut batch = Batch::new();
        match &old {
            Some(old) if old.doc == trigger_type => {}
            Some(old) => {
                batch.update(&Versioned { rev: old.rev, doc: trigger_type.clone() });
            }
            None => {
                batch.insert(&trigger_type);
            }
        }
        let mut shadow = None;
        if trigger_type.parameters_schema.is_empty()
            && find_trigger(services, &trigger_type.reference, &Object::new()).await?.is_none()
        {
            let trigger = shadow_of(&trigger_type, services.now());
            batch.insert(&trigger);
            shadow = Some(trigger);
        }
        if batch.is_empty() {
            return Ok(trigger_type);
        }
        match services.store.commit(batch).await {
            Ok(_) => {
                let change = if old.is_some() { Change::Update } else { Change::Create };
                announce::<TriggerType>(services, change, trigger_type.id, &trigger_type.reference);
                if let Some(trigger) = shadow {
                    announce::<Trigger>(services, Change::Create, trigger.id, &trigger.reference);
                }
                return Ok(trigger_type);
            }
            // Another registration was first.
            Err(error @ (StoreError::Stale { .. } | StoreError::Duplicate { .. })) => races.lost(error)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn shadow_of(trigger_type: &TriggerType, now: Timestamp) -> Trigger {
    Trigger {
        id: Id::fresh(now),
        uid: Trigger::uid_of(&trigger_type.pack, &trigger_type.name, &Object::new()),
        reference: trigger_type.reference.clone(),
        pack: trigger_type.pack.clone(),
        name: trigger_type.name.clone(),
        description: None,
        type_ref: trigger_type.reference.clone(),
        parameters: Object::new(),
        ref_count: 0,
        created_at: now,
    }
}

/// The trigger of this type with equal parameters, which a rule would use; none if it has to be made.
pub async fn find_trigger(
    services: &Services,
    type_ref: &str,
    parameters: &Object,
) -> Result<Option<Versioned<Trigger>>, DomainError> {
    let hash = model::trigger::parameters_hash(parameters);
    let query = Query::eq("type", type_ref).and(Cond::Eq("parameters_hash", hash.into()));
    Ok(services.store.first::<Trigger>(&query).await?)
}

/// Types whose parameters are checked whatever the settings say.
const SYSTEM_TYPES: [&str; 4] =
    ["core.st2.webhook", "core.st2.IntervalTimer", "core.st2.DateTimer", "core.st2.CronTimer"];

/// Checks parameters against the trigger type: its schema, and timers' units, dates, zones and cron fields.
pub fn check_parameters(
    services: &Services,
    trigger_type: &TriggerType,
    parameters: &Object,
) -> Result<(), DomainError> {
    let system = SYSTEM_TYPES.contains(&trigger_type.reference.as_str());
    if !system && !services.settings.validate_trigger_parameters {
        return Ok(());
    }
    if !trigger_type.parameters_schema.is_empty() {
        let schema = Value::Object(trigger_type.parameters_schema.clone());
        validate(&schema, &Value::Object(parameters.clone())).map_err(|error| DomainError::Invalid(error.0))?;
    }
    model::timer::check(&trigger_type.reference, parameters).map_err(DomainError::Invalid)
}
