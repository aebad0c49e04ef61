//! Chains step by step.

use expr::{KeyAnswer, KeyRequest, KeySource, NoKeys};
use model::{Id, Object, Timestamp};
use serde_json::{Value, json};

use super::{Begin, Chain, Definition, NeedsKeys};
use crate::engine::message::Content;
use crate::engine::{Effect, Order, Report, Wish};
use crate::orquesta::Status;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn object(value: Value) -> Object {
    let Value::Object(fields) = value else { panic!("no mapping: {value}") };
    fields
}

/// A chain, and what it did.
struct Bench {
    chain: Chain,
    orders: Vec<Order>,
    reports: Vec<Report>,
    signals: Vec<Wish>,
}

impl Bench {
    fn with(begin: Begin) -> Self {
        let mut bench =
            Self { chain: Chain::new(begin, NOW), orders: Vec::new(), reports: Vec::new(), signals: Vec::new() };
        let effects = bench.chain.start(&NoKeys, NOW).unwrap();
        bench.note(effects);
        bench
    }

    fn new(definition: Value, parameters: Value) -> Self {
        Self::with(begin(definition, parameters))
    }

    fn note(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Launch(order) => self.orders.push(order),
                Effect::Report(report) => self.reports.push(report),
                Effect::Signal(signal) => self.signals.push(signal.wish),
                Effect::Note(..) => {}
            }
        }
    }

    fn take(&mut self, content: Content) {
        let source = self.orders.last().map_or_else(|| Id::of_content(b"x"), |order| order.id);
        let effects = self.chain.take(source, content, &NoKeys, NOW).unwrap();
        self.note(effects);
    }

    fn ends(&mut self, status: Status, result: Value) {
        self.take(Content::Status { status, result: Some(result) });
    }

    fn wish(&mut self, wish: Wish) {
        self.take(Content::Wish { wish });
    }

    fn names(&self) -> Vec<&str> {
        self.orders.iter().map(|order| order.task.as_str()).collect()
    }

    fn result(&self) -> &Value {
        self.reports.last().unwrap().result.as_ref().unwrap()
    }
}

fn begin(definition: Value, parameters: Value) -> Begin {
    Begin {
        id: Id::of_content(b"workflow"),
        execution: Id::of_content(b"execution"),
        definition: Definition::read(definition).unwrap(),
        parameters: object(parameters),
        context: object(json!({"user": "ana"})),
        parent: object(json!({"execution_id": "e1", "user": "ana"})),
        config: object(json!({"host": "h1"})),
        display_published: true,
        skip_notify: vec!["b".to_owned()],
        notify: Some(json!({"on-complete": {"routes": ["r"]}})),
    }
}

fn two() -> Value {
    json!({
        "vars": {"base": "{{ n }}0"},
        "chain": [
            {"name": "a", "ref": "x.a", "parameters": {"v": "{{ base }}", "e": "{{ action_context.parent.execution_id }}",
             "c": "{{ config_context.host }}"}, "publish": {"got": "{{ a.result }}"}, "on-success": "b", "on-failure": "c"},
            {"name": "b", "ref": "x.b", "parameters": {"v": ["{{ got }}", 1]}, "notify": {"on-failure": {"routes": []}}},
            {"name": "c", "ref": "x.c"},
        ],
    })
}

#[test]
fn one_after_the_other() {
    let mut bench = Bench::new(two(), json!({"n": 4}));
    assert_eq!(bench.chain.status, Status::Running);
    assert_eq!(bench.orders[0].input, json!({"v": "40", "e": "e1", "c": "h1"}));
    assert_eq!(bench.orders[0].chain.as_ref().unwrap().notify, Some(json!({"on-complete": {"routes": ["r"]}})));
    bench.ends(Status::Running, Value::Null);
    bench.ends(Status::Succeeded, json!({"result": 7}));
    assert_eq!(bench.orders[1].input, json!({"v": ["7", 1]}));
    assert_eq!(bench.orders[1].chain.as_ref().unwrap().notify, None, "skipped");
    bench.ends(Status::Succeeded, json!({"result": 8}));
    assert_eq!(bench.names(), ["a", "b"]);
    assert_eq!(bench.chain.status, Status::Succeeded);
    let result = bench.result();
    assert_eq!(result["published"], json!({"got": "7"}));
    assert_eq!(result["tasks"][1]["name"], "b");
    assert_eq!(result["tasks"][1]["state"], "succeeded");
    assert_eq!(result["tasks"][0]["result"], json!({"result": 7}));
    assert!(result.get("error").is_none());
}

#[test]
fn failures_are_handled_or_end_it() {
    let mut handled = Bench::new(two(), json!({"n": 4}));
    handled.ends(Status::Timeout, json!({"result": "late"}));
    assert_eq!(handled.names(), ["a", "c"]);
    handled.ends(Status::Succeeded, json!({}));
    assert_eq!(handled.chain.status, Status::Succeeded);
    let end_of = |status| {
        let mut bench = Bench::new(json!({"chain": [{"name": "a", "ref": "x.a"}]}), json!({}));
        bench.ends(status, json!({}));
        bench.chain.status
    };
    assert_eq!(end_of(Status::Failed), Status::Failed);
    assert_eq!(end_of(Status::Abandoned), Status::Failed);
    assert_eq!(end_of(Status::Timeout), Status::Timeout);
    assert_eq!(end_of(Status::Canceled), Status::Canceled);
}

#[test]
fn what_cannot_go_on_says_why() {
    let node = |more: Value| {
        let mut node = json!({"name": "a", "ref": "x.a"});
        node.as_object_mut().unwrap().extend(object(more));
        json!({"chain": [node]})
    };
    let error = |bench: &Bench| bench.result()["error"].as_str().unwrap().to_owned();
    let vars = Bench::new(json!({"vars": {"v": "{{ no }}"}, "chain": [{"name": "a", "ref": "x.a"}]}), json!({}));
    assert!(error(&vars).starts_with("Failed initializing ``vars`` in chain. "), "{}", error(&vars));
    let bad = Bench::new(node(json!({"parameters": {"p": "{{ no }}"}})), json!({}));
    assert!(
        error(&bad).starts_with(
            "Failed to run task \"a\". Parameter rendering failed.. Failed rendering value for action parameter \"p\" \
             in task \"a\" (template string={{ no }}): "
        ),
        "{}",
        error(&bad)
    );
    let mut unknown = Bench::new(node(json!({"on-failure": "a"})), json!({}));
    unknown.take(Content::Refused { reason: "no".to_owned(), known: false });
    assert_eq!(
        error(&unknown),
        "Failed to run task \"a\". Action with reference \"x.a\" doesn't exist.. Task :: a - Action with ref x.a not \
         registered."
    );
    let mut refused = Bench::new(two(), json!({"n": 1}));
    refused.take(Content::Refused { reason: "bad parameter".to_owned(), known: true });
    assert_eq!(refused.chain.status, Status::Failed, "publishing its result fails");
    let mut lost = Bench::new(node(json!({"on-success": "{{ x }}"})), json!({}));
    lost.ends(Status::Succeeded, json!({}));
    assert_eq!(error(&lost), "Failed to get next node \"{{ x }}\".. Unable to find node with name \"{{ x }}\".");
    assert_eq!(Bench::new(json!({"chain": []}), json!({})).chain.status, Status::Failed);
}

#[test]
fn paused_between_nodes_and_resumed() {
    let mut bench = Bench::new(two(), json!({"n": 1}));
    bench.wish(Wish::Pause);
    assert_eq!((bench.chain.status, bench.signals.len()), (Status::Pausing, 1));
    bench.ends(Status::Succeeded, json!({"result": 1}));
    assert_eq!((bench.chain.status, bench.orders.len()), (Status::Paused, 1));
    bench.wish(Wish::Resume);
    assert_eq!((bench.chain.status, bench.names()), (Status::Running, vec!["a", "b"]));
    bench.wish(Wish::Cancel);
    assert_eq!(bench.chain.status, Status::Canceling);
    bench.ends(Status::Succeeded, json!({}));
    assert_eq!(bench.chain.status, Status::Canceled);
    let shown: Vec<_> = bench.reports.iter().map(|report| report.status).collect();
    let all = [Status::Running, Status::Pausing, Status::Paused, Status::Running, Status::Canceling, Status::Canceled];
    assert_eq!(shown, all);
}

#[test]
fn a_child_that_waits_pauses_it() {
    let mut bench = Bench::new(two(), json!({"n": 1}));
    bench.ends(Status::Pending, Value::Null);
    assert_eq!(bench.chain.status, Status::Paused);
    bench.wish(Wish::Resume);
    assert_eq!(bench.chain.status, Status::Paused, "there is no answer yet");
    bench.ends(Status::Succeeded, json!({"result": 1}));
    assert_eq!((bench.chain.status, bench.names()), (Status::Running, vec!["a", "b"]), "nothing holds it up any more");
    bench.ends(Status::Paused, Value::Null);
    bench.wish(Wish::Resume);
    assert_eq!((bench.chain.status, &bench.signals[..]), (Status::Running, &[Wish::Resume][..]));
    // The answer may also come while a resume is under way.
    let mut other = Bench::new(two(), json!({"n": 1}));
    other.ends(Status::Paused, Value::Null);
    other.wish(Wish::Resume);
    other.ends(Status::Succeeded, json!({"result": 1}));
    assert_eq!(other.names(), ["a", "b"]);
}

#[test]
fn results_of_others_and_of_the_past_are_dropped() {
    let mut bench = Bench::new(two(), json!({"n": 1}));
    let first = bench.orders[0].id;
    bench.ends(Status::Succeeded, json!({"result": 1}));
    let content = Content::Status { status: Status::Failed, result: None };
    assert_eq!(bench.chain.take(first, content, &NoKeys, NOW).unwrap(), []);
    assert_eq!(bench.names(), ["a", "b"]);
}

#[derive(Debug)]
struct Unknown;

impl KeySource for Unknown {
    fn get(&self, _: &KeyRequest) -> KeyAnswer {
        KeyAnswer::Unknown
    }

    fn decrypt(&self, _: &str) -> Result<String, String> {
        Err("no".to_owned())
    }
}

#[test]
fn keys_are_asked_for() {
    let definition = json!({"chain": [{"name": "a", "ref": "x.a", "parameters": {"p": "{{ st2kv.system.k }}"}}]});
    let mut chain = Chain::new(begin(definition, json!({})), NOW);
    let NeedsKeys(keys) = chain.start(&Unknown, NOW).unwrap_err();
    assert_eq!(keys[0].name, "k");
}
