//! What monitoring systems get from a real node: metrics, and a trace from an event to the task it ended in.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Node, NodeOptions, eventually};
use prost::Message;
use serde_json::{Value, json};
use telemetry::names::METRICS;
use telemetry::otlp::{ExportTraceServiceRequest, Span};

/// A collector that keeps what it is sent.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    /// Answers the first requests with `refusals`, all others with 200.
    fn start(refusals: &'static [u16]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        let (spans, requests) = (Arc::<Mutex<Vec<Span>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (kept, heads) = (spans.clone(), requests.clone());
        std::thread::spawn(move || {
            let mut refusals = refusals.iter();
            for stream in listener.incoming().flatten() {
                // one request per connection, one connection after the other: enough for one node
                let status = refusals.next().copied().unwrap_or(200);
                if let Err(error) = answer(stream, status, &kept, &heads) {
                    eprintln!("collector: {error:#}");
                }
            }
        });
        Ok(Self { address, spans, requests })
    }

    fn find(&self, name: &str) -> Option<Span> {
        held(&self.spans).iter().find(|span| span.name == name).cloned()
    }
}

/// What a thread that panicked left is still worth a look.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(stream: TcpStream, status: u16, spans: &Mutex<Vec<Span>>, heads: &Mutex<Vec<String>>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    held(heads).push(head);
    if status == 200 {
        let request = ExportTraceServiceRequest::decode(body.as_slice())?;
        let found = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        held(spans).extend(found);
    }
    let mut stream = reader.into_inner();
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(())
}

fn value<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.as_text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_the_event_to_the_task() -> Result<()> {
    let collector = Collector::start(&[503])?;
    let options = NodeOptions {
        env: vec![
            ("SQUALL_TELEMETRY__OTLP_ENDPOINT".to_owned(), collector.address.clone()),
            ("SQUALL_TELEMETRY__OTLP_HEADERS__X_KEY".to_owned(), "k".to_owned()),
        ],
    };
    let node = Node::start_with(options).await?;
    let api = node.admin().await?;
    let rule = json!({
        "name": "traced", "pack": "examples", "enabled": true,
        "trigger": {"type": "core.st2.webhook", "parameters": {"url": "traced"}},
        "action": {"ref": "examples.orquesta-basic", "parameters": {"cmd": "echo traced"}},
    });
    api.post("/v1/rules", &rule).await?;
    api.post("/v1/webhooks/traced", &json!({"secret": "not-for-traces"})).await?;
    let workflow = eventually("the workflow's span", Duration::from_secs(60), || async {
        collector.find("examples.orquesta-basic")
    })
    .await;
    let task = collector.spans.lock().unwrap().iter().find(|span| span.name.starts_with("task ")).cloned();
    let task = task.context("no span of a task")?;
    let rule =
        eventually("the rule's span", Duration::from_secs(10), || async { collector.find("rule examples.traced") })
            .await;
    let event = {
        let spans = collector.spans.lock().unwrap();
        spans.iter().find(|span| span.span_id == rule.parent_span_id).cloned().context("no span of the event")?
    };
    ensure!(event.name.starts_with("event ") && event.parent_span_id.is_empty(), "{event:?}");
    assert_eq!(workflow.parent_span_id, rule.span_id);
    assert_eq!(task.parent_span_id, workflow.span_id);
    for span in [&event, &rule, &workflow, &task] {
        assert_eq!(span.trace_id, event.trace_id, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
    }
    assert!(workflow.start_time_unix_nano <= task.start_time_unix_nano);
    assert!(task.end_time_unix_nano <= workflow.end_time_unix_nano);
    assert_eq!(value(&workflow, "squall.status"), Some("succeeded"));
    let statuses: Vec<&str> = task.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(statuses, ["requested", "scheduled", "running", "succeeded"]);
    let shown = format!("{:?}", collector.spans.lock().unwrap());
    ensure!(!shown.contains("not-for-traces") && !shown.contains("echo traced"), "a payload is in a trace");
    let heads = collector.requests.lock().unwrap().clone();
    ensure!(heads.len() > 1 && heads[0].starts_with("POST /v1/traces "), "{heads:?}");
    Ok(())
}

/// The value of a metric with these labels in any order.
fn sample(text: &str, name: &str, label: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(label) && !line.starts_with('#'))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_of_every_stage_and_have_documented_names() -> Result<()> {
    let node = Node::start_with(NodeOptions {
        env: vec![("SQUALL_TELEMETRY__METRICS_TOKEN".to_owned(), "scrape-me".to_owned())],
    })
    .await?;
    let api = node.admin().await?;
    for (action, parameters) in [("core.noop", json!({})), ("core.local", json!({"cmd": "exit 3"}))] {
        let started = api.post("/v1/executions", &json!({"action": action, "parameters": parameters})).await?;
        let path = format!("/v1/executions/{}", started["id"].as_str().context("an id")?);
        eventually("the execution ends", Duration::from_secs(30), || async {
            let found = api.get(&path).await.ok()?;
            found.get("end_timestamp").and_then(Value::as_str).map(|_| ())
        })
        .await;
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/metrics", node.base);
    assert_eq!(client.get(&url).send().await?.status(), 401);
    let answer = client.get(&url).bearer_auth("scrape-me").send().await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let text = answer.text().await?;
    for stage in ["schedule", "claim", "start", "run", "total"] {
        let count = sample(&text, "squall_execution_stage_seconds_count", &format!("stage=\"{stage}\""));
        assert!(count.is_some_and(|count| count >= 2.0), "{stage}: {count:?}\n{text}");
    }
    let ended = |status: &str| sample(&text, "squall_executions_completed_total", &format!("status=\"{status}\""));
    assert!(ended("succeeded") >= Some(1.0) && ended("failed") == Some(1.0), "{text}");
    assert_eq!(sample(&text, "squall_dependency_up", "dependency=\"store\""), Some(1.0));
    assert_eq!(sample(&text, "squall_executions_running", ""), Some(0.0));
    assert!(sample(&text, "squall_http_requests_total", "method=\"POST\"") >= Some(1.0));
    assert!(sample(&text, "squall_process_resident_bytes", "") > Some(1e6));
    let named: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    for name in named {
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name} isn't documented");
    }
    Ok(())
}

/// The node's warm interpreters.
fn zygotes(node: u32) -> Vec<i32> {
    let ours = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (parent == node && command.split('\0').any(|word| word == "zygote")).then_some(pid)
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| ours(entry.file_name().to_str()?.parse().ok()?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_interpreter_is_counted_and_nobody_else_sees_it() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let run = || async {
        let id = api.run("core.uuid", json!({})).await?;
        let ended = api.finished(&id, Duration::from_secs(30)).await;
        ensure!(ended["status"] == "succeeded", "{ended}");
        Ok(())
    };
    run().await?;
    let before = zygotes(node.pid().context("a pid")?);
    ensure!(!before.is_empty(), "no warm interpreter");
    for pid in &before {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL)?;
    }
    run().await?;
    let lost = f64::from(u32::try_from(before.len())?);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/metrics", node.base);
    eventually("the loss is counted", Duration::from_secs(10), || async {
        let text = client.get(&url).send().await.ok()?.text().await.ok()?;
        let warm = sample(&text, "squall_python_starts_total", "kind=\"warm\"")? >= 2.0;
        (warm && sample(&text, "squall_python_interpreters_lost_total", "")? >= lost).then_some(())
    })
    .await;
    Ok(())
}
