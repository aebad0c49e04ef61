//! A runner pool on a real store and bus, with a scheduler that lets everything run.

#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::local::LocalBus;
use bus::{Bus, Job, Queue};
use domain::action_token::ActionTokens;
use domain::executions::{self, Request, request};
use domain::{Services, Settings};
use model::{
    Action, Execution, Id, Object, OutputChunk, Pack, ResultValue, RunnerType, Session, Status, SystemClock, Versioned,
};
use runners::{Registry, RunnerOptions, RunnerPool};
use serde_json::{Value, json};
use store::sqlite::{SqliteOptions, SqliteStore};
use store::{Order, Query, StoreExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub struct Bed {
    pub services: Arc<Services>,
    pub tokens: ActionTokens,
    pub session: watch::Sender<Option<Session>>,
    pub cancel: CancellationToken,
    pub pool: Option<JoinHandle<()>>,
    pub directory: tempfile::TempDir,
    scheduler: JoinHandle<()>,
}

pub fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

/// The recorded data, if it is there.
pub fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("SQUALL_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = path.canonicalize().ok()?;
    path.join("data/golden").is_dir().then_some(path)
}

fn session(epoch: u64) -> Session {
    Session { node: "n1".to_owned(), epoch }
}

impl Bed {
    pub async fn new() -> Self {
        Self::with(Settings::default(), |_| {}).await
    }

    pub async fn with(settings: Settings, adjust: impl FnOnce(&mut RunnerOptions)) -> Self {
        Self::with_registry(settings, adjust, Registry::default()).await
    }

    pub async fn with_registry(
        mut settings: Settings,
        adjust: impl FnOnce(&mut RunnerOptions),
        registry: Registry,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if settings.system_user == Settings::default().system_user {
            // Whether or not this machine has that user.
            settings.system_user = "no-such-user".to_owned();
        }
        settings.base_path = directory.path().join("base");
        let store = SqliteStore::open(SqliteOptions::new(directory.path().join("store.db"))).await.unwrap();
        let bus = Arc::new(LocalBus::default());
        let services = Services::new(
            Arc::new(store),
            bus,
            Arc::new(coordinator::LocalCoordinator::new()),
            Arc::new(SystemClock),
            settings,
            None,
        );
        let mut options = RunnerOptions {
            kill_grace: Duration::from_millis(300),
            drain_limit: Duration::from_millis(500),
            ..RunnerOptions::default()
        };
        options.python.sdk_path = runners::sdk::unpack(directory.path()).unwrap();
        adjust(&mut options);
        let (session, on_session) = watch::channel(Some(session(1)));
        let tokens = ActionTokens::new([1; 32]);
        let pool = RunnerPool::new(services.clone(), options, tokens.clone(), on_session, registry);
        let cancel = CancellationToken::new();
        let pool = tokio::spawn({
            let cancel = cancel.clone();
            async move { pool.run(cancel).await.unwrap() }
        });
        let scheduler = tokio::spawn(let_all_run(services.clone()));
        let bed = Self { services, tokens, session, cancel, pool: Some(pool), directory, scheduler };
        bed.add_runner_types().await;
        bed
    }

    /// As the node's start registers them, with what these tests need of their parameters.
    async fn add_runner_types(&self) {
        let shell = json!({
            "cwd": {"type": "string"}, "env": {"type": "object"}, "kwarg_op": {"type": "string", "default": "--"},
            "sudo": {"type": "boolean", "default": false},
            "sudo_password": {"type": "string", "default": null, "secret": true},
            "timeout": {"type": "integer", "default": 60},
        });
        let mut command = shell.clone();
        command["cmd"] = json!({"type": "string"});
        let python = json!({
            "debug": {"type": "boolean", "default": false}, "env": {"type": "object"},
            "timeout": {"type": "integer", "default": 600}, "content_version": {"type": "string"},
            "log_level": {"type": "string", "default": "DEBUG"},
        });
        let http = json!({
            "url": {"type": "string", "required": true}, "headers": {"type": "object"}, "cookies": {"type": "object"},
            "http_proxy": {"type": "string"}, "https_proxy": {"type": "string"}, "username": {"type": "string"},
            "password": {"type": "string", "secret": true}, "allow_redirects": {"type": "boolean", "default": false},
            "verify_ssl_cert": {"type": "boolean", "default": true}, "url_hosts_blacklist": {"type": "array"},
            "url_hosts_whitelist": {"type": "array"},
        });
        let announcement = json!({
            "experimental": {"type": "boolean", "default": false},
            "route": {"type": "string", "default": "general"},
        });
        let all = [
            ("noop", json!({}), None),
            ("local-shell-cmd", command, None),
            ("local-shell-script", shell, None),
            ("python-script", python, Some("result")),
            ("http-request", http, Some("body")),
            ("announcement", announcement, None),
            ("orquesta", json!({}), Some("output")),
        ];
        for (name, parameters, output_key) in all {
            let runner = RunnerType {
                id: Id::fresh(self.services.now()),
                uid: format!("runner_type:{name}"),
                name: name.to_owned(),
                description: None,
                enabled: true,
                runner_package: None,
                runner_module: name.replace('-', "_"),
                query_module: None,
                runner_parameters: object(parameters),
                output_key: output_key.map(str::to_owned),
                output_schema: Object::new(),
            };
            self.services.store.insert(&runner).await.unwrap();
        }
    }

    /// Those that nodes register, whose names begin with `prefix`.
    pub async fn add_registered_types(&self, prefix: &str) {
        let types: Value = serde_json::from_str(include_str!("../../../content/src/runner_types.json")).unwrap();
        for kind in types.as_array().unwrap().iter().filter(|kind| kind["name"].as_str().unwrap().starts_with(prefix)) {
            self.add_type(kind).await;
        }
    }

    pub async fn add_type(&self, kind: &Value) {
        let name = kind["name"].as_str().unwrap();
        let runner: RunnerType = serde_json::from_value(json!({
            "id": Id::fresh(self.services.now()), "uid": format!("runner_type:{name}"), "name": name,
            "enabled": true, "description": null, "runner_package": null, "runner_module": name,
            "query_module": null, "runner_parameters": kind["runner_parameters"], "output_key": null,
            "output_schema": {},
        }))
        .unwrap();
        self.services.store.insert(&runner).await.unwrap();
    }

    pub async fn add_action(&self, reference: &str, runner: &str, entry_point: &str, parameters: Value) {
        let (pack, name) = reference.split_once('.').unwrap();
        let action = Action {
            id: Id::fresh(self.services.now()),
            uid: Action::uid_of(pack, name),
            reference: reference.to_owned(),
            pack: pack.to_owned(),
            name: name.to_owned(),
            description: None,
            enabled: true,
            runner_type: runner.to_owned(),
            entry_point: entry_point.to_owned(),
            parameters: object(parameters),
            output_schema: Object::new(),
            tags: Vec::new(),
            notify: Object::new(),
            metadata_file: String::new(),
        };
        self.services.store.insert(&action).await.unwrap();
    }

    /// `core.local` and its like.
    pub async fn add_core(&self) {
        self.add_action("core.noop", "noop", "", json!({})).await;
        self.add_action("core.local", "local-shell-cmd", "", json!({"cmd": {"type": "string", "required": true}}))
            .await;
        let sudo = json!({"cmd": {"required": true}, "sudo": {"default": true, "immutable": true}});
        self.add_action("core.local_sudo", "local-shell-cmd", "", sudo).await;
        let http = json!({
            "method": {"type": "string"}, "body": {"type": "string"}, "params": {"type": "object"},
            "timeout": {"type": "number", "default": 60},
        });
        self.add_action("core.http", "http-request", "", http).await;
    }

    /// A pack of this bed with a Python action `test.<name>` without declared parameters but `n`.
    pub async fn add_python(&self, name: &str, text: &str) {
        let path = self.directory.path().join("test");
        std::fs::create_dir_all(path.join("actions")).unwrap();
        std::fs::write(path.join(format!("actions/{name}.py")), text).unwrap();
        self.add_pack("test", &path).await;
        let parameters = json!({"n": {"type": "integer", "default": 1}});
        self.add_action(&format!("test.{name}"), "python-script", &format!("{name}.py"), parameters).await;
    }

    pub async fn add_pack(&self, name: &str, path: &Path) {
        if self.services.catalog.pack(name).await.unwrap().is_some() {
            return;
        }
        let pack: Pack = serde_json::from_value(json!({
            "id": Id::fresh(self.services.now()), "uid": format!("pack:{name}"), "ref": name, "name": name,
            "description": "", "version": "1.0.0", "author": "a", "path": path,
        }))
        .unwrap();
        self.services.store.insert(&pack).await.unwrap();
    }

    pub async fn request(&self, action: &str, parameters: Value) -> Arc<Versioned<Execution>> {
        let asking = Request {
            action: action.to_owned(),
            parameters: object(parameters),
            context: object(json!({"user": "ana"})),
            ..Request::default()
        };
        request(&self.services, asking).await.unwrap()
    }

    pub async fn read(&self, id: Id) -> Versioned<Execution> {
        self.services.store.read::<Execution>(id).await.unwrap().unwrap()
    }

    pub async fn wait(&self, id: Id, what: &str, condition: impl Fn(&Execution) -> bool) -> Versioned<Execution> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let execution = self.read(id).await;
            if condition(&execution) {
                return execution;
            }
            assert!(Instant::now() < deadline, "{what}: {execution:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn completed(&self, id: Id) -> Versioned<Execution> {
        self.wait(id, "completes", |execution| execution.status.is_completed()).await
    }

    /// Runs it to its end: status and result.
    pub async fn run(&self, action: &str, parameters: Value) -> (Status, Value) {
        let requested = self.request(action, parameters).await;
        let done = self.completed(requested.id).await;
        (done.status, self.result(&done).await)
    }

    /// Runs it to its end, which is heard of on the bus.
    pub async fn finished(&self, action: &str, parameters: Value) {
        let mut events = self.services.bus.subscribe(&[bus::Topic::Execution]);
        let requested = self.request(action, parameters).await;
        loop {
            match events.next().await {
                Some(bus::Received::Event(event)) => {
                    if let bus::Event::Execution(_, execution) = event.as_ref()
                        && execution.id == requested.id
                        && execution.status.is_completed()
                    {
                        return;
                    }
                }
                Some(bus::Received::Lost(_)) => {
                    self.completed(requested.id).await;
                    return;
                }
                None => return,
            }
        }
    }

    pub async fn result(&self, execution: &Execution) -> Value {
        match execution.result.clone() {
            None => Value::Null,
            Some(ResultValue::Inline(value)) => value,
            Some(ResultValue::Blob { blob, .. }) => {
                serde_json::from_slice(&self.services.store.get_blob(blob).await.unwrap().unwrap()).unwrap()
            }
        }
    }

    pub async fn output(&self, id: Id) -> String {
        let query = Query::eq("execution_id", id).order(Order::Asc("seq"));
        let chunks = self.services.store.search::<OutputChunk>(&query).await.unwrap();
        chunks.iter().map(|chunk| chunk.data.as_str()).collect()
    }

    pub async fn stop_pool(&mut self) {
        self.cancel.cancel();
        if let Some(pool) = self.pool.take() {
            pool.await.unwrap();
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.scheduler.abort();
        if let Some(pool) = &self.pool {
            pool.abort();
        }
    }
}

async fn let_all_run(services: Arc<Services>) {
    let bus: Arc<dyn Bus> = services.bus.clone();
    let mut queue = bus.consume(Queue::Schedule, 64).await.unwrap();
    while let Some(delivery) = queue.next().await {
        if let Job::Execution { hint: Some(execution), .. } = &delivery.job {
            executions::release(&services, execution.clone()).await;
        }
        delivery.ack();
    }
}
