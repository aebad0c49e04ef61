//! The bytes that stream clients read.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Event};
use domain::executions::{Outcome, append_output, claim, finish};
use model::{Claim, Execution, Id, OutputType, RunnerInfo, Status, Versioned};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use store::StoreExt;

use super::support::Server;

/// Reads until the text holds `until`, or to the end.
struct Reader(Response, String);

impl Reader {
    async fn open(server: &Server, path: &str) -> Self {
        let request = server.client.get(format!("{}{path}", server.stream)).header("X-Auth-Token", &server.token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=UTF-8");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self(response, String::new())
    }

    async fn until(&mut self, what: &str) -> &str {
        let read = async {
            while !self.1.contains(what) {
                match self.0.chunk().await.unwrap() {
                    Some(bytes) => self.1.push_str(std::str::from_utf8(&bytes).unwrap()),
                    None => panic!("ended before {what:?}: {}", self.1),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap_or_else(|_| panic!("no {what:?}: {}", self.1));
        &self.1
    }

    async fn rest(mut self) -> String {
        let read = async {
            while let Some(bytes) = self.0.chunk().await.unwrap() {
                self.1.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
        self.1
    }
}

/// Names of the events, without heartbeats.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

async fn run(server: &Server) -> Versioned<Execution> {
    let made = server.post("/v1/executions", json!({"action": "acme.say"})).await.json();
    let id: Id = made["id"].as_str().unwrap().parse().unwrap();
    let execution = server.services.store.read::<Execution>(id).await.unwrap().unwrap();
    let by = Claim { node: "n".to_owned(), session: 1 };
    let info = RunnerInfo { hostname: "h".to_owned(), pid: 1 };
    (*claim(&server.services, &execution, by, info).await.unwrap()).clone()
}

async fn succeed(server: &Server, execution: &Versioned<Execution>) {
    let outcome = Outcome { status: Status::Succeeded, result: json!({"ok": true}), context: Default::default() };
    finish(&server.services, execution, outcome).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_framed_filtered_and_ended() {
    let server = Server::start().await;
    server.action("acme", "say", "noop", json!({})).await;
    let mut all = Reader::open(&server, "/v1/stream").await;
    all.until("\n").await;
    assert!(all.1.starts_with('\n'));
    let mut other = Reader::open(&server, "/v1/stream?action_refs=core.other").await;
    other.until("\n").await;
    let mut announcements = Reader::open(&server, "/stream?events=st2.announcement__*").await;
    announcements.until("\n").await;

    let execution = run(&server).await;
    let ending = format!("/v1/stream?end_event=st2.execution__update&end_execution_id={}", execution.id);
    let mut ending = Reader::open(&server, &ending).await;
    ending.until("\n").await;
    succeed(&server, &execution).await;
    server.bus.announce(Arc::new(Event::Announcement {
        route: "chatops".to_owned(),
        payload: json!({"channel": "x"}),
        trace_context: None,
    }));

    let text = all.until("announcement__chatops").await.to_owned();
    let seen = names(&text);
    assert_eq!(seen[..2], ["st2.liveaction__create", "st2.execution__create"]);
    assert_eq!(seen[seen.len() - 3..seen.len() - 1], ["st2.liveaction__update", "st2.execution__update"]);
    for frame in text.trim_start_matches('\n').split("\n\n").filter(|frame| !frame.trim().is_empty()) {
        let frame = frame.trim_start_matches('\n');
        let (event, data) = frame.split_once('\n').unwrap();
        assert!(event.starts_with("event: "), "{frame}");
        let Some(Ok(body)) = data.strip_prefix("data: ").map(serde_json::from_str::<Value>) else { continue };
        if event.contains("liveaction") {
            assert!(body["result"].is_string());
        }
    }
    let ended = ending.rest().await;
    assert_eq!(names(&ended).last(), Some(&"st2.execution__update"));
    assert_eq!(
        announcements.until("}\n\n").await.trim_start_matches('\n'),
        "event: st2.announcement__chatops\ndata: {\"payload\":{\"channel\":\"x\"},\"trace_context\":null}\n\n"
    );
    // Nothing but heartbeats for the one who asked for another action.
    other.until("\n\n").await;
    assert!(names(&other.1).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_replayed_and_followed_without_gap_or_repetition() {
    let server = Server::start().await;
    server.action("acme", "say", "noop", json!({})).await;
    let execution = run(&server).await;
    let chunk = |n: u64| (if n % 5 == 4 { OutputType::Stderr } else { OutputType::Stdout }, format!("line {n}\n"));
    for n in 0..450 {
        append_output(&server.services, &execution, n, vec![chunk(n)]).await.unwrap();
    }
    let path = format!("/v1/executions/{}/output", execution.id);
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(Reader::open(&server, &path).await);
    }
    let errors = Reader::open(&server, &format!("{path}?output_type=stderr")).await;
    for n in 450..600 {
        append_output(&server.services, &execution, n, vec![chunk(n)]).await.unwrap();
    }
    succeed(&server, &execution).await;
    readers.push(Reader::open(&server, &path).await);
    for reader in readers {
        let text = reader.rest().await;
        assert!(text.ends_with("event: EOF\ndata: ''\n\n"), "{}", &text[text.len() - 100..]);
        let lines: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: {"))
            .map(|rest| serde_json::from_str::<Value>(&format!("{{{rest}")).unwrap())
            .map(|body| body["data"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<String> = (0..600).map(|n| format!("line {n}\n")).collect();
        assert_eq!(lines, expected);
    }
    assert_eq!(names(&errors.rest().await).len(), 120 + 1);
    let plain = server.get(&format!("{path}?output_type=stdout")).await;
    assert_eq!((plain.header("content-type"), plain.text.lines().count()), (Some("text/plain; charset=UTF-8"), 480));
    let unknown = server.call(Method::GET, "/v1/executions/000000000000000000000000/output", None).await;
    assert_eq!(unknown.status, 404);
}

fn announce(server: &Server, route: &str) {
    let event = Event::Announcement { route: route.to_owned(), payload: json!({}), trace_context: None };
    server.bus.announce(Arc::new(event));
}

/// The ids of the events.
fn ids(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_it_missed() {
    let server = Server::start().await;
    server.action("acme", "say", "noop", json!({})).await;
    let mut plain = Reader::open(&server, "/v1/stream").await;
    let mut first = Reader::open(&server, "/v1/stream?ids=true").await;
    plain.until("\n").await;
    first.until("\n").await;
    announce(&server, "one");
    first.until("one\n").await;
    let seen = ids(first.until("}\n\n").await);
    assert_eq!(seen.len(), 1);
    drop(first);
    announce(&server, "two");
    let execution = run(&server).await;
    succeed(&server, &execution).await;
    plain.until("\"succeeded\"").await;

    let come_back = async |seen: &str| {
        let request = server.client.get(format!("{}/v1/stream", server.stream)).header("X-Auth-Token", &server.token);
        Reader(request.header("Last-Event-ID", seen).send().await.unwrap(), String::new())
    };
    let mut again = come_back(&seen[0]).await;
    again.until("\"succeeded\"").await;
    announce(&server, "three");
    let text = again.until("three\n").await;
    let wanted: Vec<&str> = names(text).into_iter().filter(|name| name.contains("announcement")).collect();
    assert_eq!(wanted, ["st2.announcement__two", "st2.announcement__three"]);
    assert!(!text.contains("stream__lost"));
    let live = names(&plain.1).len();
    assert!(names(text).len() + 1 >= live, "{text}");
    assert!(ids(&plain.1).is_empty(), "who doesn't ask gets StackStorm's frames");
    let mut unique = ids(text);
    unique.dedup();
    assert_eq!(unique.len(), ids(text).len());

    let mut lost = come_back("whatever").await;
    lost.until("event: st2.stream__lost").await;
}
