//! What StackStorm 3.9 answered about executions, asked again of a real node and compared field by field.
//!
//! Ids, times, process ids and host names are normalised; [`DIFFERENCES`] lists the fields in which
//! we answer otherwise on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Api, Node, NodeOptions, eventually, shared};
use reqwest::Method;
use serde_json::{Value, json};

/// Recordings that can't be compared here, and why.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("018-local-sudo-post", "needs a host with sudo and the system user"),
    ("019-local-sudo-get", "needs a host with sudo and the system user"),
    ("145-list-offset-negative", "a negative offset is the client's error: 400 instead of 500"),
    ("147-list-limit-minus1", "counts executions of earlier recordings"),
    ("149-list-limit-too-big", "lists 1,000 executions of earlier recordings"),
    ("005-secrets-list-masked", "lists what ran on the recorded server before"),
    ("006-executions-no-limit-include-id", "lists what ran on the recorded server before"),
    ("007-rules-no-limit", "lists what the recorded server had"),
    ("008-actions-limit-101", "the recorded server had more actions"),
    ("009-second-user-info", "asked by another user"),
    ("010-second-user-limit-1000", "asked by another user"),
    ("011-second-user-run", "asked by another user"),
    ("020-respond-as-testu", "asked by another user"),
    ("043-cancel-get-right-after", "may have ended by then"),
    ("055-re_run-tasks-unknown-get", "its request was not recorded"),
    ("152-views-filters", "lists what ran on the recorded server before"),
    ("153-views-filters-types", "lists what ran on the recorded server before"),
];

/// Fields that differ, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("021-shell-script-get", ".result.stdout", "prints the address of the API"),
    ("021-shell-script-get", ".result_size", "the address has another length"),
    ("037-python-raise-get", ".result.stderr", "tracebacks begin in the author's code"),
    ("037-python-raise-get", ".result_size", "tracebacks begin in the author's code"),
    ("055-http-refused-get", ".result.error", "the words of another HTTP library"),
    ("055-http-refused-get", ".result.traceback", "there is no Python in the HTTP runner"),
    ("055-http-refused-get", ".result_size", "the words of another HTTP library"),
    ("059-remote-ssh-refused-get", ".result.error", "no login is known either, which is found first"),
    ("059-remote-ssh-refused-get", ".result.traceback", "there is no Python in the SSH runner"),
    ("059-remote-ssh-refused-get", ".result_size", "no login is known either, which is found first"),
    ("014-subworkflow-output", "", "what the engine did is in its log and its picture, not in the output"),
    ("016-fail-get", ".children", "a failed workflow ends with the last of its executions"),
    ("020-output-error-get", ".context.workflow_execution", "a failed execution names its workflow too"),
    ("030-inspection-failure-get", ".context.workflow_execution", "a failed execution names its workflow too"),
    ("034-fail-input-rendering-get", ".context.workflow_execution", "a failed execution names its workflow too"),
    ("036-fail-vars-rendering-get", ".context.workflow_execution", "a failed execution names its workflow too"),
    ("039-resume", ".children", "the next task may have begun"),
    ("051-re_run-tasks-no-reset-get", ".children", "a failed workflow ends with the last of its executions"),
    ("058-inspect-not-yaml", ".faultstring", "the words of another YAML library"),
    ("002-list", "", "the recorded server had more inquiries"),
    ("003-list-noslash", "", "the recorded server had more inquiries"),
    ("005-get-as-execution", ".context.trace_context", "what belongs to a trace names it"),
    ("008-respond-invalid-schema", ".faultstring", "the schema and the instance aren't printed as Python objects"),
    ("009-respond-extra-property", ".faultstring", "the schema and the instance aren't printed as Python objects"),
    ("018-respond-not-permitted-user", ".faultstring", "the user's record isn't printed"),
];

/// Recordings of workflows of the pack `examples`: ours have these names, but other tasks.
const OTHER_WORKFLOWS: &[&str] = &[
    "002-sequential-get",
    "003-sequential-children",
    "004-sequential-children-include",
    "005-sequential-children-depth",
    "006-sequential-list-parent",
    "018-st2-context-get",
    "022-rollback-retry-get",
    "024-task-retry-get",
    "028-output-on-error-get",
    "030-fail-manually-get",
    "030-inspection-failure-get",
    "032-fail-task-publish-get",
    "034-fail-input-rendering-get",
    "036-fail-vars-rendering-get",
    "040-fail-task-transition-get",
    "042-remediate-then-fail-get",
    "044-join-get",
    "046-data-flow-get",
];

/// Whether a difference is meant.
fn is_meant(recording: &str, difference: &str) -> bool {
    let of_another_workflow = || {
        [".result", ".children"].iter().any(|field| difference.starts_with(field))
            || difference.contains(" items instead of ")
    };
    let listed = |field: &str| {
        difference.strip_prefix(field).is_some_and(|rest| rest.starts_with([':', ' ']) || field.is_empty())
    };
    DIFFERENCES.iter().any(|(name, field, _)| *name == recording && listed(field))
        || (OTHER_WORKFLOWS.contains(&recording) && of_another_workflow())
}

/// One recorded exchange.
struct Recording {
    name: String,
    method: Method,
    path: String,
    query: String,
    body: Value,
    status: u16,
    answer: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_answer_as_recorded() -> Result<()> {
    let Some(shared) = shared() else { return Ok(()) };
    let packs = tempfile::tempdir()?;
    copy(&shared.join("data/golden-pack"), &packs.path().join("golden"))?;
    copy(&shared.join("tools/bench-pack"), &packs.path().join("bench"))?;
    let dirs = json!([packs.path()]).to_string();
    let options = NodeOptions { env: vec![("SQUALL_CONTENT__PACKS_DIRS".to_owned(), dirs)] };
    let node = Node::start_with(options).await?;
    let api = node.admin().await?;
    let registered = api.post("/v1/packs/register", &json!({"types": ["all"], "packs": ["golden", "bench"]})).await?;
    println!("registered: {registered}");

    let mut replay = Replay { api, ids: BTreeMap::new(), problems: Vec::new() };
    for group in ["executions", "workflows", "inquiries", "extras"] {
        let recordings = read(&shared.join("data/golden").join(group))?;
        let mut compared = 0;
        for recording in &recordings {
            if let Some((name, reason)) = NOT_COMPARED.iter().find(|(name, _)| *name == recording.name) {
                println!("not compared: {group}/{name}: {reason}");
                continue;
            }
            replay.one(recording).await.with_context(|| format!("{group}/{}", recording.name))?;
            compared += 1;
        }
        println!("{group}: {compared} of {} recordings compared", recordings.len());
    }
    assert!(replay.problems.is_empty(), "{} differ:\n{}", replay.problems.len(), replay.problems.join("\n"));
    Ok(())
}

struct Replay {
    api: Api,
    /// Recorded id → ours.
    ids: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Replay {
    /// Executions that the recorder had requested beside the recorded requests.
    async fn prepare(&mut self, recording: &str) -> Result<()> {
        let (action, parameters, id, runs) = match recording {
            "030-params-secret-show_secrets" => {
                ("golden.params", json!({"s": "q", "secret": "topsecret"}), "6b039712a25c725e0ace845b", false)
            }
            "112-get-running" => ("core.local", json!({"cmd": "sleep 30"}), "6b039727a25c725e0ace84ab", true),
            "120-cancel-python" => ("golden.py_sleep", json!({"n": 30}), "6b039728a25c725e0ace84b0", true),
            "033-running-get" => ("golden.wf_pause", json!({}), "6b039746a25c725e0ace84d7", true),
            "042-cancel" => ("golden.wf_sleep", json!({}), "6b03974aa25c725e0ace84da", true),
            "046-cancel-by-put" => ("golden.wf_sleep", json!({}), "6b039753a25c725e0ace84dd", true),
            "001-workflow-paused" => ("golden.wf_ask", json!({}), "6b039a04a25c725e0ace8f33", false),
            "004-get" => return self.find_inquiry().await,
            "050-re_run-tasks-no-reset" => {
                let before = self.ids["6b03975ca25c725e0ace84e0"].clone();
                self.api.finished(&before, Duration::from_secs(60)).await;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let requested = self.api.run(action, parameters).await?;
        if runs {
            self.running(&requested).await;
        }
        self.ids.insert(id.to_owned(), requested);
        Ok(())
    }

    /// The one inquiry that waits.
    async fn find_inquiry(&mut self) -> Result<()> {
        let waiting = self.api.get("/v1/inquiries").await?;
        let id = waiting[0]["id"].as_str().context("no inquiry waits")?;
        self.ids.insert("6b039a04f37ffc487be013ab".to_owned(), id.to_owned());
        Ok(())
    }

    async fn running(&self, id: &str) {
        eventually("it runs", Duration::from_secs(20), || async {
            let execution = self.api.get(&format!("/v1/executions/{id}")).await.ok()?;
            let begun = execution["action"]["runner_type"] != "orquesta" || execution["children"].is_array();
            (execution["status"] == "running" && begun).then_some(())
        })
        .await;
    }

    async fn one(&mut self, recording: &Recording) -> Result<()> {
        self.prepare(&recording.name).await?;
        let mut path = recording.path.clone();
        let mut query = recording.query.clone();
        for (theirs, ours) in &self.ids {
            path = path.replace(theirs, ours);
            query = query.replace(theirs, ours);
        }
        if recording.method == Method::GET {
            self.settle(&path, recording).await;
        }
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let reply = self.api.raw(recording.method.clone(), &target, &recording.body).await?;
        if let (Some(theirs), Some(ours)) = (recording.answer["id"].as_str(), reply.json["id"].as_str()) {
            self.ids.insert(theirs.to_owned(), ours.to_owned());
        }
        if reply.status != recording.status {
            let text = &reply.text[..reply.text.len().min(300)];
            self.problems.push(format!("{}: {} instead of {}: {text}", recording.name, reply.status, recording.status));
            return Ok(());
        }
        let ours = if reply.json.is_null() { Value::from(reply.text) } else { reply.json };
        // Some answers were recorded as text.
        let parsed = recording.answer.as_str().and_then(|text| serde_json::from_str(text).ok());
        let recorded =
            if ours.is_string() { recording.answer.clone() } else { parsed.unwrap_or(recording.answer.clone()) };
        let mut differences = Vec::new();
        match (&recorded, &ours) {
            (Value::Array(theirs), Value::Array(ours)) => compare_lists(theirs, ours, &mut differences),
            (theirs, ours) => compare("", theirs, ours, &mut differences),
        }
        let unknown = differences.iter().filter(|text| !is_meant(&recording.name, text));
        self.problems.extend(unknown.map(|text| format!("{}: {text}", recording.name)));
        Ok(())
    }

    /// Waits until the execution is where it was when the answer was recorded.
    async fn settle(&self, path: &str, recording: &Recording) {
        let Some(id) = path.strip_prefix("/v1/executions/").and_then(|rest| rest.split('/').next()) else { return };
        let ends = recording.answer["status"].as_str().and_then(model::Status::parse).is_some_and(|s| s.is_completed());
        if id == "last" {
            eventually("the last execution ends", Duration::from_secs(20), || async {
                let last = self.api.get("/v1/executions/last").await.ok()?;
                (last["status"] == recording.answer["status"]).then_some(())
            })
            .await;
        }
        let rests = recording.answer["status"].as_str().filter(|status| ["paused", "pending"].contains(status));
        if let Some(status) = rests.filter(|_| id.len() == 24) {
            eventually("it waits", Duration::from_secs(20), || async {
                let execution = self.api.get(&format!("/v1/executions/{id}")).await.ok()?;
                (execution["status"] == status).then_some(())
            })
            .await;
        }
        let derived = path.contains("/children")
            || path.contains("/output")
            || path.contains("/result")
            || path.contains("/attribute");
        if id.len() == 24 && (ends || derived) && recording.status == 200 {
            self.api.finished(id, Duration::from_secs(60)).await;
        }
    }
}

fn read(dir: &Path) -> Result<Vec<Recording>> {
    let mut files: Vec<_> = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut recordings = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "json")) {
        let recorded: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        let request = &recorded["request"];
        let query: Vec<String> = request["query"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pair| format!("{}={}", pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default()))
            .collect();
        recordings.push(Recording {
            name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            method: request["method"].as_str().unwrap_or_default().parse()?,
            path: request["path"].as_str().unwrap_or_default().to_owned(),
            query: query.join("&"),
            body: request["body"].clone(),
            status: u16::try_from(recorded["response"]["status"].as_u64().unwrap_or(0))?,
            answer: recorded["response"]["body"].clone(),
        });
    }
    Ok(recordings)
}

/// Lists hold what happened to be there: the number (up to the limit) and the shape of the items are compared.
fn compare_lists(theirs: &[Value], ours: &[Value], differences: &mut Vec<String>) {
    if theirs.len() != ours.len() {
        differences.push(format!("{} items instead of {}", ours.len(), theirs.len()));
    }
    let keys = |items: &[Value]| -> BTreeSet<String> {
        items.iter().filter_map(Value::as_object).flat_map(|item| item.keys().cloned()).collect()
    };
    // What depends on which executions these happened to be.
    let optional = ["parameters", "delay", "result_size", "parent", "children", "result", "end_timestamp"];
    let optional =
        [&optional[..], &["rule", "trigger", "trigger_type", "trigger_instance", "elapsed_seconds"]].concat();
    for key in keys(theirs).symmetric_difference(&keys(ours)) {
        if !optional.contains(&key.as_str()) {
            differences.push(format!("items differ in having `{key}`"));
        }
    }
}

fn compare(path: &str, theirs: &Value, ours: &Value, differences: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (name, value) in theirs {
                let path = format!("{path}.{name}");
                match ours.get(name) {
                    Some(other) => compare(&path, value, other, differences),
                    None => differences.push(format!("{path} is missing: {value}")),
                }
            }
            for (name, value) in ours.iter().filter(|(name, _)| !theirs.contains_key(*name)) {
                differences.push(format!("{path}.{name} is too much: {value}"));
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (index, (a, b)) in theirs.iter().zip(ours).enumerate() {
                compare(&format!("{path}[{index}]"), a, b, differences);
            }
        }
        _ if normal(path, theirs) == normal(path, ours) => {}
        _ => differences.push(format!("{path}: {ours} instead of {theirs}")),
    }
}

/// A value without what differs from run to run.
fn normal(path: &str, value: &Value) -> Value {
    let name = path.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Number(_) if ["pid", "elapsed_seconds"].contains(&name) => json!("<number>"),
        Value::Number(number) => json!(number.as_f64()),
        Value::String(_) if name == "hostname" => json!("<host>"),
        Value::String(text) => json!(normal_text(text)),
        other => other.clone(),
    }
}

/// Ids, UUIDs and times inside a text replaced; words are what lies between other characters than these.
fn normal_text(text: &str) -> String {
    if model::Timestamp::parse_lenient(text).is_some() && text.len() > 10 {
        return "<time>".to_owned();
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if is_part(c) {
            word.push(c);
            continue;
        }
        let hex = word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        match word.len() {
            24 if hex => out.push_str("<id>"),
            32 | 36 if hex => out.push_str("<uuid>"),
            _ => out.push_str(&word),
        }
        word.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
