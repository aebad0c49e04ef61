//! The recorded results of StackStorm 3.9 for actions of the golden pack, field by field.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

mod common;

use std::path::Path;

use common::{Bed, shared};
use serde_json::{Value, json};

/// Recordings of finished executions whose runners are built.
const RECORDED: &[&str] = &[
    "009-local-ok-get",
    "015-local-timeout-get",
    "021-shell-script-get",
    "025-params-defaults-get",
    "027-params-all-get",
    "029-params-coerce-strings-get",
    "035-python-ok-get",
    "037-python-raise-get",
    "039-python-tuple-false-get",
    "041-python-prints-get",
    "049-output-schema-violated-get",
];

async fn register(bed: &Bed, pack: &Path) {
    bed.add_core().await;
    bed.add_pack("golden", pack).await;
    for entry in std::fs::read_dir(pack.join("actions")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let action = model::yaml::load(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = |name: &str| action.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if text("runner_type") == "action-chain" || text("runner_type") == "inquirer" {
            continue;
        }
        let parameters = action.get("parameters").cloned().unwrap_or_else(|| json!({}));
        let reference = format!("golden.{}", text("name"));
        bed.add_action(&reference, &text("runner_type"), &text("entry_point"), parameters).await;
    }
}

/// What differs by where it ran: paths, the API's port, the execution's id, frames of the runner itself.
fn normalised(mut result: Value, id: &str, pack: &Path) -> Value {
    for field in ["stdout", "stderr"] {
        let Some(Value::String(text)) = result.get_mut(field) else { continue };
        let mut lines = Vec::new();
        let mut in_runner = false;
        for line in text.split('\n') {
            if line.starts_with("  File ") {
                in_runner = line.contains("python_action_wrapper.py");
            } else if !line.starts_with("    ") {
                in_runner = false;
            }
            if !in_runner {
                lines.push(line);
            }
        }
        *text = lines
            .join("\n")
            .replace(id, "<id>")
            .replace("/opt/stackstorm/packs/golden", "<pack>")
            .replace(&*pack.to_string_lossy(), "<pack>")
            .replace("http://127.0.0.1:19101", "http://127.0.0.1:9101");
    }
    result
}

#[tokio::test]
async fn results_are_those_that_were_recorded() {
    let Some(shared) = shared() else {
        eprintln!("skipped: the recordings are not here (SQUALL_SHARED)");
        return;
    };
    let bed = Bed::new().await;
    let pack = shared.join("data/golden-pack");
    register(&bed, &pack).await;
    for name in RECORDED {
        let path = shared.join(format!("data/golden/executions/{name}.json"));
        let recording: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let recorded = &recording["response"]["body"];
        let post = name.replace("-get", "-post");
        let number: u32 = name[..3].parse().unwrap();
        let post = shared.join(format!("data/golden/executions/{:03}{}.json", number - 1, &post[3..]));
        let post: Value = serde_json::from_str(&std::fs::read_to_string(post).unwrap()).unwrap();
        let body = &post["request"]["body"];
        let given = body.get("parameters").cloned().unwrap_or_else(|| json!({}));
        let requested = bed.request(body["action"].as_str().unwrap(), given).await;
        let done = bed.completed(requested.id).await;
        let ours = normalised(bed.result(&done).await, &done.id.to_string(), &pack);
        let theirs = normalised(recorded["result"].clone(), recorded["id"].as_str().unwrap(), &pack);
        assert_eq!(ours, theirs, "{name}");
        assert_eq!(done.status.as_str(), recorded["status"], "{name}");
    }
}
