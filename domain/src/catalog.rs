//! Cached look-ups. Writers in this process call [`Catalog::forget`]; [`Catalog::follow`] hears of other nodes.

use std::sync::Arc;

use model::{Action, Config, Policy, Resource, Rule, RunnerType, Snapshot, Trigger, TriggerType};
use store::{Store, StoreError};

/// Resources that the hot paths look up by name, read once and kept until they change.
#[derive(Debug)]
pub struct Catalog {
    store: Arc<dyn Store>,
}

impl Catalog {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// By ref.
    pub async fn action(&self, reference: &str) -> Result<Option<Arc<Action>>, StoreError> {
        let _ = (&self.store, reference);
        Ok(None)
    }

    pub async fn runner_type(&self, name: &str) -> Result<Option<Arc<RunnerType>>, StoreError> {
        let _ = name;
        Ok(None)
    }

    /// Enabled rules of a trigger, in the order of their ids.
    pub async fn rules_of(&self, trigger_ref: &str) -> Result<Arc<Vec<Arc<Rule>>>, StoreError> {
        let _ = trigger_ref;
        Ok(Arc::default())
    }

    pub async fn trigger(&self, reference: &str) -> Result<Option<Arc<Trigger>>, StoreError> {
        let _ = reference;
        Ok(None)
    }

    pub async fn trigger_type(&self, reference: &str) -> Result<Option<Arc<TriggerType>>, StoreError> {
        let _ = reference;
        Ok(None)
    }

    /// All triggers of a type (webhooks, timers).
    pub async fn triggers_of_type(&self, type_ref: &str) -> Result<Arc<Vec<Arc<Trigger>>>, StoreError> {
        let _ = type_ref;
        Ok(Arc::default())
    }

    /// Enabled policies of an action.
    pub async fn policies_of(&self, action_ref: &str) -> Result<Arc<Vec<Arc<Policy>>>, StoreError> {
        let _ = action_ref;
        Ok(Arc::default())
    }

    pub async fn config(&self, pack: &str) -> Result<Option<Arc<Config>>, StoreError> {
        let _ = pack;
        Ok(None)
    }

    /// A frozen resource by its content id.
    pub async fn snapshot(&self, id: model::Id) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let _ = id;
        Ok(None)
    }

    /// Drops what is cached of a collection: called by every writer after its commit, and for events of others.
    pub fn forget<T: Resource>(&self) {
        self.forget_collection(T::COLLECTION.name);
    }

    pub fn forget_collection(&self, collection: &str) {
        let _ = collection;
    }
}
