//! The durable engine on SQLite: workflows come to their end, whatever is lost or repeated on the way.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use expr::KeyRequest;
use model::{Clock, Id, Object, SystemClock, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use support::sqlite::Database;
use tokio::sync::watch;
use workflow::WorkflowState;
use workflow::engine::{
    Answers, Begin, Engine, Host, HostError, Launched, Options, Order, Report, Signal, Wish, message,
};
use workflow::orquesta::expression::Expressions;
use workflow::orquesta::plain::Plain;
use workflow::orquesta::{Document, Status};

/// Executions, kept in memory; every so many calls fail.
#[derive(Debug, Default)]
struct World {
    orders: Mutex<BTreeMap<Id, Order>>,
    reports: Mutex<Vec<Report>>,
    signals: Mutex<Vec<Signal>>,
    calls: Mutex<u32>,
    fail_every: u32,
}

impl World {
    fn call(&self) -> Result<(), HostError> {
        let mut calls = self.calls.lock();
        *calls += 1;
        if self.fail_every > 0 && calls.is_multiple_of(self.fail_every) {
            return Err(HostError("not now".to_owned()));
        }
        Ok(())
    }

    fn end(&self) -> Option<Report> {
        self.reports.lock().iter().find(|report| report.status.is_completed()).cloned()
    }
}

#[async_trait]
impl Host for World {
    async fn launch(&self, _: Id, order: &Order) -> Result<Launched, HostError> {
        if order.action == "no.such" {
            return Ok(Launched::Refused("Action \"no.such\" cannot be found.".to_owned()));
        }
        let known = self.orders.lock().insert(order.id, order.clone());
        assert!(known.is_none_or(|known| known == *order), "an id was used for two orders");
        // Also when it was done, the caller may not hear of it.
        self.call()?;
        Ok(Launched::Requested)
    }

    async fn report(&self, _: Id, report: &Report) -> Result<(), HostError> {
        assert!(report.revision > 0, "a report has no place among others");
        self.call()?;
        self.reports.lock().push(report.clone());
        Ok(())
    }

    async fn signal(&self, _: Id, signal: &Signal) -> Result<(), HostError> {
        self.signals.lock().push(signal.clone());
        Ok(())
    }

    async fn result(&self, execution: Id) -> Result<Value, HostError> {
        Ok(json!({"of": execution}))
    }

    fn expressions(&self, _: Answers) -> Box<dyn Expressions> {
        Box::new(Plain)
    }

    fn keys(&self, _: Answers) -> Box<dyn expr::KeySource> {
        Box::new(expr::NoKeys)
    }

    async fn fetch_keys(&self, _: &Object, _: &[KeyRequest]) -> Result<Answers, HostError> {
        Ok(Answers::new())
    }
}

fn id(n: u64) -> Id {
    workflow::contract::id(n)
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn begin(text: &str, inputs: Value) -> Begin {
    let Value::Object(inputs) = inputs else { panic!("inputs are a mapping") };
    Begin { id: id(1), execution: id(2), document: Document::load(text).unwrap(), context: Object::new(), inputs }
}

fn engine(state: &Arc<dyn WorkflowState>, world: &Arc<World>, cached: usize) -> Arc<Engine> {
    let options = Options { hold: Duration::from_millis(200), look_every: Duration::from_millis(100), cached };
    Arc::new(Engine::new(state.clone(), world.clone(), Arc::new(SystemClock), options))
}

const DIAMOND: &str = "
input: [list]
tasks:
  a: {action: x.y, next: [{when: <% succeeded() %>, publish: [{p: <% result() %>}], do: 'b, c'}]}
  b: {action: x.y, input: {v: <% ctx(p) %>}, retry: {count: 2}, next: [{do: j}]}
  c:
    with: {items: <% ctx(list) %>, concurrency: 3}
    action: x.y
    input: {v: <% item() %>}
    next: [{publish: [{all: <% result() %>}], do: j}]
  j: {join: all, next: [{when: <% succeeded() %>}]}
output:
  - p: <% ctx(p) %>
  - all: <% ctx(all) %>
";

/// Gives each order its result, in any order, some of them twice, until the workflow has ended.
async fn play(engine: &Engine, world: &World, result: impl Fn(&Order) -> (Status, Value)) -> Report {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut done: BTreeMap<Id, ()> = BTreeMap::new();
    loop {
        if let Some(end) = world.end() {
            return end;
        }
        assert!(Instant::now() < deadline, "stuck: {:?}", world.reports.lock());
        let open: Vec<Order> =
            world.orders.lock().values().filter(|order| !done.contains_key(&order.id)).cloned().collect();
        if open.is_empty() {
            engine.round().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for order in open.into_iter().rev() {
            let (status, result) = result(&order);
            let message = message::status(order.id, 1, status, Some(&result), now());
            engine.deliver(id(1), std::slice::from_ref(&message)).await.unwrap();
            if order.item.is_some_and(|item| item % 2 == 0) {
                engine.deliver(id(1), &[message]).await.unwrap();
            }
            done.insert(order.id, ());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_comes_to_its_end_with_each_result_used_once() {
    for (cached, fail_every) in [(8, 0), (0, 0), (8, 3), (0, 3)] {
        let database = Database::new();
        let state: Arc<dyn WorkflowState> = database.state().await;
        let world = Arc::new(World { fail_every, ..World::default() });
        let engine = engine(&state, &world, cached);
        let list: Vec<u32> = (0..20).collect();
        engine.begin(begin(DIAMOND, json!({"list": list}))).await.unwrap();
        // Twice is once.
        engine.begin(begin(DIAMOND, json!({"list": list}))).await.unwrap();
        let failed = Mutex::new(0);
        let end = play(&engine, &world, |order| match order.task.as_str() {
            "b" if *failed.lock() < 2 => {
                *failed.lock() += 1;
                (Status::Failed, json!("boom"))
            }
            "c" => (Status::Succeeded, order.input["v"].clone()),
            _ => (Status::Succeeded, json!("ok")),
        })
        .await;
        assert_eq!(end.status, Status::Succeeded, "{end:?}");
        assert_eq!(end.result, Some(json!({"output": {"p": "ok", "all": list}})));
        let launched = world.orders.lock().len();
        assert_eq!(launched, 1 + 3 + 20);
        let events = state.events(id(1), 0, 1_000).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == "execution").count(), launched);
        let head = state.head(id(1)).await.unwrap().unwrap();
        assert_eq!(head.status, "succeeded");
        assert!(head.finished.is_some());
        assert!(state.inbox(id(1), 10).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_share_a_workflow() {
    let database = Database::new();
    let state: Arc<dyn WorkflowState> = database.state().await;
    let world = Arc::new(World { fail_every: 7, ..World::default() });
    let (one, two) = (engine(&state, &world, 8), engine(&state, &world, 8));
    let (stop, stopped) = watch::channel(false);
    let loops: Vec<_> = [&one, &two]
        .into_iter()
        .map(|engine| {
            let (engine, stopped) = (engine.clone(), stopped.clone());
            tokio::spawn(async move { engine.run(stopped).await })
        })
        .collect();
    let list: Vec<u32> = (0..40).collect();
    one.begin(begin(DIAMOND, json!({"list": list}))).await.unwrap();
    let end = play(&two, &world, |order| (Status::Succeeded, order.input.get("v").cloned().unwrap_or_default())).await;
    assert_eq!(end.status, Status::Succeeded);
    assert_eq!(end.result.unwrap()["output"]["all"], json!(list));
    stop.send(true).unwrap();
    for task in loops {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_launched_fails_its_task() {
    let database = Database::new();
    let state: Arc<dyn WorkflowState> = database.state().await;
    let world = Arc::new(World::default());
    let engine = engine(&state, &world, 8);
    let text = "tasks:\n  a: {action: no.such, next: [{when: <% failed() %>, do: b}]}\n  b: {action: x.y}\n";
    engine.begin(begin(text, json!({}))).await.unwrap();
    let end = play(&engine, &world, |_| (Status::Succeeded, json!(1))).await;
    assert_eq!(end.status, Status::Succeeded);
    assert_eq!(world.orders.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_waits_for_what_runs_and_a_rerun_goes_on() {
    let database = Database::new();
    let state: Arc<dyn WorkflowState> = database.state().await;
    let world = Arc::new(World::default());
    let engine = engine(&state, &world, 8);
    let text = "tasks:\n  a: {action: x.y, next: [{when: <% succeeded() %>, do: b}]}\n  \
                b: {action: x.y, input: {by: <% ctx(st2) %>}}\n";
    engine.begin(begin(text, json!({}))).await.unwrap();
    let first = world.orders.lock().values().next().cloned().unwrap();
    engine.deliver(id(1), &[message::wish(id(70), Wish::Cancel, now())]).await.unwrap();
    assert_eq!(world.signals.lock().len(), 1);
    assert!(world.end().is_none(), "an execution is under way");
    engine.deliver(id(1), &[message::status(first.id, 1, Status::Failed, Some(&json!("x")), now())]).await.unwrap();
    assert_eq!(world.end().unwrap().status, Status::Canceled);
    world.reports.lock().clear();
    let again = message::Again { task: "a".to_owned(), route: 0, reset_items: false };
    let link = json!({"ref": first.id, "tasks": ["below"]});
    let below = message::Below { task: "a".to_owned(), route: 0, item: None, link: link.clone() };
    let context = json!({"st2": {"action_execution_id": id(3)}}).as_object().cloned().unwrap();
    let rerun = message::Rerun { tasks: Some(vec![again]), below: vec![below], context };
    engine.deliver(id(1), &[message::rerun(id(3), rerun, now())]).await.unwrap();
    let end = play(&engine, &world, |_| (Status::Succeeded, json!(1))).await;
    assert_eq!((end.status, end.execution), (Status::Succeeded, id(3)));
    let orders = world.orders.lock().clone();
    let links: Vec<_> = orders.values().filter_map(|order| order.again.clone()).collect();
    assert_eq!(links, [link], "the task says where the workflow below goes on");
    let seen = orders.values().find(|order| order.task == "b").unwrap();
    assert_eq!(
        seen.input,
        json!({"by": {"action_execution_id": id(3)}}),
        "expressions see the execution that shows the workflow now"
    );
    assert_eq!(state.head_of_execution(id(3)).await.unwrap().unwrap().id, id(1));
}
