//! Bad input, greedy actions and a full disk: a clear error each, the node stays up, memory stays bounded.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{Api, Node, NodeOptions, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

/// What a node may use at most while an action floods it.
const MEMORY_LIMIT: u64 = 400 * 1024 * 1024;

/// A pack directory in `packs` with one action file.
fn write_pack(packs: &Path, name: &str, files: &[(&str, &str)]) -> Result<()> {
    let dir = packs.join(name);
    let manifest =
        format!("ref: {name}\nname: {name}\ndescription: d\nversion: 1.0.0\nauthor: a\nemail: a@example.com\n");
    std::fs::create_dir_all(dir.join("actions"))?;
    std::fs::write(dir.join("pack.yaml"), manifest)?;
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn fault(reply: &e2e::Reply) -> String {
    reply.json["faultstring"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_input_gets_clear_errors() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;

    // A pack whose YAML is broken is refused by file, and stops no other pack.
    let packs = node.data_dir.join("packs");
    write_pack(&packs, "broken", &[("actions/bad.yaml", "name: bad\n  runner_type: [\n")])?;
    let good = "name: good\nrunner_type: noop\nenabled: true\ndescription: d\nparameters: {}\n";
    write_pack(&packs, "sound", &[("actions/good.yaml", good)])?;
    let reply = api.call(Method::POST, "/v1/packs/register", Some(&json!({"packs": ["broken"]}))).await?;
    assert_eq!(reply.status, 400, "{}", reply.text);
    assert!(fault(&reply).contains("bad.yaml"), "{}", reply.text);
    api.post("/v1/packs/register", &json!({"packs": ["sound"]})).await?;
    let id = api.run("sound.good", json!({})).await?;
    assert_eq!(api.finished(&id, DEADLINE).await["status"], "succeeded");

    // A body over the limit.
    let huge = json!({"action": "core.noop", "parameters": {"x": "y".repeat(10 * 1024 * 1024)}});
    let reply = api.call(Method::POST, "/v1/executions", Some(&huge)).await?;
    assert_eq!(reply.status, 413, "{}", reply.text);
    assert!(fault(&reply).contains("limit"), "{}", reply.text);

    // Fields that a rule doesn't have.
    let rule = json!({
        "name": "r", "pack": "default", "enabled": true, "colour": "red",
        "trigger": {"type": "core.st2.webhook", "parameters": {"url": "r"}},
        "action": {"ref": "core.noop", "parameters": {}},
    });
    let reply = api.call(Method::POST, "/v1/rules", Some(&rule)).await?;
    assert_eq!(reply.status, 400, "{}", reply.text);
    assert!(fault(&reply).contains("colour"), "{}", reply.text);

    // Text that isn't Jinja after all is kept as it is, as StackStorm does.
    for text in ["echo '{{ 1 +'", "echo '{% for x in %}'"] {
        let id = api.run("core.local", json!({"cmd": text})).await?;
        let execution = api.finished(&id, DEADLINE).await;
        assert_eq!(execution["parameters"]["cmd"], *text);
        assert_eq!(execution["status"], "succeeded", "{execution}");
    }
    // Jinja that fails gets an answer that says so.
    for template in ["{{ nope.nope }}", "{{ ''|no_such_filter }}"] {
        let body = json!({"action": "core.local", "parameters": {"cmd": template}});
        let reply = api.call(Method::POST, "/v1/executions", Some(&body)).await?;
        assert_eq!(reply.status, 400, "{template}: {}", reply.text);
        assert!(!fault(&reply).is_empty(), "{template}");
    }
    // A hostile template is cut off.
    let template = "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}";
    let begin = Instant::now();
    let body = json!({"action": "core.local", "parameters": {"cmd": template}});
    let reply = api.call(Method::POST, "/v1/executions", Some(&body)).await?;
    assert_eq!(reply.status, 400, "{}", reply.text);
    ensure!(begin.elapsed() < Duration::from_secs(20), "evaluated for {:?}", begin.elapsed());

    let reply = api.raw(Method::POST, "/v1/executions", &Value::from("{\"action\": ")).await?;
    assert_eq!(reply.status, 400, "{}", reply.text);
    still_works(&node, &api).await
}

/// The node runs, answers and executes.
async fn still_works(node: &Node, api: &Api) -> Result<()> {
    let id = api.run("core.noop", json!({})).await?;
    assert_eq!(api.finished(&id, DEADLINE).await["status"], "succeeded");
    ensure!(node.resident() < MEMORY_LIMIT, "the node uses {} MB", node.resident() / 1_000_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_and_stubborn_actions() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;

    // 100 MB of output: ended, in bounded memory, all the while answering others.
    let flood = api.run("core.local", json!({"cmd": "head -c 100000000 /dev/zero | tr '\\0' 'x'"})).await?;
    let mut peak = 0;
    let ended = eventually("the flood ends", DEADLINE, || async {
        let execution = api.get(&format!("/v1/executions/{flood}")).await.ok()?;
        model::Status::parse(execution["status"].as_str()?)?.is_completed().then_some(execution)
    });
    tokio::pin!(ended);
    let execution = loop {
        tokio::select! {
            execution = &mut ended => break execution,
            () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(node.resident()),
        }
    };
    println!("flood ended {}, peak {} MB", execution["status"], peak / 1_000_000);
    ensure!(peak < MEMORY_LIMIT, "the node used {} MB", peak / 1_000_000);

    // Bytes that are no text.
    let id = api.run("core.local", json!({"cmd": "printf 'a\\377\\376b'"})).await?;
    let execution = api.finished(&id, DEADLINE).await;
    assert_eq!(execution["status"], "succeeded", "{execution}");
    let stdout = execution["result"]["stdout"].as_str().unwrap_or_default();
    assert!(stdout.starts_with('a') && stdout.ends_with('b'), "{stdout:?}");

    // A process that ignores SIGTERM, with a child that does as well, ends at its timeout nevertheless.
    let marker = node.data_dir.join("stubborn");
    let command = format!(
        "trap '' TERM; (trap '' TERM; while true; do date > {m}; sleep 0.1; done) & while true; do sleep 0.1; done",
        m = marker.display()
    );
    let id = api.run("core.local", json!({"cmd": command, "timeout": 1})).await?;
    let execution = api.finished(&id, DEADLINE).await;
    assert_eq!(execution["status"], "timeout", "{execution}");
    eventually("its children are gone", DEADLINE, || async {
        let _ = std::fs::remove_file(&marker);
        tokio::time::sleep(Duration::from_millis(400)).await;
        (!marker.exists()).then_some(())
    })
    .await;

    // Canceled: the whole group is gone as well.
    let command = format!("while true; do date > {}; sleep 0.1; done", marker.display());
    let id = api.run("core.local", json!({"cmd": command})).await?;
    eventually("it runs", DEADLINE, || async { marker.exists().then_some(()) }).await;
    let reply = api.call(Method::DELETE, &format!("/v1/executions/{id}"), None).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(api.finished(&id, DEADLINE).await["status"], "canceled");
    let _ = std::fs::remove_file(&marker);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!marker.exists(), "the canceled process still runs");
    still_works(&node, &api).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_credentials_are_refused_and_not_logged() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let secret = "0123456789abcdef-this-must-not-be-logged";

    let mut stranger = Api::anonymous(&node.base);
    let reply = stranger.call(Method::GET, "/v1/actions", None).await?;
    assert_eq!((reply.status, fault(&reply).as_str()), (401, "Unauthorized - One of Token or API key required."));
    stranger.token = secret.to_owned();
    assert_eq!(stranger.call(Method::GET, "/v1/actions", None).await?.status, 401);
    stranger.token = String::new();
    let reply = stranger.call(Method::GET, &format!("/v1/actions?st2-api-key={secret}"), None).await?;
    assert_eq!(reply.status, 401, "{}", reply.text);
    let reply = stranger.call(Method::GET, &format!("/v1/actions?x-auth-token={secret}"), None).await?;
    assert_eq!(reply.status, 401, "{}", reply.text);
    assert!(Api::login(&node.base, "st2admin", secret).await.is_err());
    assert!(Api::login(&node.base, "nobody", secret).await.is_err());

    // A token that was good until it expired.
    let short = api.token_with_ttl("st2admin", node.password(), 1).await?;
    eventually("the token expires", DEADLINE, || async {
        let reply = short.call(Method::GET, "/v1/actions?limit=1", None).await.ok()?;
        (reply.status == 401).then_some(fault(&reply))
    })
    .await;

    // A disabled API key.
    let created = api.post("/v1/apikeys", &json!({"user": "st2admin", "metadata": {}})).await?;
    let (id, key) = (created["id"].as_str().context("no id")?, created["key"].as_str().context("no key")?);
    let with_key = format!("/v1/actions?limit=1&st2-api-key={key}");
    assert_eq!(stranger.call(Method::GET, &with_key, None).await?.status, 200);
    let body = json!({"id": id, "user": "st2admin", "enabled": false, "metadata": {}});
    let reply = api.call(Method::PUT, &format!("/v1/apikeys/{id}"), Some(&body)).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = stranger.call(Method::GET, &with_key, None).await?;
    assert_eq!((reply.status, fault(&reply).as_str()), (401, "Unauthorized - API key is disabled."));

    // Files outside of a pack.
    for path in ["../pack.yaml", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "%00"] {
        let reply = api.call(Method::GET, &format!("/v1/packs/views/file/core/{path}"), None).await?;
        assert!((400..500).contains(&reply.status), "{path}: {} {}", reply.status, reply.text);
        assert!(!reply.text.contains("root:"), "{path}");
    }

    let log = node.log();
    for secret in [secret, key, api.token.as_str(), node.password()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    still_works(&node, &api).await
}

/// A small tmpfs, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_heals() -> Result<()> {
    let Some(disk) = SmallDisk::mount(48) else {
        eprintln!("SKIPPED: mounting a tmpfs is not permitted here");
        return Ok(());
    };
    let data = disk.0.path().join("data");
    std::fs::create_dir_all(&data)?;
    let mut node = Node::start_in(&data, NodeOptions::default()).await?;
    let api = node.admin().await?;
    let filler = disk.0.path().join("filler");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).output();

    // Sooner or later a write doesn't fit: it is refused with a server's error, never acknowledged and lost.
    let mut acknowledged = Vec::new();
    let refused = eventually("a write is refused", DEADLINE, || async {
        let body = json!({"action": "core.noop", "parameters": {}});
        let reply = api.call(Method::POST, "/v1/executions", Some(&body)).await.ok()?;
        if reply.status == 201 {
            return Some(Err(reply.json["id"].as_str()?.to_owned()));
        }
        Some(Ok(reply))
    });
    let mut next = Some(refused.await);
    let begin = Instant::now();
    let refused = loop {
        match next.take().context("no answer")? {
            Ok(reply) => break reply,
            Err(id) => acknowledged.push(id),
        }
        ensure!(begin.elapsed() < DEADLINE, "the disk never filled up");
        let body = json!({"action": "core.noop", "parameters": {}});
        let reply = api.call(Method::POST, "/v1/executions", Some(&body)).await?;
        let id = reply.json["id"].as_str().map(str::to_owned);
        next = Some(if reply.status == 201 { Err(id.context("no id")?) } else { Ok(reply) });
    };
    println!("refused after {} executions: {} {}", acknowledged.len(), refused.status, refused.text);
    assert!([503, 507].contains(&refused.status), "{} {}", refused.status, refused.text);
    let reply = api.call(Method::GET, "/v1/actions?limit=1", None).await?;
    assert_eq!(reply.status, 200, "reads go on: {}", reply.text);

    std::fs::remove_file(&filler)?;
    eventually("it works again", DEADLINE, || async { api.run("core.noop", json!({})).await.ok() }).await;
    for id in &acknowledged {
        assert_eq!(api.finished(id, DEADLINE).await["status"], "succeeded");
    }
    node.kill();
    node.restart().await?;
    let mut api = api;
    api.base.clone_from(&node.base);
    still_works(&node, &api).await
}
