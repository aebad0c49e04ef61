//! What StackStorm answered (SQUALL_SHARED/data/golden), and the resources that it had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::{
    Action, ActionAlias, ConfigSchema, Pack, Policy, Resource, Rule, RunnerType, SensorType, Timestamp, Trigger,
    TriggerType,
};
use serde_json::{Value, json};

use super::support::Server;

/// The directory of recordings, if it is there.
pub fn golden() -> Option<PathBuf> {
    let shared = std::env::var_os("SQUALL_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let dir = shared.join("data/golden");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no recordings in {} (set SQUALL_SHARED)", dir.display());
    None
}

/// One recorded exchange.
pub struct Recording {
    pub name: String,
    pub request: Value,
    pub status: u16,
    pub headers: Value,
    pub body: Value,
}

pub fn read(dir: &Path) -> Vec<Recording> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
        .into_iter()
        .filter_map(|file| {
            let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            let request = value.get_mut("request")?.take();
            let response = &mut value["response"];
            Some(Recording {
                name: file.file_stem().unwrap().to_string_lossy().into_owned(),
                request,
                status: u16::try_from(response["status"].as_u64()?).unwrap(),
                headers: response["headers"].take(),
                body: response["body"].take(),
            })
        })
        .collect()
}

/// Puts into the store what the recorded server had registered: every complete resource that an answer shows.
pub async fn seed(server: &Server, golden: &Path) {
    let packs = server.dir.path().join("packs");
    copy(&golden.join("../golden-pack"), &packs.join("golden"));
    for pack in ["core", "default"] {
        std::fs::create_dir_all(packs.join(pack).join("actions")).unwrap();
    }
    std::fs::write(packs.join("core/pack.yaml"), "name: core\n").unwrap();
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for group in std::fs::read_dir(golden).unwrap() {
        let group = group.unwrap().path();
        if group.is_dir() && !["cli", "stream"].iter().any(|name| group.ends_with(name)) {
            for recording in read(&group) {
                collect(&recording.body, &mut found);
            }
        }
    }
    for (uid, value) in &found {
        // Made by requests that are going to be replayed.
        let made =
            ["action:golden:cloned", "action:default:", "rule:default:", "trigger_type:golden:made", "policy:golden:p"];
        if made.iter().any(|prefix| uid.starts_with(prefix)) {
            continue;
        }
        let registered = value["metadata_file"].as_str().is_some_and(|file| !file.is_empty());
        match uid.split(':').next().unwrap_or_default() {
            "runner_type" => put::<RunnerType>(server, value).await,
            "pack" => put::<Pack>(server, value).await,
            "trigger_type" => put::<TriggerType>(server, value).await,
            "sensor_type" => put::<SensorType>(server, value).await,
            "action" if registered => put::<Action>(server, value).await,
            "action_alias" if registered => put::<ActionAlias>(server, value).await,
            "policy" if registered => put::<Policy>(server, value).await,
            "rule" if registered => {
                let mut value = value.clone();
                value["trigger"] = value["trigger"]["ref"].take();
                put::<Rule>(server, &value).await;
            }
            "trigger" if value["parameters"] == json!({}) && !uid.contains(":made") && !uid.contains("golden:q:") => {
                let mut value = value.clone();
                value["created_at"] = json!(Timestamp::default());
                put::<Trigger>(server, &value).await;
            }
            _ => {}
        }
    }
    let timer = json!({
        "id": "6b03892bf253c793aeaad164", "uid": "trigger_type:core:st2.IntervalTimer", "ref": "core.st2.IntervalTimer",
        "pack": "core", "name": "st2.IntervalTimer", "parameters_schema": {"type": "object", "properties": {
            "timezone": {"type": "string"},
            "unit": {"enum": ["weeks", "days", "hours", "minutes", "seconds"], "required": true},
            "delta": {"type": "integer", "required": true},
        }, "additionalProperties": false},
    });
    put::<TriggerType>(server, &timer).await;
    let schema = json!({"id": "6b039124739776985d5b6bd0", "pack": "golden", "attributes": {}});
    put::<ConfigSchema>(server, &schema).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn put<T: Resource>(server: &Server, value: &Value) {
    // Parts of resources are shown in many places; only whole ones count.
    if let Ok(doc) = serde_json::from_value::<T>(value.clone()) {
        server.insert(&doc).await;
    }
}

fn collect(value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(object) => {
            if let (Some(uid), Some(_)) = (object.get("uid").and_then(Value::as_str), object.get("id")) {
                let size = |value: &Value| value.as_object().map_or(0, |object| object.len());
                let known = found.get(uid).map_or(0, size);
                // Views and updates show more or other than what was registered first.
                if object.len() > known && !object.contains_key("payload") {
                    found.insert(uid.to_owned(), value.clone());
                }
            }
            object.values().for_each(|item| collect(item, found));
        }
        _ => {}
    }
}
