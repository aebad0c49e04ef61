//! Cached look-ups. Writers in this process call [`Catalog::forget`]; [`Catalog::follow`] hears of other nodes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bus::{Bus, Event, Received, Topic};
use model::schema::effective_parameters;
use model::{
    Action, Config, ConfigSchema, Id, Object, Pack, Policy, Resource, Rule, RunnerType, Snapshot, Trigger, TriggerType,
};
use parking_lot::RwLock;
use serde_json::Value;
use store::{Cond, Order, Query, Store, StoreError, StoreExt};
use tokio_util::sync::CancellationToken;

/// Entries of one cache; past it the cache starts anew.
const CACHE_LIMIT: usize = 20_000;

/// Values read once and kept until their collection changes.
///
/// A read that a change overtook is not kept: the generation that it began under is over.
#[derive(Debug)]
struct Cache<V> {
    generation: AtomicU64,
    entries: RwLock<HashMap<String, V>>,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self { generation: AtomicU64::new(0), entries: RwLock::default() }
    }
}

impl<V: Clone> Cache<V> {
    fn clear(&self) {
        let mut entries = self.entries.write();
        self.generation.fetch_add(1, Ordering::SeqCst);
        entries.clear();
    }

    /// The kept value, or what `load` reads; `None` is not kept.
    async fn get(
        &self,
        key: &str,
        load: impl Future<Output = Result<Option<V>, StoreError>>,
    ) -> Result<Option<V>, StoreError> {
        if let Some(value) = self.entries.read().get(key) {
            return Ok(Some(value.clone()));
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let Some(value) = load.await? else {
            return Ok(None);
        };
        self.keep(key, &value, generation);
        Ok(Some(value))
    }

    fn keep(&self, key: &str, value: &V, generation: u64) {
        let mut entries = self.entries.write();
        if self.generation.load(Ordering::SeqCst) == generation {
            if entries.len() >= CACHE_LIMIT {
                entries.clear();
            }
            entries.insert(key.to_owned(), value.clone());
        }
    }
}

/// An action with its runner type, and what is computed from both once.
#[derive(Debug)]
pub struct Plan {
    pub action: Arc<Action>,
    pub runner: Arc<RunnerType>,
    pub action_snapshot: Arc<Snapshot>,
    pub runner_snapshot: Arc<Snapshot>,
    /// Runner parameters updated by the action's.
    pub parameters: Object,
    /// Whether a default's template asks for the pack's configuration.
    pub wants_config: bool,
}

impl Plan {
    fn new(action: Arc<Action>, runner: Arc<RunnerType>) -> Self {
        let parameters = effective_parameters(&runner.runner_parameters, &action.parameters);
        Self {
            action_snapshot: Arc::new(Snapshot::of(Value::Object(action.to_api()))),
            runner_snapshot: Arc::new(Snapshot::of(Value::Object(runner.to_api()))),
            wants_config: parameters.values().any(mentions_config),
            parameters,
            action,
            runner,
        }
    }

    /// Runners whose executions have children.
    pub fn is_workflow(&self) -> bool {
        matches!(self.runner.name.as_str(), "orquesta" | "orchestra" | "action-chain" | "mistral-v2")
    }
}

/// Whether some text in `value` may refer to `config_context`.
pub fn mentions_config(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("config_context"),
        Value::Array(items) => items.iter().any(mentions_config),
        Value::Object(object) => object.values().any(mentions_config),
        _ => false,
    }
}

/// Resources that the hot paths look up by name, read once and kept until they change.
#[derive(Debug)]
pub struct Catalog {
    store: Arc<dyn Store>,
    actions: Cache<Arc<Action>>,
    runner_types: Cache<Arc<RunnerType>>,
    plans: Cache<Arc<Plan>>,
    rules: Cache<Arc<Vec<Arc<Rule>>>>,
    triggers: Cache<Arc<Trigger>>,
    triggers_by_type: Cache<Arc<Vec<Arc<Trigger>>>>,
    trigger_types: Cache<Arc<TriggerType>>,
    policies: Cache<Arc<Vec<Arc<Policy>>>>,
    packs: Cache<Arc<Pack>>,
    configs: Cache<Option<Arc<Config>>>,
    config_schemas: Cache<Option<Arc<ConfigSchema>>>,
    snapshots: Cache<Arc<Snapshot>>,
}

impl Catalog {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            actions: Cache::default(),
            runner_types: Cache::default(),
            plans: Cache::default(),
            rules: Cache::default(),
            triggers: Cache::default(),
            triggers_by_type: Cache::default(),
            trigger_types: Cache::default(),
            policies: Cache::default(),
            packs: Cache::default(),
            configs: Cache::default(),
            config_schemas: Cache::default(),
            snapshots: Cache::default(),
        }
    }

    async fn one<T: Resource>(&self, field: &'static str, value: &str) -> Result<Option<Arc<T>>, StoreError> {
        Ok(self.store.first::<T>(&Query::eq(field, value)).await?.map(|found| Arc::new(found.doc)))
    }

    async fn several<T: Resource>(&self, query: Query) -> Result<Option<Arc<Vec<Arc<T>>>>, StoreError> {
        let found = self.store.search::<T>(&query).await?;
        Ok(Some(Arc::new(found.into_iter().map(|found| Arc::new(found.doc)).collect())))
    }

    /// By ref.
    pub async fn action(&self, reference: &str) -> Result<Option<Arc<Action>>, StoreError> {
        self.actions.get(reference, self.one("ref", reference)).await
    }

    pub async fn runner_type(&self, name: &str) -> Result<Option<Arc<RunnerType>>, StoreError> {
        self.runner_types.get(name, self.one("name", name)).await
    }

    /// An action with its runner; `None` if either is missing.
    pub async fn plan(&self, action_ref: &str) -> Result<Option<Arc<Plan>>, StoreError> {
        self.plans
            .get(action_ref, async {
                let Some(action) = self.action(action_ref).await? else { return Ok(None) };
                let Some(runner) = self.runner_type(&action.runner_type).await? else { return Ok(None) };
                Ok(Some(Arc::new(Plan::new(action, runner))))
            })
            .await
    }

    /// Enabled rules of a trigger, in the order of their ids.
    pub async fn rules_of(&self, trigger_ref: &str) -> Result<Arc<Vec<Arc<Rule>>>, StoreError> {
        let query = Query::eq("trigger", trigger_ref).and(Cond::Eq("enabled", true.into()));
        Ok(self.rules.get(trigger_ref, self.several(query)).await?.unwrap_or_default())
    }

    pub async fn trigger(&self, reference: &str) -> Result<Option<Arc<Trigger>>, StoreError> {
        self.triggers.get(reference, self.one("ref", reference)).await
    }

    pub async fn trigger_type(&self, reference: &str) -> Result<Option<Arc<TriggerType>>, StoreError> {
        self.trigger_types.get(reference, self.one("ref", reference)).await
    }

    /// All triggers of a type (webhooks, timers).
    pub async fn triggers_of_type(&self, type_ref: &str) -> Result<Arc<Vec<Arc<Trigger>>>, StoreError> {
        let query = Query::eq("type", type_ref);
        Ok(self.triggers_by_type.get(type_ref, self.several(query)).await?.unwrap_or_default())
    }

    /// Enabled policies of an action, by name.
    pub async fn policies_of(&self, action_ref: &str) -> Result<Arc<Vec<Arc<Policy>>>, StoreError> {
        let query = Query::eq("resource_ref", action_ref).order(Order::Asc("name"));
        let found = self
            .policies
            .get(action_ref, async {
                let all = self.store.search::<Policy>(&query).await?;
                Ok(Some(Arc::new(all.into_iter().filter(|p| p.enabled).map(|p| Arc::new(p.doc)).collect())))
            })
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// By ref.
    pub async fn pack(&self, reference: &str) -> Result<Option<Arc<Pack>>, StoreError> {
        self.packs.get(reference, self.one("ref", reference)).await
    }

    pub async fn config(&self, pack: &str) -> Result<Option<Arc<Config>>, StoreError> {
        let found = self.configs.get(pack, async { Ok(Some(self.one("pack", pack).await?)) }).await?;
        Ok(found.flatten())
    }

    pub async fn config_schema(&self, pack: &str) -> Result<Option<Arc<ConfigSchema>>, StoreError> {
        let found = self.config_schemas.get(pack, async { Ok(Some(self.one("pack", pack).await?)) }).await?;
        Ok(found.flatten())
    }

    /// A frozen resource by its content id.
    pub async fn snapshot(&self, id: Id) -> Result<Option<Arc<Snapshot>>, StoreError> {
        self.snapshots
            .get(&id.to_string(), async { Ok(self.store.read::<Snapshot>(id).await?.map(|found| Arc::new(found.doc))) })
            .await
    }

    /// Whether the snapshot is known to be stored.
    pub fn has_snapshot(&self, id: Id) -> bool {
        self.snapshots.entries.read().contains_key(&id.to_string())
    }

    /// The snapshot was stored by a commit of the caller.
    pub fn snapshot_stored(&self, snapshot: &Arc<Snapshot>) {
        let generation = self.snapshots.generation.load(Ordering::SeqCst);
        self.snapshots.keep(&snapshot.id.to_string(), snapshot, generation);
    }

    /// Drops what is cached of a collection: called by every writer after its commit, and for events of others.
    pub fn forget<T: Resource>(&self) {
        self.forget_collection(T::COLLECTION.name);
    }

    pub fn forget_collection(&self, collection: &str) {
        let is = |declared: &model::Collection| declared.name == collection;
        if is(Action::COLLECTION) {
            self.actions.clear();
            self.plans.clear();
        } else if is(RunnerType::COLLECTION) {
            self.runner_types.clear();
            self.plans.clear();
        } else if is(Rule::COLLECTION) {
            self.rules.clear();
        } else if is(Trigger::COLLECTION) {
            self.triggers.clear();
            self.triggers_by_type.clear();
        } else if is(TriggerType::COLLECTION) {
            self.trigger_types.clear();
        } else if is(Policy::COLLECTION) {
            self.policies.clear();
        } else if is(Pack::COLLECTION) {
            self.packs.clear();
        } else if is(Config::COLLECTION) {
            self.configs.clear();
        } else if is(ConfigSchema::COLLECTION) {
            self.config_schemas.clear();
        } else if is(Snapshot::COLLECTION) {
            self.snapshots.clear();
        }
    }

    fn forget_everything(&self) {
        for collection in model::COLLECTIONS {
            self.forget_collection(collection.name);
        }
    }

    /// Drops what other nodes changed, until canceled. After lost events everything is dropped.
    pub async fn follow(&self, bus: &dyn Bus, cancel: CancellationToken) {
        let mut changes = bus.subscribe(&[Topic::Content]);
        loop {
            let received = tokio::select! {
                () = cancel.cancelled() => return,
                received = changes.next() => received,
            };
            match received {
                None => return,
                Some(Received::Lost(_)) => self.forget_everything(),
                Some(Received::Event(event)) => {
                    if let Event::Content { collection, .. } = event.as_ref() {
                        self.forget_collection(collection);
                    }
                }
            }
        }
    }
}
