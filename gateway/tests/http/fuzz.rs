//! Random and malformed requests to every endpoint: no 5xx, and nothing of another user's.
//!
//! `SQUALL_TEST_FUZZ_REQUESTS` says how many for each endpoint (10,000 before a release), `SQUALL_TEST_SEED` repeats a run.

use std::sync::Arc;
use std::time::Duration;

use gateway::http::route::{Route, Service};
use rand::prelude::*;
use rand::rngs::StdRng;
use reqwest::{Client, Method, Response};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::rbac;
use super::support::Server;

/// In everything that is the victim's.
const MARK: &str = "V1ct1mMark";
/// The administrator's token.
const ADMIN: &str = "0123456789abcdef0123456789abcdef";
const WORKERS: usize = 4;

/// Texts that are something somewhere, or nothing anywhere.
const TEXTS: [&str; 48] = [
    "",
    "0",
    "1",
    "-1",
    "2147483648",
    "99999999999999999999",
    "1e400",
    "null",
    "None",
    "true",
    "false",
    "id",
    "ref",
    "last",
    "acme",
    "acme.noop",
    "core.local",
    "acme.rule",
    "noop",
    "st2kv.user",
    "st2kv.system",
    "all",
    "user",
    "system",
    "bob",
    "ana",
    "st2admin",
    "bob:k",
    "k",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z..2020-01-01",
    "2026-13-45",
    "*",
    "%",
    "$ne",
    "{}",
    "[]",
    "{{ st2kv.system.k }}",
    "<% $ %>",
    "../../etc/passwd",
    "a\0b",
    "\u{fffd}\u{1f600}",
    "';--",
    "context.user",
    "parameters,result",
    "succeeded",
    "paused",
    "\r\nX: y",
];
/// Names of query parameters and of fields of bodies.
const NAMES: [&str; 64] = [
    "limit",
    "offset",
    "sort",
    "sort_asc",
    "sort_desc",
    "id",
    "name",
    "pack",
    "ref",
    "user",
    "scope",
    "decrypt",
    "prefix",
    "include_attributes",
    "exclude_attributes",
    "show_secrets",
    "status",
    "action",
    "runner",
    "parent",
    "timestamp",
    "timestamp_gt",
    "timestamp_lt",
    "trigger",
    "trigger_type",
    "trigger_instance",
    "rule",
    "rule_ref",
    "types",
    "depth",
    "max_result_size",
    "output_type",
    "output_format",
    "download",
    "compress",
    "enabled",
    "parameters",
    "context",
    "notify",
    "delay",
    "callback",
    "value",
    "secret",
    "encrypted",
    "ttl",
    "metadata",
    "criteria",
    "type",
    "entry_point",
    "runner_type",
    "files",
    "data_files",
    "tags",
    "formats",
    "command",
    "roles",
    "assignments",
    "packs",
    "values",
    "resource_ref",
    "policy_type",
    "response",
    "trace_tag",
    "execution",
];

struct Fuzz {
    rng: StdRng,
    /// Of resources that are there.
    ids: Arc<Vec<String>>,
}

impl Fuzz {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn text(&mut self) -> String {
        match self.rng.random_range(0..10) {
            0..5 => (*TEXTS.choose(&mut self.rng).unwrap()).to_owned(),
            5..7 => self.ids.choose(&mut self.rng).cloned().unwrap_or_default(),
            7 => "x".repeat(self.rng.random_range(1..5000)),
            8 => (0..self.rng.random_range(1..12)).map(|_| self.rng.random::<char>()).collect(),
            _ => format!("{:024x}", self.rng.random::<u128>() >> 32),
        }
    }

    fn encoded(&mut self) -> String {
        if self.one_in(30) {
            return ["%ff", "%", "%zz", "..", ".", "%2e%2e%2f", "%00"].choose(&mut self.rng).unwrap().to_string();
        }
        self.text()
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect()
    }

    fn path(&mut self, route: &Route) -> String {
        let segments = route.pattern.split('/').skip(1).map(|part| match part {
            part if part.ends_with("...}") => {
                (0..self.rng.random_range(1..4)).map(|_| self.encoded()).collect::<Vec<_>>().join("/")
            }
            part if part.starts_with('{') => self.encoded(),
            part => part.to_owned(),
        });
        let mut path = format!("/v1/{}", segments.collect::<Vec<_>>().join("/"));
        for number in 0..self.rng.random_range(0..5) {
            let name =
                if self.one_in(10) { self.encoded() } else { (*NAMES.choose(&mut self.rng).unwrap()).to_owned() };
            path.push(if number == 0 { '?' } else { '&' });
            path.push_str(&format!("{name}={}", self.encoded()));
        }
        path
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.rng.random_range(0..if depth == 0 { 7 } else { 10 }) {
            0 => Value::Null,
            1 => self.rng.random::<bool>().into(),
            2 => (*[0, 1, -1, i64::MAX, i64::MIN, 3_600_000].choose(&mut self.rng).unwrap()).into(),
            3 => (self.rng.random::<f64>() * 1e300).into(),
            4..7 => self.text().into(),
            7 => (0..self.rng.random_range(0..4)).map(|_| self.value(depth - 1)).collect(),
            _ => Value::Object(self.object(depth - 1)),
        }
    }

    fn object(&mut self, depth: u32) -> Map<String, Value> {
        (0..self.rng.random_range(0..8))
            .map(|_| ((*NAMES.choose(&mut self.rng).unwrap()).to_owned(), self.value(depth)))
            .collect()
    }

    /// Often as it should be, with one thing wrong.
    fn body(&mut self, route: &Route) -> Vec<u8> {
        let mut value = match self.rng.random_range(0..8) {
            0 => self.value(3),
            1..4 => Value::Object(self.object(3)),
            _ => rbac::body(route.pattern),
        };
        if let Value::Object(object) = &mut value {
            for _ in 0..self.rng.random_range(0..4) {
                let known = object.keys().choose(&mut self.rng).cloned();
                let name = known
                    .filter(|_| !self.one_in(3))
                    .unwrap_or_else(|| (*NAMES.choose(&mut self.rng).unwrap()).to_owned());
                let value = self.value(3);
                object.insert(name, value);
            }
        }
        let mut bytes = value.to_string().into_bytes();
        match self.rng.random_range(0..20) {
            0 => bytes.truncate(self.rng.random_range(0..=bytes.len())),
            1 => bytes = "[".repeat(self.rng.random_range(1..20_000)).into_bytes(),
            2 => {
                for _ in 0..5 {
                    if let Some(byte) = bytes.choose_mut(&mut self.rng) {
                        *byte = self.rng.random();
                    }
                }
            }
            3 => bytes = self.text().into_bytes(),
            _ => {}
        }
        bytes
    }

    fn headers(&mut self) -> Vec<(&'static str, String)> {
        const GIVEN: [(&str, &[&str]); 11] = [
            ("If-Match", &["*", "\"1\"", "W/\"1\"", "x", ""]),
            ("If-None-Match", &["*", "\"1\"", ","]),
            ("Idempotency-Key", &["", "k", "k2", "\"q\"", "é"]),
            ("X-Request-ID", &["", "a b", "x"]),
            ("Accept-Encoding", &["gzip", "br;q=0, gzip;q=x", "*"]),
            ("st2-context", &["{}", "{\"user\": \"bob\"}", "[", "1", "{\"parent\": {\"user\": \"bob\"}}"]),
            ("St2-Trace-Tag", &["t", "", "é"]),
            ("Origin", &["null", "http://x", "*"]),
            ("Last-Event-ID", &["0", "-1", "x", "99999999999999999999"]),
            ("Authorization", &["Basic", "Basic !!!", "Bearer x", "Basic YW5hOng=", ""]),
            ("X-Forwarded-User", &["bob", "st2admin"]),
        ];
        let mut headers = Vec::new();
        for (name, values) in GIVEN {
            if self.one_in(8) {
                headers.push((name, (*values.choose(&mut self.rng).unwrap()).to_owned()));
            }
        }
        let kinds =
            ["application/json", "application/x-www-form-urlencoded", "text/plain", "application/yaml", "x", ""];
        let kind = if self.one_in(6) { *kinds.choose(&mut self.rng).unwrap() } else { kinds[0] };
        headers.push(("Content-Type", kind.to_owned()));
        headers
    }
}

/// What the victim has; ids of it, and of what everybody may see.
async fn victim(server: &Server) -> Vec<String> {
    let texts = json!({"text": {"type": "string"}, "hidden": {"type": "string", "secret": true}});
    server.action("acme", "says", "noop", texts).await;
    for trigger_type in content::builtin::trigger_types(server.now()) {
        server.insert(&trigger_type).await;
    }
    let mut ids = Vec::new();
    let made = [
        (
            Method::POST,
            "/v1/executions",
            json!({"action": "acme.says", "parameters": {"text": MARK, "hidden": MARK},
            "context": {"note": MARK, "trace_context": {"trace_tag": MARK}}}),
        ),
        (Method::PUT, "/v1/keys/k?scope=user", json!({"name": "k", "value": MARK, "scope": "st2kv.user"})),
        (Method::PUT, "/v1/keys/s?scope=user", json!({"name": "s", "value": MARK, "scope": "user", "secret": true})),
        (Method::POST, "/v1/apikeys", json!({"metadata": {"note": MARK}})),
        (
            Method::POST,
            "/v1/rules",
            json!({"pack": "acme", "name": "rule", "description": MARK, "enabled": false,
            "trigger": {"type": "core.st2.webhook", "parameters": {"url": "deploy"}}, "criteria": {},
            "action": {"ref": "acme.says", "parameters": {"text": MARK}}}),
        ),
    ];
    for (method, path, body) in made {
        let answer = rbac::call(server, "bob", method, path, Some(body)).await;
        assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text);
        ids.extend(answer.json()["id"].as_str().map(str::to_owned));
    }
    let own = rbac::call(server, "ana", Method::POST, "/v1/executions", Some(json!({"action": "acme.says"}))).await;
    ids.push(own.json()["id"].as_str().unwrap().to_owned());
    ids
}

/// What an answer holds, as far as it came: streams don't end.
async fn read(mut response: Response, endless: bool) -> String {
    let mut text = format!("{:?}\n", response.headers());
    let patience = if endless { Duration::from_millis(20) } else { Duration::from_secs(20) };
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(patience, response.chunk()).await {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    text
}

/// One route's requests; what was wrong with the answers.
async fn ask(client: Client, base: String, token: String, route: Route, mut fuzz: Fuzz, requests: u64) -> Vec<String> {
    let endless = route.service == Service::Stream || route.pattern.ends_with("/output");
    let may_see = token == ADMIN;
    let mut wrong = Vec::new();
    for _ in 0..requests {
        let path = fuzz.path(&route);
        let token = if fuzz.one_in(20) { fuzz.encoded() } else { token.clone() };
        let body = fuzz.body(&route);
        let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        let mut request = client.request(route.method.clone(), format!("{base}{path}"));
        if route.method != Method::GET {
            request = request.body(body);
        }
        for (name, value) in fuzz.headers() {
            request = request.header(name, value);
        }
        let response = match request.header("X-Auth-Token", token).send().await {
            Ok(response) => response,
            // Some paths can't be sent.
            Err(error) if error.is_builder() => continue,
            Err(error) => {
                wrong.push(format!("{} {path}: {error}", route.method));
                continue;
            }
        };
        let status = response.status().as_u16();
        let text = read(response, endless).await;
        // The engine isn't part of these tests' server.
        let expected = status == 503 && text.contains("The workflow engine is not available.");
        if (status >= 500 && !expected) || (!may_see && text.contains(MARK)) {
            wrong.push(format!("{} {path} {shown}: {status} {}", route.method, &text[..text.len().min(2000)]));
        }
    }
    wrong
}

async fn all_routes(
    server: &Server,
    token: &str,
    ids: &Arc<Vec<String>>,
    seed: u64,
    requests: u64,
    wanted: impl Fn(&Route) -> bool,
) -> Vec<String> {
    let (mut running, mut wrong) = (JoinSet::new(), Vec::new());
    for (number, route) in gateway::table::routes().into_iter().enumerate().filter(|(_, route)| wanted(route)) {
        let base = match route.service {
            Service::Auth => &server.auth,
            Service::Api => &server.api,
            Service::Stream => &server.stream,
        };
        let fuzz = Fuzz { rng: StdRng::seed_from_u64(seed ^ number as u64), ids: ids.clone() };
        let requests = if route.service == Service::Stream { requests.min(100) } else { requests };
        running.spawn(ask(server.client.clone(), base.clone(), token.to_owned(), route, fuzz, requests));
        if running.len() >= WORKERS {
            wrong.extend(running.join_next().await.unwrap().unwrap());
        }
    }
    wrong.extend(running.join_all().await.into_iter().flatten());
    wrong
}

/// Heads that are no HTTP: refused, and the next connection is served.
async fn no_http(server: &Server, fuzz: &mut Fuzz, requests: u64) {
    let authority = server.api.strip_prefix("http://").unwrap();
    for _ in 0..requests {
        let mut bytes =
            b"GET /v1/actions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"
                .to_vec();
        for _ in 0..fuzz.rng.random_range(1..20) {
            let place = fuzz.rng.random_range(0..bytes.len());
            bytes[place] = fuzz.rng.random();
        }
        let mut stream = TcpStream::connect(authority).await.unwrap();
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
        let mut answer = Vec::new();
        drop(tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await);
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{bytes:?}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(server.get("/v1/actions?limit=1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_breaks_and_nothing_leaks() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = variable("SQUALL_TEST_SEED").unwrap_or_else(rand::random);
    let requests = variable("SQUALL_TEST_FUZZ_REQUESTS").unwrap_or(200);
    println!("SQUALL_TEST_SEED={seed}, {requests} requests for each endpoint");
    let server = rbac::server(true).await;
    let ids = Arc::new(victim(&server).await);
    let mut fuzz = Fuzz { rng: StdRng::seed_from_u64(seed), ids: ids.clone() };
    no_http(&server, &mut fuzz, requests).await;
    let mut wrong = all_routes(&server, &rbac::token("ana"), &ids, seed, requests, |_| true).await;
    wrong.extend(all_routes(&server, "", &ids, seed, requests.div_ceil(4), |_| true).await);
    let leaks = wrong.len();
    // An administrator sees everything, and breaks nothing either; what takes the role away comes last.
    let requests = requests.div_ceil(2);
    for last in [false, true] {
        let wanted = |route: &Route| (route.pattern == "/rbac/definitions") == last;
        wrong.extend(all_routes(&server, ADMIN, &ids, !seed, requests, wanted).await);
    }
    assert!(
        wrong.is_empty(),
        "SQUALL_TEST_SEED={seed}: {} wrong, {leaks} of them as others\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}
