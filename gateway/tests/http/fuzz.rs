//! Schemathesis (from PyPI) asks the gateway what its own description says, and what it doesn't: no 5xx, and every
//! answer as described.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use super::support::Server;

const TOOL: &str = "schemathesis==4.32.5";
/// Checks that hold for an API that is as lenient as StackStorm's: it ignores what it doesn't know.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// Event streams don't end, and a transfer of the leadership isn't for strangers.
const LEFT_OUT: &str = "^/stream/|^/api/v1/executions/\\{id\\}/output$";

/// The tool, installed beside the built tests; none if it can't be installed here.
fn tool() -> Option<PathBuf> {
    let beside = std::env::current_exe().unwrap();
    let venv = beside.ancestors().nth(3).unwrap().join("schemathesis-venv");
    let tool = venv.join("bin/schemathesis");
    if venv.join("complete").is_file() {
        return Some(tool);
    }
    drop(std::fs::remove_dir_all(&venv));
    let run = |program: &Path, args: &[&str]| {
        std::process::Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let made = run(Path::new("python3"), &["-m", "venv", &venv.display().to_string()]);
    if !made || !run(&venv.join("bin/pip"), &["install", "--quiet", TOOL]) {
        println!("SKIPPED: can't install {TOOL}");
        return None;
    }
    std::fs::write(venv.join("complete"), TOOL).unwrap();
    Some(tool)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_described() {
    let Some(tool) = tokio::task::spawn_blocking(tool).await.unwrap() else { return };
    let server = Server::start().await;
    for name in ["noop", "other"] {
        server.action("acme", name, "noop", json!({"text": {"type": "string"}})).await;
    }
    server.post("/v1/executions", json!({"action": "acme.noop"})).await;
    server.call("PUT".parse().unwrap(), "/v1/keys/k", Some(json!({"name": "k", "value": "v"}))).await;
    // SQUALL_FUZZ_SECONDS: how long; SQUALL_TEST_SEED: a run again.
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let seed = variable("SQUALL_TEST_SEED", &rand::random::<u32>().to_string());
    let output = Command::new(tool)
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", server.combined))
        .args(["--header", &format!("X-Auth-Token: {}", server.token)])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--no-shrink"])
        .args(["--exclude-path-regex", LEFT_OUT, "--seed", &seed, "--workers", "2", "--warnings", "off"])
        .args(["--max-time", &variable("SQUALL_FUZZ_SECONDS", "60"), "--request-timeout", "20", "--no-color"])
        .args(["--suppress-health-check", "all"])
        .current_dir(server.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!(
        "seed {seed}\n{}",
        text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    assert!(output.status.success(), "seed {seed}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
