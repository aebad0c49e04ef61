//! A container, the leases that it is given, and packs in a temporary directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Change, Event, LocalBus};
use domain::action_token::ActionTokens;
use domain::triggers::register_type;
use domain::{Services, Settings};
use model::{
    Config, Id, Lease, Object, Resource, SensorType, SystemClock, Trigger, TriggerInstance, TriggerType, Versioned,
};
use parking_lot::Mutex;
use runners::python_script::interpreter;
use runners::sensors::{Owned, RespawnOptions, SensorState, SensorStatus};
use runners::{SensorContainer, SensorOptions, SensorStates};
use serde_json::{Value, json};
use store::sqlite::{SqliteOptions, SqliteStore};
use store::{Batch, Query, Store, StoreExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const LONG: Duration = Duration::from_secs(3600);

/// Base class of the tests' sensors: everything that a test does not care about.
pub const PRELUDE: &str = "\
import os, sys, time, threading, json
from st2reactor.sensor.base import Sensor, PollingSensor
class Rest:
    def setup(self): pass
    def cleanup(self): pass
    def poll(self): pass
    def add_trigger(self, trigger): pass
    def update_trigger(self, trigger): pass
    def remove_trigger(self, trigger): pass
    def send(self, **payload): self.sensor_service.dispatch(trigger='p.event', payload=payload)
";

pub struct Bed {
    pub services: Arc<Services>,
    pub directory: tempfile::TempDir,
    pub node: Node,
    options: SensorOptions,
}

/// A container and its leases.
pub struct Node {
    pub owned: watch::Sender<Owned>,
    pub released: Arc<Mutex<Vec<(String, u64)>>>,
    pub states: SensorStates,
    pub cancel: CancellationToken,
    container: Option<JoinHandle<Option<i32>>>,
}

impl std::ops::Deref for Bed {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.node
    }
}

pub fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

pub fn exists(pid: i32) -> bool {
    // One that nobody has waited for yet is gone as well.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
}

impl Bed {
    pub async fn new() -> Option<Self> {
        Self::with(|store| store, |_| {}).await
    }

    pub async fn with(
        wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
        adjust: impl FnOnce(&mut SensorOptions),
    ) -> Option<Self> {
        if interpreter::resolve(None).await.is_err() {
            eprintln!("skipped: there is no usable python3 here");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            base_path: directory.path().join("base"),
            pack_dirs: vec![directory.path().join("packs")],
            ..Settings::default()
        };
        let store = SqliteStore::open(SqliteOptions::new(directory.path().join("store.db"))).await.unwrap();
        let bus = Arc::new(LocalBus::default());
        let coordinator = Arc::new(coordinator::LocalCoordinator::new());
        let services = Services::new(wrap(Arc::new(store)), bus, coordinator, Arc::new(SystemClock), settings, None);
        let mut options = SensorOptions {
            stop_grace: Duration::from_secs(2),
            respawn: RespawnOptions {
                first: Duration::from_millis(100),
                longest: Duration::from_millis(400),
                healthy: Duration::from_secs(10),
            },
            reconcile: Duration::from_millis(300),
            ..SensorOptions::default()
        };
        options.python.sdk_path = runners::sdk::unpack(directory.path()).unwrap();
        adjust(&mut options);
        let node = Node::new(services.clone(), options.clone());
        let bed = Self { services, directory, node, options };
        bed.add_type("p.event", json!({})).await;
        Some(bed)
    }

    pub fn pack(&self, pack: &str) -> PathBuf {
        let path = self.directory.path().join("packs").join(pack);
        std::fs::create_dir_all(path.join("sensors")).unwrap();
        path
    }

    /// A trigger type, with its trigger if it takes no parameters.
    pub async fn add_type(&self, reference: &str, parameters_schema: Value) {
        let (pack, name) = reference.split_once('.').unwrap();
        let trigger_type: TriggerType = serde_json::from_value(json!({
            "id": Id::fresh(self.services.now()), "uid": format!("trigger_type:{pack}:{name}"), "ref": reference,
            "pack": pack, "name": name, "parameters_schema": parameters_schema,
        }))
        .unwrap();
        register_type(&self.services, trigger_type).await.unwrap();
    }

    /// A sensor `p.<name>` of class `<name>` in `<name>.py`; the text comes after [`PRELUDE`].
    pub async fn add_sensor(&self, name: &str, text: &str, more: Value) {
        self.write_sensor(name, text);
        self.add_row("p", name, &format!("{name}.py"), more).await;
    }

    pub fn write_sensor(&self, name: &str, text: &str) {
        let path = self.pack("p").join("sensors").join(format!("{name}.py"));
        // At once: a process that starts meanwhile would read half of it, and start again.
        let whole = path.with_extension("new");
        std::fs::write(&whole, format!("{PRELUDE}{text}")).unwrap();
        std::fs::rename(whole, path).unwrap();
    }

    pub async fn add_row(&self, pack: &str, name: &str, file: &str, more: Value) {
        let path = self.pack(pack).join("sensors").join(file);
        let mut row = json!({
            "id": Id::fresh(self.services.now()), "uid": format!("sensor_type:{pack}:{name}"),
            "ref": format!("{pack}.{name}"), "pack": pack, "name": name,
            "artifact_uri": format!("file://{}", path.display()), "entry_point": format!("sensors.x.{name}"),
            "enabled": true, "trigger_types": ["p.event"],
        });
        for (name, value) in object(more) {
            row[&name] = value;
        }
        let row: SensorType = serde_json::from_value(row).unwrap();
        self.services.store.insert(&row).await.unwrap();
        self.announce::<SensorType>(Change::Create, row.id, &row.reference);
    }

    pub fn announce<T: Resource>(&self, change: Change, id: Id, reference: &str) {
        self.services.catalog.forget::<T>();
        self.services.bus.announce(Arc::new(Event::Content {
            change,
            collection: T::COLLECTION.name.to_owned(),
            id,
            reference: reference.to_owned(),
        }));
    }

    pub async fn change_row(&self, reference: &str, change: impl FnOnce(&mut SensorType)) {
        let mut row = self.services.store.first::<SensorType>(&Query::eq("ref", reference)).await.unwrap().unwrap();
        change(&mut row.doc);
        let row = self.services.store.update(row).await.unwrap();
        self.announce::<SensorType>(Change::Update, row.id, reference);
    }

    pub async fn set_config(&self, pack: &str, values: Value) {
        let config = Config { id: Id::fresh(self.services.now()), pack: pack.to_owned(), values: object(values) };
        if let Some(old) = self.services.store.first::<Config>(&Query::eq("pack", pack)).await.unwrap() {
            self.services.store.remove::<Config>(old.id).await.unwrap();
        }
        self.services.store.insert(&config).await.unwrap();
        self.announce::<Config>(Change::Update, config.id, pack);
    }

    /// A trigger with parameters, as a rule would make it.
    pub async fn add_trigger(&self, reference: &str, type_ref: &str, parameters: Value) -> Id {
        let (pack, name) = reference.split_once('.').unwrap();
        let parameters = object(parameters);
        let trigger = Trigger {
            id: Id::fresh(self.services.now()),
            uid: Trigger::uid_of(pack, name, &parameters),
            reference: reference.to_owned(),
            pack: pack.to_owned(),
            name: name.to_owned(),
            description: None,
            type_ref: type_ref.to_owned(),
            parameters,
            ref_count: 1,
            created_at: self.services.now(),
        };
        self.services.store.insert(&trigger).await.unwrap();
        self.announce::<Trigger>(Change::Create, trigger.id, reference);
        trigger.id
    }

    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.states.all());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn status(&self, reference: &str, what: &str, is: impl Fn(&SensorStatus) -> bool) -> SensorStatus {
        self.until(what, async || self.states.get(reference).filter(&is)).await
    }

    pub async fn running(&self, reference: &str) -> SensorStatus {
        self.status(reference, "it runs", |status| status.state == SensorState::Running).await
    }

    /// Payloads of the stored events of a trigger, oldest first.
    pub async fn payloads(&self, trigger: &str) -> Vec<Value> {
        let found: Vec<Versioned<TriggerInstance>> =
            self.services.store.search(&Query::eq("trigger", trigger)).await.unwrap();
        let mut found: Vec<_> = found.into_iter().map(|found| found.doc).collect();
        found.sort_by_key(|instance| (instance.occurrence_time, instance.id));
        found.into_iter().map(|instance| instance.payload).collect()
    }

    /// The payloads of `p.event` once there are so many.
    pub async fn events(&self, count: usize) -> Vec<Value> {
        self.payloads_once("p.event", count).await
    }

    /// The payloads of a trigger once there are so many: notices go out beside what they tell of.
    pub async fn payloads_once(&self, trigger: &str, count: usize) -> Vec<Value> {
        self.until("events", async || {
            let found = self.payloads(trigger).await;
            (found.len() >= count).then_some(found)
        })
        .await
    }

    pub async fn gone(&self, pid: i32) {
        self.until("the process is gone", async || (!exists(pid)).then_some(())).await;
    }

    /// Raises the fence as the next owner does.
    pub async fn depose(&self, reference: &str, epoch: u64) {
        let mut batch = Batch::under(store::Fence { name: format!("sensor:{reference}"), epoch });
        batch.delete::<TriggerInstance>(Id::of_content(b"nothing"), None);
        self.services.store.commit(batch).await.unwrap();
    }

    /// Another container on the same store.
    pub fn another_node(&self) -> Node {
        Node::new(self.services.clone(), self.options.clone())
    }

    pub async fn stop(&mut self) {
        self.node.stop().await;
    }

    pub fn text(&self, path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Node {
    fn new(services: Arc<Services>, options: SensorOptions) -> Self {
        let (owned, on_owned) = watch::channel(Owned::default());
        let released = Arc::new(Mutex::new(Vec::new()));
        let release = {
            let released = released.clone();
            Arc::new(move |reference, epoch| released.lock().push((reference, epoch)))
        };
        let tokens = ActionTokens::new([1; 32]);
        let container = SensorContainer::new(services, options, tokens, on_owned, release);
        let states = container.states();
        let cancel = CancellationToken::new();
        let container = tokio::spawn(container.run(cancel.clone()));
        Self { owned, released, states, cancel, container: Some(container) }
    }

    /// Gives the container a lease.
    pub fn own(&self, reference: &str, epoch: u64, for_long: Duration) {
        self.owned.send_modify(|owned| {
            let mut next = BTreeMap::clone(owned);
            next.insert(reference.to_owned(), Lease { epoch, valid_until: Instant::now() + for_long });
            *owned = Arc::new(next);
        });
    }

    pub fn disown(&self, reference: &str) {
        self.owned.send_modify(|owned| {
            let mut next = BTreeMap::clone(owned);
            next.remove(reference);
            *owned = Arc::new(next);
        });
    }

    pub async fn stop(&mut self) {
        self.cancel.cancel();
        if let Some(container) = self.container.take() {
            container.await.unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(container) = &self.container {
            container.abort();
        }
    }
}
