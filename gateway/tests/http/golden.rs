//! Recorded exchanges, asked again and compared: status, headers of note, and the body field by field.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use super::recordings::{Recording, golden, read, seed};
use super::support::{Server, answer};

/// Recordings that are not compared in full, and why. A `*` at the end stands for anything.
const DIFFERENCES: &[(&str, &str)] = &[
    ("root/010-head", "HEAD answers as GET without the body, instead of 500"),
    ("auth/026-api-token-in-query", "the recorded token is not known here: covered by the auth tests"),
    ("auth/028-api-both-token-and-key", "the same"),
    ("auth/030-api-expired-token", "the same"),
    ("auth/023-auth-sso-request", "404 instead of 500: no sign-on is configured"),
    ("rules/027-create-cron-bad", "the cron parser's text is its own"),
    ("aliases/019-execute-name-only-get", "no runner runs here"),
    ("packs/011-views-file-icon", "the recorded pack is not here"),
    ("packs/024-install-local", "the packs pack's actions are not here"),
    ("packs/025-install-execution", "the same"),
    ("packs/026-uninstall-unknown", "the same"),
    ("packs/027-uninstall-execution", "the same"),
    ("packs/020-index", "the recorded server's words for a network that is not there"),
    ("packs/021-index-health", "the same"),
    ("packs/022-index-search", "the same"),
    ("configs/005-get-none", "the recorded server had one of an earlier registration"),
    ("configs/012-put-wrong-type", "without the validator's dump of schema and value"),
    ("configs/013-put-missing-required", "the same"),
    ("configs/017-put-jinja", "the error names the field"),
    ("configs/019-action-uses-config-get", "no runner runs here"),
    ("ruleenforcements/005-get", "no rules engine runs here"),
    ("ruleenforcements/007-views-get", "the same"),
    ("sensors/005-get", "the recorded server's sensor is not shown whole before"),
    ("keys/019-get", "the recorded second write is missing"),
    ("keys/020-get-scope-st2kv.system", "the same"),
    ("triggers/015-triggers-create-dup", "one trigger for each type and parameters"),
    ("triggers/019-triggers-update-with-id", "the same"),
    ("triggers/033-instances-re_emit-with-body", "the recorded instance is not known here"),
    ("keys/037-get-after-ttl", "expired keys are hidden at once"),
    ("keys/042-decrypt-in-action-post", "the recorded execution is not made here"),
    ("keys/043-decrypt-in-action-get", "no runner runs here"),
    ("triggers/009-triggertypes-update-without-id", "the id in the body is optional, instead of 500"),
    ("triggers/018-triggers-update-without-id", "the same"),
    ("triggers/037-execution-from-rule-get", "no rules engine runs here"),
    ("triggers/038-execution-attribute-trigger_instance", "the same"),
    ("triggers/040-list-executions-by-rule-name", "the same"),
    ("rbac/003-permission_types", "descriptions are our own; there are permissions of streams"),
    ("service_registry/0*", "which nodes there are: covered by the cluster tests"),
    ("timers/006-get", "no timer: 404"),
    ("timers/007-get-by-ref", "the same"),
    ("rules-delete/003-webhook-after-rule-delete", "the deletion of the rule is not among the recordings"),
    ("webhooks/022-execution-from-webhook", "the same"),
];

fn stands_for(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

struct Replay {
    server: Server,
    /// Recorded id, name or token → ours.
    ids: BTreeMap<String, String>,
    problems: Vec<String>,
    compared: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_exchanges_are_answered_alike() {
    let Some(golden) = golden() else { return };
    let server = Server::start().await;
    seed(&server, &golden).await;
    let mut replay = Replay { server, ids: BTreeMap::new(), problems: Vec::new(), compared: 0 };
    for group in [
        "auth",
        "root",
        "apikeys",
        "rules",
        "triggers",
        "webhooks",
        "keys",
        "runnertypes",
        "actions",
        "packs",
        "ruleenforcements",
        "policies",
        "pagination",
        "aliases",
        "sensors",
        "configs",
        "traces",
        "rbac",
        "service_registry",
        "timers",
        "rules-delete",
    ] {
        replay.group(&golden, group).await;
    }
    println!("{} exchanges compared", replay.compared);
    assert!(replay.problems.is_empty(), "{} differ:\n{}", replay.problems.len(), replay.problems.join("\n"));
}

impl Replay {
    async fn group(&mut self, golden: &Path, group: &str) {
        for recording in read(&golden.join(group)) {
            let name = format!("{group}/{}", recording.name);
            if let Some((_, reason)) = DIFFERENCES.iter().find(|(other, _)| stands_for(other, &name)) {
                println!("not compared: {name}: {reason}");
                continue;
            }
            self.compared += 1;
            self.one(&name, &recording).await;
        }
    }

    fn translate(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (theirs, ours) in &self.ids {
            if text.contains(theirs.as_str()) {
                text = text.replace(theirs, ours);
            }
        }
        let packs = self.server.dir.path().join("packs").display().to_string();
        let configs = self.server.dir.path().join("configs").display().to_string();
        text.replace("<st2admin token>", &self.server.token)
            .replace("/opt/stackstorm/packs", &packs)
            .replace("/opt/stackstorm/configs", &configs)
    }

    async fn one(&mut self, name: &str, recording: &Recording) {
        let request = &recording.request;
        let base = if request["service"] == "auth" { &self.server.auth } else { &self.server.api };
        let url = format!("{base}{}", self.translate(request["path"].as_str().unwrap()));
        let method: Method = request["method"].as_str().unwrap().parse().unwrap();
        let mut call = self.server.client.request(method, url);
        let query: Vec<(String, String)> = request["query"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), self.translate(pair[1].as_str().unwrap())))
            .collect();
        if !query.is_empty() {
            call = call.query(&query);
        }
        for (key, value) in request["headers"].as_object().unwrap() {
            call = call.header(key, self.translate(value.as_str().unwrap()));
        }
        call = match &request["body"] {
            Value::Null => call,
            Value::String(text) => call.body(text.clone()),
            body => call.body(self.translate(&body.to_string())),
        };
        let ours = answer(call.send().await.unwrap()).await;
        let bogus_uid = name == "apikeys/015-disable";
        if ours.status != recording.status {
            let text = &ours.text[..ours.text.len().min(300)];
            self.problems.push(format!("{name}: {} instead of {}: {text}", ours.status, recording.status));
            return;
        }
        let body = serde_json::from_str(&ours.text).unwrap_or_else(|_| Value::from(ours.text.as_str()));
        self.learn(&recording.body, &body);
        let mut differences = Vec::new();
        self.compare("", &recording.body, &body, &mut differences);
        // The recorded uid had lost the key's hash.
        differences.retain(|text| !bogus_uid || !text.starts_with(".uid"));
        // Actions made without an output schema get the defaults of its meta-schema there, which say nothing.
        differences.retain(|text| !text.starts_with(".output_schema."));
        // The pack has grown by an action since it was recorded.
        differences.retain(|text| text != ".actions: 24 instead of 23");
        self.compare_headers(recording, &ours.headers, &mut differences);
        self.problems.extend(differences.into_iter().map(|text| format!("{name}: {text}")));
    }

    /// Notes what recorded ids and random names are called here.
    fn learn(&mut self, theirs: &Value, ours: &Value) {
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                for (key, value) in theirs {
                    let Some(other) = ours.get(key) else { continue };
                    let random = matches!(key.as_str(), "id" | "ref" | "key" | "token" | "original_id");
                    match (value, other) {
                        (Value::String(value), Value::String(other)) if random && value != other => {
                            let known = value.len() >= 24 || value.starts_with("core.");
                            if known && !self.ids.contains_key(value) {
                                self.ids.insert(value.clone(), other.clone());
                            }
                        }
                        _ => self.learn(value, other),
                    }
                }
            }
            (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
                for (theirs, ours) in theirs.iter().zip(ours) {
                    self.learn(theirs, ours);
                }
            }
            _ => {}
        }
    }

    fn compare(&self, path: &str, theirs: &Value, ours: &Value, out: &mut Vec<String>) {
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                for (key, value) in theirs {
                    match ours.get(key) {
                        Some(other) => self.compare(&format!("{path}.{key}"), value, other, out),
                        None => out.push(format!("{path}.{key} is missing ({value})")),
                    }
                }
                out.extend(
                    ours.keys().filter(|key| !theirs.contains_key(*key)).map(|key| format!("{path}.{key} is too much")),
                );
            }
            (Value::Array(theirs), Value::Array(ours)) => {
                // Lists hold leftovers of the recorded server; what both have must be alike.
                for (i, ours) in ours.iter().enumerate() {
                    let id = |item: &Value| item.get("ref").or(item.get("name")).or(item.get("id")).cloned();
                    let same = theirs.iter().find(|item| id(item).is_some() && id(item) == id(ours));
                    let same = same.or_else(|| if ours.is_object() { None } else { theirs.get(i) });
                    if let Some(theirs) = same {
                        self.compare(&format!("{path}[{i}]"), theirs, ours, out);
                    }
                }
            }
            (Value::String(theirs), Value::String(ours)) => {
                if !self.same_text(path, theirs, ours) {
                    out.push(format!("{path}: {ours:?} instead of {theirs:?}"));
                }
            }
            (theirs, ours) if theirs == ours => {}
            (theirs, ours) => out.push(format!("{path}: {ours} instead of {theirs}")),
        }
    }

    fn same_text(&self, path: &str, theirs: &str, ours: &str) -> bool {
        let is_id = |text: &str| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let is_time =
            |text: &str| text.len() >= 20 && text.ends_with('Z') && text.contains('T') && text.starts_with("20");
        let leaf = path.rsplit('.').next().unwrap_or_default();
        let random = matches!(leaf, "token" | "key" | "key_hash" | "uid");
        let duplicate = "Tried to save duplicate unique keys (";
        let ciphertext = leaf == "value" && theirs.starts_with("3030303030") && ours.starts_with("3030303030");
        theirs == ours
            || self.translate(theirs) == ours
            || (is_id(theirs) && is_id(ours))
            || (is_time(theirs) && is_time(ours) && theirs.len() == ours.len())
            || (random && theirs.len() == ours.len())
            || (theirs.starts_with(duplicate) && ours.starts_with(duplicate))
            || ciphertext
            || same_first_line(path, theirs, ours)
            || (theirs.starts_with("core.") && ours.starts_with("core.") && theirs.len() == 41 && ours.len() == 41)
            || (leaf == "uid" && theirs.starts_with("trigger:core:") && ours.starts_with("trigger:core:"))
    }

    fn compare_headers(&self, recording: &Recording, ours: &reqwest::header::HeaderMap, out: &mut Vec<String>) {
        let Some(theirs) = recording.headers.as_object() else { return };
        for (name, value) in theirs {
            let other = ours.get(name.as_str()).map(|value| value.to_str().unwrap());
            match (name.as_str(), other) {
                ("Content-Length" | "Warning", _) => {}
                (_, None) => out.push(format!("header {name} is missing ({value})")),
                ("X-Total-Count" | "X-API-URL" | "X-Request-ID" | "ETag" | "Last-Modified", Some(_)) => {}
                ("Set-Cookie", Some(other)) => {
                    let shape = |text: &str| -> Vec<String> {
                        text.split("; ").map(|part| part.split('=').next().unwrap_or_default().to_owned()).collect()
                    };
                    if shape(value.as_str().unwrap()) != shape(other) {
                        out.push(format!("cookie {other} instead of {value}"));
                    }
                }
                (_, Some(other)) if value == other => {}
                (_, Some(other)) => out.push(format!("header {name}: {other} instead of {value}")),
            }
        }
        for name in ["x-total-count", "x-limit", "set-cookie"] {
            let known = theirs.keys().any(|key| key.eq_ignore_ascii_case(name));
            if ours.contains_key(name) && !known {
                out.push(format!("header {name} is too much"));
            }
        }
    }
}

/// Validators' texts go on with the schema, laid out as Python prints it; the first line says what is wrong.
fn same_first_line(path: &str, theirs: &str, ours: &str) -> bool {
    path == ".faultstring" && theirs.contains("\n\nFailed validating") && {
        let first = theirs.split("\n\nFailed validating").next().unwrap_or_default();
        ours.split("\n\nFailed validating").next() == Some(first)
    }
}
