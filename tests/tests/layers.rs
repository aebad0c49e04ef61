//! Dependencies between our crates point one way (ARCHITECTURE.md).

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

/// Which of our crates each one may use, besides those that they use in turn.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("expr", &["model"]),
    ("store", &["model"]),
    ("store-mongodb", &["model", "store"]),
    ("bus", &["model"]),
    ("bus-rabbitmq", &["model", "bus"]),
    ("coordinator", &["model"]),
    ("coordinator-redis", &["model", "coordinator"]),
    ("coordinator-zookeeper", &["model", "coordinator"]),
    ("workflow", &["model", "expr"]),
    ("auth", &["model", "store"]),
    ("domain", &["model", "expr", "store", "bus", "coordinator"]),
    ("telemetry", &["model", "domain"]),
    ("content", &["model", "expr", "store", "bus", "domain"]),
    ("raft", &["model", "coordinator"]),
    ("base2histogram", &[]),
    ("scheduler", &["model", "expr", "store", "bus", "domain", "coordinator"]),
    ("runners", &["model", "expr", "store", "bus", "domain", "content"]),
    ("gateway", &["model", "expr", "store", "bus", "domain", "content", "auth"]),
    (
        "node",
        &[
            "model",
            "expr",
            "store",
            "store-mongodb",
            "bus",
            "bus-rabbitmq",
            "coordinator",
            "coordinator-redis",
            "coordinator-zookeeper",
            "workflow",
            "auth",
            "domain",
            "content",
            "raft",
            "scheduler",
            "runners",
            "gateway",
            "telemetry",
        ],
    ),
    ("cli", &["model"]),
    ("servers", &[]),
    ("e2e", &["model", "servers", "telemetry"]),
    ("benches", &["model", "store", "e2e"]),
];

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    assert!(packages.len() >= ALLOWED.len());
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = allowed.get(name) else { panic!("crate {name} is missing on the map") };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Tests may use more: contract suites, adapters.
            if dependency["path"].is_null() || dependency["kind"] == "dev" {
                continue;
            }
            let used = dependency["name"].as_str().unwrap_or_default();
            assert!(allowed.contains(&used), "{name} must not depend on {used}");
        }
    }
    Ok(())
}
