//! Sensors of a stranger's pack on a real node: events, datastore, disabling, new code, the node's end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use e2e::{Api, Node, NodeOptions, binary, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(30);

const COUNTER: &str = "\
import os

from st2reactor.sensor.base import PollingSensor


class Counter(PollingSensor):
    def setup(self):
        self.set_poll_interval(0.05)

    def poll(self):
        count = int(self.sensor_service.get_value('count') or 0) + 1
        user = self.sensor_service.get_user_info()['username']
        payload = {'count': count, 'pid': os.getpid(), 'user': user, 'version': VERSION}
        self.sensor_service.dispatch('stranger.counted', payload)
        self.sensor_service.set_value('count', count)

    def cleanup(self):
        pass

    def add_trigger(self, trigger):
        pass

    def update_trigger(self, trigger):
        pass

    def remove_trigger(self, trigger):
        pass
";

const METADATA: &str = "\
class_name: Counter
entry_point: counter.py
description: Counts.
poll_interval: 5
trigger_types:
  - name: counted
    payload_schema: {type: object}
";

fn write_code(data: &Path, version: u64) -> Result<()> {
    Ok(std::fs::write(
        data.join("packs/stranger/sensors/counter.py"),
        COUNTER.replace("VERSION", &version.to_string()),
    )?)
}

fn write_pack(data: &Path) -> Result<()> {
    let pack = data.join("packs/stranger");
    std::fs::create_dir_all(pack.join("sensors"))?;
    std::fs::write(
        pack.join("pack.yaml"),
        "ref: stranger\nname: stranger\ndescription: d\nversion: 1.0.0\nauthor: a\nemail: a@example.com\n",
    )?;
    std::fs::write(pack.join("sensors/counter.yaml"), METADATA)?;
    write_code(data, 1)
}

/// Payloads of the events, oldest first.
async fn events(api: &Api) -> Vec<Value> {
    let path = "/v1/triggerinstances?trigger=stranger.counted&limit=100";
    let Ok(found) = api.get(path).await else { return Vec::new() };
    let mut found = found.as_array().cloned().unwrap_or_default();
    found.sort_by_key(|instance| instance["occurrence_time"].as_str().map(str::to_owned));
    found.into_iter().map(|mut instance| instance["payload"].take()).collect()
}

async fn event(api: &Api, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, DEADLINE, || async { events(api).await.into_iter().rfind(&is) }).await
}

fn exists(pid: &Value) -> bool {
    Path::new(&format!("/proc/{pid}")).is_dir()
}

async fn enable(api: &Api, enabled: bool) -> Result<()> {
    let body = json!({"enabled": enabled});
    let reply = api.call(reqwest::Method::PUT, "/v1/sensortypes/stranger.Counter", Some(&body)).await?;
    anyhow::ensure!(reply.status == 200, "{}", reply.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_sensor_runs_as_the_api_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_pack(dir.path())?;
    let mut node = Node::start_in(dir.path(), NodeOptions::default()).await?;
    let api = node.admin().await?;
    api.post("/v1/packs/register", &json!({"packs": ["stranger"], "types": ["all"]})).await?;
    let first = event(&api, "three events", |event| event["count"].as_u64() >= Some(3)).await;
    assert_eq!((&first["user"], &first["version"]), (&json!("sensor_service"), &json!(1)));
    let pid = first["pid"].clone();

    let state = |api: Api, wanted: &'static str| async move {
        let found = api.get("/v1/sensortypes/stranger.Counter/state").await.ok()?;
        (found["state"] == wanted).then_some(found)
    };
    let running = eventually("its state is told", DEADLINE, || state(api.clone(), "running")).await;
    assert_eq!((&running["pid"], &running["ref"]), (&pid, &json!("stranger.Counter")));
    let all = api.get("/v1/sensor_states").await?;
    assert!(all.as_array().is_some_and(|all| all.contains(&running)), "{all}");

    let shown = Command::new(binary("st2"))
        .args(["--api-url", &format!("{}/api/v1", node.base), "sensor", "state", "stranger.Counter", "-t"])
        .arg(&api.token)
        .output()?;
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && text.contains("running"), "{text}{}", String::from_utf8_lossy(&shown.stderr));

    enable(&api, false).await?;
    eventually("disabled, it ends", DEADLINE, || async { (!exists(&pid)).then_some(()) }).await;
    enable(&api, true).await?;
    let second = event(&api, "enabled, it goes on", |event| event["pid"] != pid).await;
    assert!(second["count"].as_u64() > first["count"].as_u64(), "it knows where it was");

    write_code(dir.path(), 2)?;
    api.post("/v1/packs/register", &json!({"packs": ["stranger"], "types": ["all"]})).await?;
    let third = eventually("new code runs", Duration::from_secs(60), || async {
        events(&api).await.into_iter().rfind(|event| event["version"] == 2)
    })
    .await;

    // Whatever way the node ends, its sensors end with it.
    node.kill();
    eventually("killed with the node", DEADLINE, || async { (!exists(&third["pid"])).then_some(()) }).await;
    node.restart().await?;
    let api = node.admin().await?;
    let fourth = event(&api, "it runs again", |event| event["pid"] != third["pid"] && event["version"] == 2).await;
    assert!(fourth["count"].as_u64() >= third["count"].as_u64());
    // A node that stands still can't end it: it ends by itself when its lease is over.
    node.signal(Signal::SIGSTOP);
    eventually("ended by itself", DEADLINE, || async { (!exists(&fourth["pid"])).then_some(()) }).await;
    node.signal(Signal::SIGCONT);
    event(&api, "the node goes on", |event| event["pid"] != fourth["pid"] && event["pid"] != third["pid"]).await;
    node.stop(Duration::from_secs(30)).await?;
    Ok(())
}

/// Single-sensor mode: one sensor, though it is disabled, whose end is the node's.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_for_one_sensor_ends_with_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_pack(dir.path())?;
    let mut node = Node::start_in(dir.path(), NodeOptions::default()).await?;
    let api = node.admin().await?;
    api.post("/v1/packs/register", &json!({"packs": ["stranger"], "types": ["all"]})).await?;
    enable(&api, false).await?;
    node.stop(DEADLINE).await?;

    let options = NodeOptions { env: vec![("SQUALL_SENSORS__ONLY".to_owned(), "stranger.Counter".to_owned())] };
    let mut node = Node::start_in(dir.path(), options).await?;
    let api = node.admin().await?;
    let pid = eventually("it runs", DEADLINE, || async {
        let found = api.get("/v1/sensortypes/stranger.Counter/state").await.ok()?;
        (found["state"] == "running").then(|| found["pid"].as_i64()).flatten()
    })
    .await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
    assert_eq!(node.ended(DEADLINE).await?.code(), Some(128 + 9), "{}", node.log());

    let code = COUNTER.replace("count = int", "os._exit(7)\n        count = int").replace("VERSION", "1");
    std::fs::write(dir.path().join("packs/stranger/sensors/counter.py"), code)?;
    let alone = |sensor: &str| {
        Command::new(binary("squall"))
            .args(["dev", "--listen", "127.0.0.1:0", "--sensor-ref", sensor, "--data-dir"])
            .arg(dir.path())
            .output()
    };
    assert_eq!(alone("stranger.Counter")?.status.code(), Some(7));
    let unknown = alone("stranger.Nobody")?;
    assert_eq!(unknown.status.code(), Some(1));
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("stranger.Nobody"), "{text}");
    Ok(())
}
