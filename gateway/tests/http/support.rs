//! Starts gateways.

use std::sync::Arc;
use std::time::Duration;

use auth::FlatFile;
use bus::LocalBus;
use domain::action_token::ActionTokens;
use domain::crypto::Crypto;
use domain::{Services, Settings};
use gateway::{AuthOptions, Gateway, GatewayOptions, Limits, Mount, PortsReady};
use model::{Action, Id, Resource, RunnerType, SystemClock, Timestamp, Token, User};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use store::StoreExt;
use store::sqlite::SqliteStore;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PASSWORD: &str = "Ch@ngeMe";

/// A running gateway; stops when dropped.
pub struct Server {
    pub services: Arc<Services>,
    pub bus: LocalBus,
    pub store: Arc<SqliteStore>,
    pub action_tokens: ActionTokens,
    pub auth: String,
    pub api: String,
    pub stream: String,
    pub combined: String,
    /// A valid token of `st2admin`.
    pub token: String,
    pub client: Client,
    pub dir: tempfile::TempDir,
    cancel: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn fault(&self) -> String {
        self.json()["faultstring"].as_str().unwrap_or_else(|| panic!("no fault: {}", self.text)).to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub async fn answer(response: Response) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut Limits)) -> Self {
        Self::start_options(|options| adjust(&mut options.limits)).await
    }

    pub async fn start_options(adjust: impl FnOnce(&mut GatewayOptions)) -> Self {
        // An earlier test of this process may have done it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let bus = LocalBus::default();
        let packs = dir.path().join("packs");
        std::fs::create_dir(&packs).unwrap();
        let settings = Settings {
            base_path: dir.path().to_owned(),
            pack_dirs: vec![packs],
            index_urls: vec![format!("file://{}", dir.path().join("index.json").display())],
            ..Settings::default()
        };
        let crypto = Crypto::from_key_file(&Crypto::generate_key_file()).unwrap();
        let store = Arc::new(SqliteStore::temporary().await.unwrap());
        let services = Services::new(
            store.clone(),
            Arc::new(bus.clone()),
            Arc::new(coordinator::LocalCoordinator::new()),
            Arc::new(SystemClock),
            settings,
            Some(crypto),
        );
        let htpasswd = dir.path().join("htpasswd");
        std::fs::write(&htpasswd, FlatFile::line("st2admin", PASSWORD).unwrap()).unwrap();
        let limits = Limits { heartbeat: Duration::from_millis(300), ..Limits::default() };
        let action_tokens = ActionTokens::new([7; 32]);
        let mut options = GatewayOptions {
            services: services.clone(),
            auth: AuthOptions::standalone(Arc::new(FlatFile::new(htpasswd))),
            action_tokens: Some(action_tokens.clone()),
            allow_origin: vec!["*".to_owned()],
            api_url: None,
            readiness: Arc::new(PortsReady(services.clone())),
            metrics: None,
            cluster: None,
            limits,
            tls: None,
            access_log: false,
        };
        adjust(&mut options);
        let gateway = Gateway::build(options);
        let mut listeners = Vec::new();
        let mut urls = Vec::new();
        for mount in [Mount::Auth, Mount::Api, Mount::Stream, Mount::Combined] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            listeners.push((listener.into(), mount));
        }
        let cancel = CancellationToken::new();
        let serving = (gateway, cancel.clone());
        let task = tokio::spawn(async move { serving.0.serve(listeners, serving.1).await });
        let [auth, api, stream, combined] = urls.try_into().unwrap();
        let client = Client::builder().build().unwrap();
        let token = "0123456789abcdef0123456789abcdef".to_owned();
        let server = Self {
            services,
            bus,
            store,
            action_tokens,
            auth,
            api,
            stream,
            combined,
            token,
            client,
            dir,
            cancel,
            task: Some(task),
        };
        server.user("st2admin").await;
        server.add_token(&server.token, "st2admin", Duration::from_secs(3600)).await;
        server
    }

    pub fn now(&self) -> Timestamp {
        self.services.now()
    }

    pub async fn insert<T: Resource>(&self, doc: &T) {
        self.services.store.insert_or_ignore(doc).await.unwrap();
        self.services.catalog.forget::<T>();
    }

    pub async fn user(&self, name: &str) {
        let user =
            User { id: Id::fresh(self.now()), name: name.to_owned(), is_service: false, nicknames: Default::default() };
        self.insert(&user).await;
    }

    pub async fn add_token(&self, token: &str, user: &str, ttl: Duration) {
        let token = Token {
            id: Id::fresh(self.now()),
            user: user.to_owned(),
            token: token.to_owned(),
            expiry: self.now().plus(ttl),
            metadata: Default::default(),
            service: false,
        };
        self.insert(&token).await;
    }

    /// An action `pack.name` of a runner without parameters of its own.
    pub async fn action(&self, pack: &str, name: &str, runner: &str, parameters: Value) {
        let runner_type: RunnerType = serde_json::from_value(json!({
            "id": Id::of_content(runner.as_bytes()), "uid": format!("runner_type:{runner}"), "name": runner,
            "runner_module": runner,
        }))
        .unwrap();
        self.insert(&runner_type).await;
        let action: Action = serde_json::from_value(json!({
            "id": Id::of_content(format!("{pack}.{name}").as_bytes()), "uid": Action::uid_of(pack, name),
            "ref": format!("{pack}.{name}"), "pack": pack, "name": name, "runner_type": runner,
            "parameters": parameters,
        }))
        .unwrap();
        self.insert(&action).await;
    }

    /// As `st2admin`.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request =
            self.client.request(method, format!("{}{path}", self.api)).header("X-Auth-Token", &self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Stops it and waits until it has stopped.
    pub async fn stop(&mut self) {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task.take().unwrap()).await.unwrap().unwrap();
    }
}
