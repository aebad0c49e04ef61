//! Storing the events of one sensor, in the order in which it sent them, under its owner's fence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::triggers::{Dispatch, dispatch_all, find_trigger};
use domain::{DomainError, Services};
use model::{Id, Object};
use serde_json::Value;
use store::{Fence, StoreError};
use tokio::sync::watch;

use super::protocol::{self, Call};

/// Pauses while the store is away.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why no event of this owner is taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The store has seen a newer owner.
    Deposed,
    /// The lease is over by our clock.
    LeaseOver,
}

/// Stores events of one owner.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    pub services: Arc<Services>,
    pub fence: Fence,
    /// Nothing is stored from then on.
    pub until: watch::Receiver<Instant>,
}

/// A call with the id of its instance: repeating it stores nothing twice.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub call: Call,
    instance: Id,
    event: Dispatch,
}

impl Accepted {
    pub fn new(services: &Services, call: Call, fence: &Fence) -> Self {
        let now = services.now();
        let instance = Id::fresh(now);
        let event = Dispatch {
            trigger: String::new(),
            payload: call.payload.clone(),
            occurrence_time: now,
            id: Some(instance),
            trace_context: call.trace_context.clone(),
            validate: true,
            fence: Some(fence.clone()),
        };
        Self { call, instance, event }
    }
}

impl Dispatcher {
    /// Stores them all, however long the store is away; the acknowledgements, and how many were stored.
    pub async fn store(self, mut accepted: Vec<Accepted>) -> Result<(Vec<Value>, u64), Refusal> {
        for one in &mut accepted {
            let trigger = one.call.trigger.clone();
            one.event.trigger = self.resolve(trigger).await?;
        }
        match self.commit(&accepted).await? {
            Ok(()) => {
                let count = accepted.len() as u64;
                Ok((accepted.iter().map(|one| protocol::stored(one.call.id, one.instance)).collect(), count))
            }
            Err(error) if accepted.len() == 1 => {
                Ok((vec![protocol::refused(accepted[0].call.id, &error.to_string())], 0))
            }
            // One of them is wrong: the others are not to suffer.
            Err(_) => self.store_each(accepted).await,
        }
    }

    async fn store_each(&self, accepted: Vec<Accepted>) -> Result<(Vec<Value>, u64), Refusal> {
        let mut answers = Vec::with_capacity(accepted.len());
        let mut stored = 0;
        for one in accepted {
            let (call, instance) = (one.call.id, one.instance);
            answers.push(match self.commit(&[one]).await? {
                Ok(()) => {
                    stored += 1;
                    protocol::stored(call, instance)
                }
                Err(error) => protocol::refused(call, &error.to_string()),
            });
        }
        Ok((answers, stored))
    }

    async fn commit(&self, accepted: &[Accepted]) -> Result<Result<(), DomainError>, Refusal> {
        let events: Vec<Dispatch> = accepted.iter().map(|one| one.event.clone()).collect();
        let mut patience = Patience::new(self);
        loop {
            patience.check()?;
            let done = dispatch_all(&self.services, events.clone()).await.map(drop);
            if let Some(done) = patience.judge(done).await? {
                return Ok(done);
            }
        }
    }

    /// The ref of what a sensor calls the trigger by; text that names nothing goes on to be refused.
    async fn resolve(&self, trigger: Value) -> Result<String, Refusal> {
        let object = match &trigger {
            Value::String(reference) => return Ok(reference.clone()),
            Value::Object(object) => object,
            other => return Ok(other.to_string()),
        };
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        if let Some(reference) = text("ref") {
            return Ok(reference.to_owned());
        }
        if let Some(type_ref) = text("type") {
            let parameters = object.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
            return self.find(type_ref, &parameters).await;
        }
        match (text("pack"), text("name")) {
            (Some(pack), Some(name)) => Ok(format!("{pack}.{name}")),
            _ => Ok(trigger.to_string()),
        }
    }

    async fn find(&self, type_ref: &str, parameters: &Object) -> Result<String, Refusal> {
        let mut patience = Patience::new(self);
        loop {
            patience.check()?;
            let done = find_trigger(&self.services, type_ref, parameters).await;
            if let Some(found) = patience.judge(done).await? {
                let found = found.ok().flatten();
                return Ok(found.map_or_else(|| type_ref.to_owned(), |trigger| trigger.doc.reference));
            }
        }
    }
}

/// Repeats what fails because the store is away, while the lease lasts.
struct Patience<'a> {
    dispatcher: &'a Dispatcher,
    pause: Duration,
}

impl<'a> Patience<'a> {
    const fn new(dispatcher: &'a Dispatcher) -> Self {
        Self { dispatcher, pause: FIRST_PAUSE }
    }

    /// Before each attempt.
    fn check(&self) -> Result<(), Refusal> {
        if Instant::now() < *self.dispatcher.until.borrow() { Ok(()) } else { Err(Refusal::LeaseOver) }
    }

    /// After each attempt: `None` to repeat it, when the pause is over.
    async fn judge<T>(&mut self, done: Result<T, DomainError>) -> Result<Option<Result<T, DomainError>>, Refusal> {
        match done {
            Err(DomainError::Store(StoreError::StaleFence { .. })) => Err(Refusal::Deposed),
            Err(DomainError::Store(error)) if error.is_retryable() => {
                tracing::debug!(fence = self.dispatcher.fence.name, %error, "the store is away: the event waits");
                tokio::time::sleep(self.pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Ok(None)
            }
            done => Ok(Some(done)),
        }
    }
}
