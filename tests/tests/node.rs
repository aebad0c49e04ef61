//! The node as an operator meets it: configuration, start, stop, restart.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Api, Node, NodeOptions, binary, eventually};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

fn squall(arguments: &[&str], env: &[(&str, &str)]) -> Result<Output> {
    Ok(Command::new(binary("squall")).args(arguments).envs(env.iter().copied()).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn configuration_errors_name_the_key_and_the_nearest() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("squall.toml");
    let path = file.to_string_lossy().into_owned();
    for (content, expected) in [
        ("[node]\ndata_dri = '/x'\n", "did you mean `node.data_dir`?"),
        ("[timers]\ncatch_up_window = 'soon'\n", "timers.catch_up_window"),
        ("[runners]\nmax_concurrent = 0\n", "runners.max_concurrent"),
        ("[node\n", "squall.toml"),
    ] {
        std::fs::write(&file, content)?;
        let output = squall(&["server", "--config", &path], &[])?;
        assert!(!output.status.success(), "{content}");
        assert!(text(&output.stderr).contains(expected), "{content}: {}", text(&output.stderr));
    }
    let output = squall(&["config"], &[("SQUALL_TIMERS__CATCH_UP_WINDOWS", "1m")])?;
    assert!(text(&output.stderr).contains("did you mean `timers.catch_up_window`?"), "{}", text(&output.stderr));
    let output = squall(&["config"], &[("SQUALL_TIMERS__CATCH_UP_WINDOW", "5m")])?;
    assert!(text(&output.stdout).contains("catch_up_window = \"5m\""), "{}", text(&output.stdout));
    let output = squall(&["--help"], &[])?;
    for word in ["dev", "server", "config"] {
        assert!(text(&output.stdout).contains(word));
    }
    let output = squall(&["dev", "--help"], &[])?;
    assert!(text(&output.stdout).contains("SQUALL_ADMIN_PASSWORD"));
    Ok(())
}

/// Databases hold tokens and what workflows know, in clear.
#[tokio::test(flavor = "multi_thread")]
async fn databases_are_their_owners_alone() -> Result<()> {
    let mut node = Node::start().await?;
    let mut databases = 0;
    for start in 0..2 {
        for entry in std::fs::read_dir(&node.data_dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".db") || name.ends_with("-wal") || name.ends_with("-shm") {
                assert_eq!(entry.metadata()?.permissions().mode() & 0o777, 0o600, "{name}, start {start}");
                databases += 1;
                // As versions before left it.
                std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o644))?;
            }
        }
        node.kill();
        node.restart().await?;
    }
    assert!(databases >= 8, "{databases}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_by_configuration_listens_where_it_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("squall.toml");
    let data = dir.path().join("data");
    let config = format!(
        "[node]\ndata_dir = '{}'\nname = 'one'\n[listen]\ncombined = '127.0.0.1:0'\nauth = '127.0.0.1:0'\napi = \
         '127.0.0.1:0'\nstream = '127.0.0.1:0'\n",
        data.display()
    );
    std::fs::write(&file, config)?;
    let mut child = Command::new(binary("squall"))
        .args(["server", "--log-format", "json", "--config"])
        .arg(&file)
        .env("SQUALL_ADMIN_PASSWORD", "configured")
        .stderr(std::fs::File::create(dir.path().join("log"))?)
        .spawn()?;
    let addresses = eventually("it listens", DEADLINE, || async {
        let text = std::fs::read_to_string(data.join("addresses.json")).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    })
    .await;
    for port in ["combined", "auth", "api", "stream"] {
        let address = addresses[port].as_str().with_context(|| format!("no {port}"))?;
        let health = Api::anonymous(&format!("http://{address}")).health("ready").await?;
        assert_eq!(health.status, 200, "{port}: {}", health.text);
        for dependency in ["store", "bus", "raft"] {
            assert!(health.text.contains(dependency), "{}", health.text);
        }
    }
    let combined = format!("http://{}", addresses["combined"].as_str().unwrap_or_default());
    assert_eq!(Api::anonymous(&combined).health("live").await?.status, 200);
    Api::login(&combined, "st2admin", "configured").await?;
    child.kill()?;
    child.wait()?;
    let log = std::fs::read_to_string(dir.path().join("log"))?;
    assert!(!log.is_empty());
    for line in log.lines() {
        serde_json::from_str::<Value>(line).with_context(|| format!("no JSON: {line}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_and_a_port_have_one_node() -> Result<()> {
    let node = Node::start().await?;
    let data = node.data_dir.to_string_lossy().into_owned();
    let output = squall(&["dev", "--listen", "127.0.0.1:0", "--data-dir", &data], &[])?;
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("in use"), "{}", text(&output.stderr));
    let other = tempfile::tempdir()?;
    let taken = node.base.trim_start_matches("http://").to_owned();
    let other_dir = other.path().to_string_lossy().into_owned();
    let output = squall(&["dev", "--listen", &taken, "--data-dir", &other_dir], &[])?;
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains(&format!("can't listen on {taken}")), "{}", text(&output.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_a_password_and_keeps_it() -> Result<()> {
    let options = NodeOptions { env: vec![("SQUALL_ADMIN_PASSWORD".to_owned(), String::new())] };
    let mut node = Node::start_with(options).await?;
    let file = node.data_dir.join("admin-password");
    assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
    let password = std::fs::read_to_string(&file)?.trim().to_owned();
    Api::login(&node.base, "st2admin", &password).await?;
    node.stop(DEADLINE).await?;
    node.restart().await?;
    Api::login(&node.base, "st2admin", &password).await?;
    assert_eq!(std::fs::read_to_string(&file)?.trim(), password);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_drains_and_the_next_start_finds_everything() -> Result<()> {
    let mut node = Node::start().await?;
    let mut api = node.admin().await?;
    let rule = json!({
        "name": "kept", "pack": "default", "enabled": true,
        "trigger": {"type": "core.st2.webhook", "parameters": {"url": "kept"}},
        "action": {"ref": "core.noop", "parameters": {}},
    });
    api.post("/v1/rules", &rule).await?;
    api.call(reqwest::Method::PUT, "/v1/keys/kept", Some(&json!({"name": "kept", "value": "1"}))).await?;
    let running = api.run("core.local", json!({"cmd": "sleep 1; echo done"})).await?;
    eventually("it runs", DEADLINE, || async {
        let execution = api.get(&format!("/v1/executions/{running}")).await.ok()?;
        (execution["status"] == "running").then_some(())
    })
    .await;
    let status = node.stop(DEADLINE).await?;
    assert!(status.success(), "{status}");
    node.restart().await?;
    api.base.clone_from(&node.base);
    let execution = api.finished(&running, DEADLINE).await;
    assert_eq!((&execution["status"], &execution["result"]["stdout"]), (&json!("succeeded"), &json!("done")));
    assert_eq!(api.get("/v1/keys/kept").await?["value"], "1");
    api.post("/v1/webhooks/kept", &json!({})).await?;
    eventually("the rule fires", DEADLINE, || async {
        let fired = api.get("/v1/ruleenforcements?rule_ref=default.kept").await.ok()?;
        (fired.as_array()?.len() == 1).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_ran_is_decided_at_its_return() -> Result<()> {
    let mut node = Node::start().await?;
    let mut api = node.admin().await?;
    let id = api.run("core.local", json!({"cmd": "sleep 60"})).await?;
    eventually("it runs", DEADLINE, || async {
        let execution = api.get(&format!("/v1/executions/{id}")).await.ok()?;
        (execution["status"] == "running").then_some(())
    })
    .await;
    node.kill();
    node.restart().await?;
    api.base.clone_from(&node.base);
    let execution = api.finished(&id, Duration::from_secs(5)).await;
    assert_eq!(execution["status"], "abandoned", "{execution}");
    Ok(())
}
