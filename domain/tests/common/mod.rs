//! Services on a real SQLite store, with the resources that the tests need.

#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use std::sync::Arc;

use bus::local::LocalBus;
use domain::crypto::Crypto;
use domain::executions::{Request, request};
use domain::{Services, Settings, triggers};
use model::{Action, Execution, Id, Object, RunnerType, SystemClock, TriggerType, Versioned};
use serde_json::{Value, json};
use store::StoreExt;
use store::sqlite::{SqliteOptions, SqliteStore};

pub struct Bench {
    pub services: Arc<Services>,
    _dir: tempfile::TempDir,
}

pub fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(SqliteOptions::new(dir.path().join("store.db"))).await.unwrap();
        let crypto = Crypto::from_key_file(&Crypto::generate_key_file()).unwrap();
        let bus = Arc::new(LocalBus::default());
        let services = Services::new(
            Arc::new(store),
            bus,
            Arc::new(coordinator::LocalCoordinator::new()),
            Arc::new(SystemClock),
            settings,
            Some(crypto),
        );
        let bench = Self { services, _dir: dir };
        bench.insert_resources().await;
        bench
    }

    async fn insert_resources(&self) {
        let now = self.services.now();
        let runner = RunnerType {
            id: Id::fresh(now),
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
        self.add_action("noop", json!({})).await;
        self.add_action(
            "greet",
            json!({
                "name": {"type": "string", "required": true},
                "count": {"type": "integer", "default": 1},
                "password": {"type": "string", "secret": true},
                "fixed": {"type": "string", "default": "f", "immutable": true},
            }),
        )
        .await;
        for (name, parameters) in [
            ("event", json!({})),
            ("hook", json!({"type": "object", "properties": {"url": {"type": "string", "required": true}}})),
        ] {
            let trigger_type = TriggerType {
                id: Id::fresh(now),
                uid: format!("trigger_type:t:{name}"),
                reference: format!("t.{name}"),
                pack: "t".to_owned(),
                name: name.to_owned(),
                description: None,
                payload_schema: object(json!({"type": "object", "properties": {"n": {"type": "integer"}}})),
                parameters_schema: object(parameters),
                tags: Vec::new(),
                metadata_file: String::new(),
            };
            triggers::register_type(&self.services, trigger_type).await.unwrap();
        }
    }

    pub async fn add_action(&self, name: &str, parameters: Value) {
        let action = Action {
            id: Id::fresh(self.services.now()),
            uid: Action::uid_of("p", name),
            reference: format!("p.{name}"),
            pack: "p".to_owned(),
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
    }

    pub fn asking(action: &str, parameters: Value) -> Request {
        Request {
            action: action.to_owned(),
            parameters: object(parameters),
            context: object(json!({"user": "ana"})),
            ..Request::default()
        }
    }

    pub async fn requested(&self) -> Arc<Versioned<Execution>> {
        request(&self.services, Self::asking("p.noop", json!({}))).await.unwrap()
    }

    pub async fn reread(&self, id: Id) -> Versioned<Execution> {
        self.services.store.read::<Execution>(id).await.unwrap().unwrap()
    }
}
