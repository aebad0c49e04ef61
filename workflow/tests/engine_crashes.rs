//! The engine under kill -9 at the named points, several times in a row, on both databases (W1, E1, E2): a workflow
//! always comes to its end, each task is launched once, each result is used once. What is killed where comes from a
//! seed, which a failure prints; `SQUALL_CRASH_SEED` replays it, `SQUALL_CRASH_SEEDS` says how many there are.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use expr::KeyRequest;
use model::{Clock as _, Id, Object, SystemClock};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use support::postgres::Schema;
use workflow::contract::{Factory as _, id};
use workflow::engine::{Answers, Begin, Engine, Host, HostError, Launched, Options, Order, Report, Signal, message};
use workflow::orquesta::expression::Expressions;
use workflow::orquesta::language::Language;
use workflow::orquesta::{Document, Status};
use workflow::postgres::{PostgresOptions, PostgresState};
use workflow::sqlite::{SqliteOptions, SqliteState};
use workflow::{WorkflowState, failpoint};

/// Tells the test binary, run anew, to be the engine that is killed: `sqlite PATH` or `postgres URL SCHEMA`.
const PLACE: &str = "WORKFLOW_TEST_ENGINE";
/// Where its executions lie.
const FOLDER: &str = "WORKFLOW_TEST_FOLDER";
const ITEMS: usize = 9;

const DEFINITION: &str = "
input: [list]
tasks:
  a: {action: x.y, next: [{when: <% succeeded() %>, publish: [{p: <% result() %>}], do: 'b, c'}]}
  b: {action: x.y, input: {v: <% ctx(p) %>}, retry: {count: 2}, next: [{do: j}]}
  c:
    with: {items: <% ctx(list) %>, concurrency: 3}
    action: x.y
    input: {v: <% item() %>}
    next: [{publish: [{all: <% result() %>}], do: j}]
  j: {join: all, next: [{when: <% succeeded() %>, do: k}]}
  k: {action: x.y, next: [{when: <% failed() %>, do: noop}]}
output:
  - p: <% ctx(p) %>
  - all: <% ctx(all) %>
";

async fn open(place: &str) -> Arc<dyn WorkflowState> {
    let words: Vec<&str> = place.split(' ').collect();
    match words.as_slice() {
        ["sqlite", path] => Arc::new(SqliteState::open(SqliteOptions::new(path)).await.unwrap()),
        ["postgres", url, schema] => {
            let mut options = PostgresOptions::new(*url);
            options.schema = (*schema).to_owned();
            Arc::new(PostgresState::open(options).await.unwrap())
        }
        _ => panic!("{place}"),
    }
}

/// Executions and reports as files: they outlive who made them.
#[derive(Debug)]
struct Files(PathBuf);

impl Files {
    /// Insert if absent; what is there has to be the same.
    fn put(&self, kind: &str, name: &str, value: &Value) {
        let folder = self.0.join(kind);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        match std::fs::read(&file) {
            Ok(known) => assert_eq!(serde_json::from_slice::<Value>(&known).unwrap(), *value, "{kind} {name}"),
            Err(_) => {
                let draft = folder.join(format!(".{name}"));
                std::fs::write(&draft, value.to_string()).unwrap();
                std::fs::rename(draft, file).unwrap();
            }
        }
    }

    fn all(&self, kind: &str) -> BTreeMap<String, Value> {
        let entries = std::fs::read_dir(self.0.join(kind)).into_iter().flatten().flatten();
        let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
        let kept = named.filter(|(name, _)| !name.starts_with('.'));
        kept.map(|(name, path)| (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())).collect()
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        self.0.join(kind).join(name).exists()
    }
}

#[async_trait]
impl Host for Files {
    async fn launch(&self, _: Id, order: &Order) -> Result<Launched, HostError> {
        self.put("orders", &order.id.to_string(), &json!(order));
        Ok(Launched::Requested)
    }

    async fn report(&self, _: Id, report: &Report) -> Result<(), HostError> {
        let kind = if report.status.is_completed() { "ends" } else { "reports" };
        // A report that is repeated says the same.
        self.put(kind, &report.status.to_string(), &json!({"status": report.status, "result": report.result}));
        Ok(())
    }

    async fn signal(&self, _: Id, _: &Signal) -> Result<(), HostError> {
        Ok(())
    }

    async fn result(&self, execution: Id) -> Result<Value, HostError> {
        Err(HostError(format!("the result of {execution} was in its message")))
    }

    fn expressions(&self, _: Answers) -> Box<dyn Expressions> {
        Box::new(Language::default())
    }

    fn keys(&self, _: Answers) -> Box<dyn expr::KeySource> {
        Box::new(expr::NoKeys)
    }

    async fn fetch_keys(&self, _: &Object, _: &[KeyRequest]) -> Result<Answers, HostError> {
        Ok(Answers::new())
    }
}

/// What an execution ends with; the first two runs of `b` and the only one of `k` fail.
fn outcome(order: &Order, files: &Files) -> (Status, Value) {
    let orders = files.all("orders").into_values().map(|order| serde_json::from_value::<Order>(order).unwrap());
    let before = orders.filter(|other| other.task == order.task && other.at < order.at).count();
    match order.task.as_str() {
        "b" if before < 2 => (Status::Failed, json!("boom")),
        "k" => (Status::Failed, json!("no")),
        "c" => (Status::Succeeded, order.input["v"].clone()),
        _ => (Status::Succeeded, json!("ok")),
    }
}

fn begin() -> Begin {
    let Value::Object(inputs) = json!({"list": (0..ITEMS).collect::<Vec<_>>()}) else { unreachable!() };
    let document = Document::load(DEFINITION).unwrap();
    Begin { id: id(1), execution: id(2), document, context: Object::new(), inputs }
}

/// Begins the workflow and works on it until it has ended, each result delivered once or twice.
async fn run(state: &Arc<dyn WorkflowState>, files: &Arc<Files>) {
    let options = Options { hold: Duration::from_millis(50), look_every: Duration::from_millis(20), cached: 4 };
    let engine = Engine::new(state.clone(), files.clone(), Arc::new(SystemClock), options);
    let deadline = Instant::now() + Duration::from_secs(60);
    engine.begin(begin()).await.unwrap();
    while files.all("ends").is_empty() {
        assert!(Instant::now() < deadline, "stuck: {:?}", files.all("orders").keys());
        while engine.round().await.unwrap() {}
        let mut idle = true;
        for (name, order) in files.all("orders") {
            if files.has("done", &name) {
                continue;
            }
            idle = false;
            let order: Order = serde_json::from_value(order).unwrap();
            // It ends once with one result, however often that is told.
            if !files.has("results", &name) {
                let (status, result) = outcome(&order, files);
                files.put("results", &name, &json!([status, result]));
            }
            let ended = files.all("results").remove(&name).unwrap();
            let (status, result): (Status, Value) = serde_json::from_value(ended).unwrap();
            let message = message::status(order.id, 1, status, Some(&result), SystemClock.now());
            engine.deliver(id(1), std::slice::from_ref(&message)).await.unwrap();
            if name.ends_with(['0', '4', '8', 'c']) {
                engine.deliver(id(1), &[message]).await.unwrap();
            }
            files.put("done", &name, &json!(true));
        }
        if idle {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Not a test by itself.
#[tokio::test]
async fn child_that_is_killed() {
    let (Ok(place), Ok(folder)) = (std::env::var(PLACE), std::env::var(FOLDER)) else { return };
    run(&open(&place).await, &Arc::new(Files(folder.into()))).await;
}

/// Everything came to its end, once.
async fn check(state: &dyn WorkflowState, files: &Files, seed: u64) {
    let ends = files.all("ends");
    assert_eq!(ends.len(), 1, "seed {seed}: {ends:?}");
    let list: Vec<usize> = (0..ITEMS).collect();
    let wanted = json!({"status": "succeeded", "result": {"output": {"p": "ok", "all": list}}});
    assert_eq!(ends["succeeded"], wanted, "seed {seed}");
    let orders: Vec<Order> =
        files.all("orders").into_values().map(|order| serde_json::from_value(order).unwrap()).collect();
    let of = |task: &str| orders.iter().filter(|order| order.task == task).count();
    assert_eq!((of("a"), of("b"), of("c"), of("k"), orders.len()), (1, 3, ITEMS, 1, ITEMS + 5), "seed {seed}");
    let items: BTreeSet<_> = orders.iter().filter_map(|order| order.item).collect();
    assert_eq!(items.len(), ITEMS, "seed {seed}");
    // The log: what was launched and what was used, each once and without gaps.
    let events = state.events(id(1), 0, 10_000).await.unwrap();
    let numbered: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert!(numbered.windows(2).all(|pair| pair[1] == pair[0] + 1), "seed {seed}: {numbered:?}");
    for kind in ["launch", "execution"] {
        let bodies = events.iter().filter(|event| event.kind == kind);
        let ids: Vec<Value> =
            bodies.map(|event| serde_json::from_str::<Value>(&event.body).unwrap()["id"].clone()).collect();
        let once: BTreeSet<String> = ids.iter().map(Value::to_string).collect();
        let ordered: BTreeSet<String> = orders.iter().map(|order| json!(order.id).to_string()).collect();
        assert_eq!((ids.len(), &once), (ordered.len(), &ordered), "seed {seed}: {kind}");
    }
    let head = state.head(id(1)).await.unwrap().unwrap();
    assert_eq!((head.status.as_str(), head.finished.is_some()), ("succeeded", true), "seed {seed}");
    assert!(state.inbox(id(1), 10).await.unwrap().is_empty(), "seed {seed}");
    let tasks =
        state.tasks(id(1), &workflow::TaskQuery { limit: 100, ..workflow::TaskQuery::default() }).await.unwrap();
    assert!(tasks.iter().all(|task| ["succeeded", "failed"].contains(&task.status.as_str())), "seed {seed}: {tasks:?}");
}

async fn survives(place: &str, folder: &Path, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let files = Arc::new(Files(folder.to_owned()));
    let mut killed = 0;
    for _ in 0..random.random_range(1..4) {
        let point = failpoint::ENGINE[random.random_range(0..failpoint::ENGINE.len())];
        let count = random.random_range(1..12);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_is_killed", "--exact"])
            .env(PLACE, place)
            .env(FOLDER, folder)
            .env("SQUALL_FAILPOINT", format!("{point}:{count}"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "seed {seed}, {point}:{count}: {said}");
        killed += u32::from(!output.status.success());
    }
    let state = open(place).await;
    run(&state, &files).await;
    check(&*state, &files, seed).await;
    eprintln!("seed {seed}: killed {killed} times");
    while state.delete(id(1), 1_000).await.unwrap() != workflow::Deletion::Done {}
    state.close().await;
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SQUALL_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SQUALL_CRASH_SEEDS").unwrap_or(5),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_on_sqlite_survives_kills() {
    for seed in seeds() {
        let folder = tempfile::tempdir().unwrap();
        let place = format!("sqlite {}", folder.path().join("workflow.db").display());
        survives(&place, folder.path(), seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_on_postgres_survives_kills() {
    let Some(schema) = Schema::shared().await else { return };
    for seed in seeds() {
        let folder = tempfile::tempdir().unwrap();
        survives(&format!("postgres {} {}", schema.url, schema.name), folder.path(), seed).await;
    }
    schema.clean().await;
}
