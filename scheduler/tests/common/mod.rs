//! Services on a real SQLite store and the in-process bus, resources to work on, and a runner that runs nothing.

#![allow(dead_code, clippy::unwrap_used)] // each test file uses its part; a failed step fails the test

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Job, LocalBus, LocalBusOptions, Queue};
use coordinator::LocalCoordinator;
use domain::executions::{Outcome, Request, claim, finish, request};
use domain::rules::{RuleInput, create};
use domain::triggers::{Dispatch, dispatch, register_type};
use domain::{Services, Settings};
use model::{
    Action, Claim, Execution, Id, Invocation, Lease, Object, Policy, Rule, RuleEnforcement, RunnerInfo, RunnerType,
    Status, SystemClock, TriggerInstance, TriggerType, Versioned,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::{Cond, Query, SqliteOptions, SqliteStore, StoreExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Bench {
    pub services: Arc<Services>,
    pub store: Arc<SqliteStore>,
    pub dir: Arc<tempfile::TempDir>,
}

pub fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

/// Waits until `condition` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl Fn() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A running role; stopped and joined by [`Role::stop`], aborted when dropped.
pub struct Role {
    cancel: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Role {
    pub fn start<F: Future<Output = ()> + Send + 'static>(run: impl FnOnce(CancellationToken) -> F) -> Self {
        let cancel = CancellationToken::new();
        Self { task: Some(tokio::spawn(run(cancel.clone()))), cancel }
    }

    pub async fn stop(mut self) {
        self.cancel.cancel();
        self.task.take().unwrap().await.unwrap();
    }

    /// As a crash would.
    pub async fn kill(mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A lease that lasts for the whole test.
pub fn lease(epoch: u64) -> watch::Receiver<Option<Lease>> {
    let valid_until = Instant::now() + Duration::from_secs(3_600);
    // The sender may go: a lease that was given stays.
    let (sender, receiver) = watch::channel(Some(Lease { epoch, valid_until }));
    std::mem::forget(sender);
    receiver
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Settings::default(), LocalBusOptions::default()).await
    }

    pub async fn with(settings: Settings, bus: LocalBusOptions) -> Self {
        Self::open(settings, bus, false).await
    }

    /// For measurements: what is acknowledged survives the loss of power, as in earnest.
    pub async fn durable() -> Self {
        Self::open(Settings::default(), LocalBusOptions::default(), true).await
    }

    async fn open(settings: Settings, bus: LocalBusOptions, durable: bool) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut options = SqliteOptions::new(dir.path().join("store.db"));
        options.durable = durable;
        let store = Arc::new(SqliteStore::open(options).await.unwrap());
        let services = Services::new(
            store.clone(),
            Arc::new(LocalBus::new(bus)),
            Arc::new(LocalCoordinator::new()),
            Arc::new(SystemClock),
            settings,
            None,
        );
        let bench = Self { services, store, dir };
        bench.insert_resources().await;
        bench
    }

    /// The same store behind a new bus and new caches, as after a restart.
    pub fn restarted(&self) -> Self {
        let services = Services::new(
            self.store.clone(),
            Arc::new(LocalBus::default()),
            Arc::new(LocalCoordinator::new()),
            Arc::new(SystemClock),
            self.services.settings.clone(),
            None,
        );
        Self { services, store: self.store.clone(), dir: self.dir.clone() }
    }

    /// The same store behind another bus.
    pub fn on(&self, bus: Arc<dyn bus::Bus>) -> Self {
        let services = Services::new(
            self.store.clone(),
            bus,
            Arc::new(LocalCoordinator::new()),
            Arc::new(SystemClock),
            self.services.settings.clone(),
            None,
        );
        Self { services, store: self.store.clone(), dir: self.dir.clone() }
    }

    async fn insert_resources(&self) {
        let runner = RunnerType {
            id: Id::fresh(self.services.now()),
            uid: "runner_type:noop".to_owned(),
            name: "noop".to_owned(),
            description: None,
            enabled: true,
            runner_package: None,
            runner_module: "noop_runner".to_owned(),
            query_module: None,
            runner_parameters: Object::new(),
            output_key: None,
            output_schema: Object::new(),
        };
        self.services.store.insert(&runner).await.unwrap();
        self.add_action("p.noop", json!({})).await;
        let greet = json!({
            "name": {"type": "string", "required": true},
            "count": {"type": "integer", "default": 1},
            "password": {"type": "string", "secret": true},
        });
        self.add_action("p.greet", greet).await;
        self.add_type("t.event", json!({})).await;
        let timer = json!({"type": "object", "properties": {
            "unit": {"type": "string"}, "delta": {"type": "integer"}, "date": {"type": "string"},
            "second": {}, "minute": {}, "timezone": {"type": "string"},
        }});
        for name in model::timer::TYPES {
            self.add_type(name, timer.clone()).await;
        }
    }

    pub async fn add_type(&self, reference: &str, parameters: Value) {
        let (pack, name) = reference.split_once('.').unwrap();
        let trigger_type = TriggerType {
            id: Id::fresh(self.services.now()),
            uid: format!("trigger_type:{pack}:{name}"),
            reference: reference.to_owned(),
            pack: pack.to_owned(),
            name: name.to_owned(),
            description: None,
            payload_schema: Object::new(),
            parameters_schema: object(parameters),
            tags: Vec::new(),
            metadata_file: String::new(),
        };
        register_type(&self.services, trigger_type).await.unwrap();
    }

    pub async fn add_action(&self, reference: &str, parameters: Value) {
        let (pack, name) = reference.split_once('.').unwrap();
        let action = Action {
            id: Id::fresh(self.services.now()),
            uid: Action::uid_of(pack, name),
            reference: reference.to_owned(),
            pack: pack.to_owned(),
            name: name.to_owned(),
            description: None,
            enabled: true,
            runner_type: "noop".to_owned(),
            entry_point: String::new(),
            parameters: object(parameters),
            output_schema: Object::new(),
            tags: Vec::new(),
            notify: Object::new(),
            metadata_file: String::new(),
        };
        self.services.store.insert(&action).await.unwrap();
        self.services.catalog.forget::<Action>();
    }

    pub async fn add_policy(&self, name: &str, action: &str, policy_type: &str, parameters: Value) {
        let policy = Policy {
            id: Id::fresh(self.services.now()),
            uid: format!("policy:p:{name}"),
            reference: format!("p.{name}"),
            pack: "p".to_owned(),
            name: name.to_owned(),
            description: None,
            enabled: true,
            resource_ref: action.to_owned(),
            policy_type: policy_type.to_owned(),
            parameters: object(parameters),
            metadata_file: String::new(),
        };
        self.services.store.insert(&policy).await.unwrap();
        self.services.catalog.forget::<Policy>();
    }

    pub fn rule(name: &str, trigger: &str, criteria: Value, action: &str, parameters: Value) -> RuleInput {
        RuleInput {
            name: name.to_owned(),
            pack: "r".to_owned(),
            description: None,
            rule_type: Invocation { reference: "standard".to_owned(), parameters: Object::new() },
            trigger_type: trigger.to_owned(),
            trigger_parameters: Object::new(),
            criteria: object(criteria),
            action: Invocation { reference: action.to_owned(), parameters: object(parameters) },
            enabled: true,
            context: Object::new(),
            tags: Vec::new(),
            metadata_file: String::new(),
        }
    }

    pub async fn add_rule(&self, input: RuleInput) -> Rule {
        create(&self.services, input).await.unwrap()
    }

    pub async fn add_timer(&self, name: &str, kind: &str, parameters: Value) -> Rule {
        let mut input = Self::rule(name, kind, json!({}), "p.noop", json!({}));
        input.trigger_parameters = object(parameters);
        self.add_rule(input).await
    }

    pub async fn event(&self, payload: Value) -> Arc<Versioned<TriggerInstance>> {
        self.event_of("t.event", payload).await
    }

    pub async fn event_of(&self, trigger: &str, payload: Value) -> Arc<Versioned<TriggerInstance>> {
        let event = Dispatch {
            trigger: trigger.to_owned(),
            payload,
            occurrence_time: self.services.now(),
            id: None,
            trace_context: None,
            validate: false,
            fence: None,
        };
        dispatch(&self.services, event).await.unwrap().unwrap()
    }

    pub async fn processed(&self, id: Id) -> TriggerInstance {
        eventually("the instance is processed", || async move {
            let found = self.services.store.read::<TriggerInstance>(id).await.unwrap()?.doc;
            found.check_at.is_none().then_some(found)
        })
        .await
    }

    pub async fn executions_of(&self, instance: Id) -> Vec<Execution> {
        let query = Query::eq("trigger_instance", instance);
        docs(self.services.store.search::<Execution>(&query).await.unwrap())
    }

    pub async fn records_of(&self, instance: Id) -> Vec<RuleEnforcement> {
        let query = Query::eq("trigger_instance", instance);
        let mut records = docs(self.services.store.search::<RuleEnforcement>(&query).await.unwrap());
        records.sort_by(|a, b| a.rule.reference.cmp(&b.rule.reference));
        records
    }

    pub async fn instances_of(&self, trigger: &str) -> Vec<TriggerInstance> {
        docs(self.services.store.search::<TriggerInstance>(&Query::eq("trigger", trigger)).await.unwrap())
    }

    pub async fn request(&self, action: &str, parameters: Value) -> Arc<Versioned<Execution>> {
        self.ask(Self::asking(action, parameters)).await
    }

    pub async fn ask(&self, asked: Request) -> Arc<Versioned<Execution>> {
        request(&self.services, asked).await.unwrap()
    }

    pub fn asking(action: &str, parameters: Value) -> Request {
        Request {
            action: action.to_owned(),
            parameters: object(parameters),
            context: object(json!({"user": "ana"})),
            ..Request::default()
        }
    }

    pub async fn read(&self, id: Id) -> Execution {
        self.services.store.read::<Execution>(id).await.unwrap().unwrap().doc
    }

    pub async fn becomes(&self, id: Id, status: Status) -> Execution {
        eventually(&format!("{id} is {status}"), || async move {
            let found = self.read(id).await;
            (found.status == status).then_some(found)
        })
        .await
    }

    pub async fn count(&self, status: Status) -> u64 {
        self.services.store.total::<Execution>(&Query::eq("status", status)).await.unwrap()
    }

    pub async fn total<T: model::Resource>(&self) -> u64 {
        self.services.store.total::<T>(&Query::all()).await.unwrap()
    }

    pub async fn pending_postruns(&self) -> u64 {
        self.services.store.total::<Execution>(&Query::filter(Cond::Present("postrun"))).await.unwrap()
    }
}

pub fn docs<T>(found: Vec<Versioned<T>>) -> Vec<T> {
    found.into_iter().map(|found| found.doc).collect()
}

pub fn statuses(execution: &Execution) -> Vec<&'static str> {
    execution.log.iter().map(|entry| entry.status.as_str()).collect()
}

pub fn holder(session: u64) -> (Claim, RunnerInfo) {
    (Claim { node: "n1".to_owned(), session }, RunnerInfo { hostname: "n1".to_owned(), pid: 1 })
}

/// What [`run_actions`] saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Running at the moment, by action.
    pub running: HashMap<String, usize>,
    /// Most that ran at a time.
    pub most: HashMap<String, usize>,
    pub starts: HashMap<Id, usize>,
}

/// Takes executions from the run queue, lets each "run" for `time`, and ends it with the status that its parameter
/// `end` names, or succeeded.
pub fn run_actions(services: &Arc<Services>, slots: usize, time: Duration) -> (Role, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (services, shared) = (services.clone(), seen.clone());
    let role = Role::start(move |cancel| async move {
        let mut jobs = services.bus.consume(Queue::Run, slots).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let delivery = tokio::select! {
                () = cancel.cancelled() => return,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                delivery = jobs.next() => delivery,
            };
            let Some(delivery) = delivery else { return };
            let (services, seen) = (services.clone(), shared.clone());
            tasks.spawn(async move {
                run_one(&services, &delivery.job, time, &seen).await;
                delivery.ack();
            });
        }
    });
    (role, seen)
}

async fn run_one(services: &Services, job: &Job, time: Duration, seen: &Mutex<Seen>) {
    let Job::Execution { id, hint } = job else { return };
    let known = match hint {
        Some(hint) => (**hint).clone(),
        None => services.store.read::<Execution>(*id).await.unwrap().unwrap(),
    };
    let (holder, info) = holder(1);
    let Ok(claimed) = claim(services, &known, holder, info).await else { return };
    {
        let mut seen = seen.lock();
        *seen.starts.entry(claimed.id).or_default() += 1;
        let running = seen.running.entry(claimed.action.clone()).or_default();
        *running += 1;
        let running = *running;
        let most = seen.most.entry(claimed.action.clone()).or_default();
        *most = running.max(*most);
    }
    tokio::time::sleep(time).await;
    let status = claimed.parameters.get("end").and_then(Value::as_str).and_then(Status::parse);
    *seen.lock().running.get_mut(&claimed.action).unwrap() -= 1;
    let outcome =
        Outcome { status: status.unwrap_or(Status::Succeeded), result: json!({"n": 1}), context: Object::new() };
    let _ = finish(services, &claimed, outcome).await;
}
