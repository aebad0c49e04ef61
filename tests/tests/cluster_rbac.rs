//! Roles in a cluster: a change on one node holds on all of them within two seconds.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::lab::{Lab, LabOptions};
use e2e::{binary, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// How late a node may be.
const WITHIN: Duration = Duration::from_secs(2);

fn definitions(roles_of_ana: &[&str]) -> Value {
    json!({
        "roles": [],
        "mappings": [],
        "assignments": [
            {"username": "st2admin", "roles": ["system_admin"], "enabled": true, "file_path": "assignments/a.yaml"},
            {"username": "ana", "roles": roles_of_ana, "enabled": true, "file_path": "assignments/b.yaml"},
        ],
    })
}

/// What a node answers to who shows this key.
async fn status(client: &reqwest::Client, base: &str, key: &str) -> Option<u16> {
    let request = client.get(format!("{base}/api/v1/actions?limit=1")).header("st2-api-key", key);
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_change_on_one_node_holds_on_all_of_them() -> Result<()> {
    let options = LabOptions { config: vec![("rbac", "enable = true".to_owned())], ..LabOptions::default() };
    let Some(lab) = Lab::start(options).await? else { return Ok(()) };
    // Nobody has a role yet: the first administrator is made on a node's host.
    let folder = lab.dir.join("definitions");
    std::fs::create_dir_all(folder.join("assignments"))?;
    std::fs::write(folder.join("assignments/a.yaml"), "---\nusername: st2admin\nroles: [system_admin]\n")?;
    let config = lab.nodes[0].dir.join("config.toml");
    let applied = Command::new(binary("squall"))
        .args(["rbac", "apply", "--dir"])
        .arg(&folder)
        .arg("--config")
        .arg(&config)
        .output()?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let admin = lab.admin(0).await;
    let key = eventually("the administrator makes a key", Duration::from_secs(15), || async {
        let made = admin.post("/v1/apikeys", &json!({"user": "ana"})).await.ok()?;
        made["key"].as_str().map(str::to_owned)
    })
    .await;
    let client = reqwest::Client::builder().no_proxy().build()?;
    for base in lab.bases() {
        eventually("ana is known, and has no role", Duration::from_secs(15), || async {
            (status(&client, &base, &key).await == Some(403)).then_some(())
        })
        .await;
    }
    let mut slowest = Duration::ZERO;
    for round in 0..8 {
        let (roles, expected): (&[&str], _) = if round % 2 == 0 { (&["observer"], 200) } else { (&[], 403) };
        let changer = admin.at(&lab.nodes[round % lab.nodes.len()].base);
        let reply = changer.call(Method::PUT, "/v1/rbac/definitions", Some(&definitions(roles))).await?;
        ensure!(reply.status == 200, "round {round}: {} {}", reply.status, reply.text);
        let changed = Instant::now();
        for base in lab.bases() {
            eventually("the change holds", Duration::from_secs(10), || async {
                (status(&client, &base, &key).await == Some(expected)).then_some(())
            })
            .await;
            let late = changed.elapsed();
            slowest = slowest.max(late);
            ensure!(late <= WITHIN, "round {round}: {base} took {late:?}");
        }
    }
    println!("a role change holds on all nodes after at most {slowest:?}");
    let roles = admin.get("/v1/rbac/role_assignments").await?;
    roles.as_array().context("assignments")?;
    Ok(())
}
