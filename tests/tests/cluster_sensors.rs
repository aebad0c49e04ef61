//! Sensors of a cluster: spread over the nodes, moved when one is lost, and never with two owners whose events count (S1).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use e2e::lab::{Lab, LabOptions};
use e2e::{Api, eventually};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

const COUNT: usize = 6;
/// Ticks after which a sensor that runs would have ticked too.
const OFTEN: usize = 10;
/// A sensor runs again so soon after its node died (spec/ha.md I-S2), debug build and busy machine included. The figure
/// itself is printed.
const MOVED: Duration = Duration::from_secs(15);

const CODE: &str = "
import os, time
from st2reactor.sensor.base import PollingSensor


class Ticking(PollingSensor):
    def setup(self):
        self.set_poll_interval(0.1)

    def poll(self):
        payload = {'sensor': type(self).__name__, 'pid': os.getpid()}
        self.sensor_service.dispatch('lab.tick', payload)

    def cleanup(self): pass
    def add_trigger(self, trigger): pass
    def update_trigger(self, trigger): pass
    def remove_trigger(self, trigger): pass


for number in range(10):
    globals()['S%d' % number] = type('S%d' % number, (Ticking,), {})
";

fn write_pack(data: &Path) -> Result<()> {
    let sensors = data.join("packs/lab/sensors");
    std::fs::create_dir_all(&sensors)?;
    std::fs::write(
        data.join("packs/lab/pack.yaml"),
        "ref: lab\nname: lab\ndescription: d\nversion: 1.0.0\nauthor: a\nemail: a@example.com\n",
    )?;
    std::fs::write(sensors.join("ticking.py"), CODE)?;
    for number in 0..COUNT {
        let metadata = format!(
            "class_name: S{number}\nentry_point: ticking.py\npoll_interval: 5\ntrigger_types:\n  - name: tick\n    \
             payload_schema: {{type: object}}\n"
        );
        std::fs::write(sensors.join(format!("s{number}.yaml")), metadata)?;
    }
    Ok(())
}

/// One accepted event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Tick {
    at: DateTime<Utc>,
    sensor: String,
    pid: i64,
}

/// All events from then on, oldest first.
async fn ticks(api: &Api, since: DateTime<Utc>) -> Result<Vec<Tick>> {
    let mut found = Vec::new();
    let since = since.format("%Y-%m-%dT%H:%M:%S.000000Z");
    loop {
        let offset = found.len();
        let path = format!("/v1/triggerinstances?trigger=lab.tick&timestamp_gt={since}&limit=100&offset={offset}");
        let page = api.get(&path).await?;
        let page = page.as_array().context("a list")?;
        for one in page {
            found.push(Tick {
                at: one["occurrence_time"].as_str().context("a time")?.parse()?,
                sensor: one["payload"]["sensor"].as_str().context("a sensor")?.to_owned(),
                pid: one["payload"]["pid"].as_i64().context("a pid")?,
            });
        }
        if page.len() < 100 {
            found.sort();
            return Ok(found);
        }
    }
}

/// Sensors of this pack by the name of their node, once all have one.
async fn owners(lab: &Lab, api: &Api, except: Option<usize>) -> BTreeMap<String, String> {
    eventually("all sensors have a node", Duration::from_secs(30), || async {
        let status = lab.status(api).await?;
        let mut owners = BTreeMap::new();
        for sensor in status["partitions"].as_array()? {
            let name = sensor["sensor"].as_str()?.strip_prefix("lab.");
            if let (Some(name), Some(node)) = (name, sensor["node"].as_str()) {
                owners.insert(name.to_owned(), node.to_owned());
            }
        }
        let lost = except.map(|index| lab.nodes[index].name.as_str());
        (owners.len() == COUNT && !owners.values().any(|node| Some(node.as_str()) == lost)).then_some(owners)
    })
    .await
}

/// The last process of each sensor.
async fn pids(api: &Api) -> Result<BTreeMap<String, i64>> {
    let recent = ticks(api, Utc::now() - chrono::Duration::seconds(3)).await?;
    Ok(recent.into_iter().map(|tick| (tick.sensor, tick.pid)).collect())
}

/// When each of these sensors first spoke after another process than the given one.
async fn moved(api: &Api, before: &BTreeMap<String, i64>, since: DateTime<Utc>) -> BTreeMap<String, Duration> {
    eventually("the sensors run elsewhere", Duration::from_secs(30), || async {
        let ticks = ticks(api, since).await.ok()?;
        let mut moved = BTreeMap::new();
        for (sensor, pid) in before {
            let first = ticks.iter().find(|tick| tick.sensor == *sensor && tick.pid != *pid)?;
            moved.insert(sensor.clone(), (first.at - since).to_std().unwrap_or_default());
        }
        Some(moved)
    })
    .await
}

/// S1: no event of a process lies between or after those of a later one.
fn one_after_the_other(ticks: &[Tick]) {
    let mut by_sensor: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for tick in ticks {
        let pids = by_sensor.entry(tick.sensor.as_str()).or_default();
        if pids.last() != Some(&tick.pid) {
            pids.push(tick.pid);
        }
    }
    for (sensor, pids) in by_sensor {
        let distinct: BTreeSet<&i64> = pids.iter().collect();
        assert_eq!(distinct.len(), pids.len(), "{sensor} had two owners at a time: {pids:?}");
        println!("{sensor}: {} processes, one after the other", pids.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_move_with_their_nodes_and_have_one_owner() -> Result<()> {
    let Some(mut lab) = Lab::start(LabOptions::default()).await? else { return Ok(()) };
    let begin = Utc::now();
    for node in &lab.nodes {
        write_pack(&node.dir.join("data"))?;
    }
    let apis = [lab.admin(0).await, lab.admin(1).await, lab.admin(2).await];
    apis[0].post("/v1/packs/register", &json!({"packs": ["lab"], "types": ["all"]})).await?;
    let spread = owners(&lab, &apis[0], None).await;
    let nodes: BTreeSet<&String> = spread.values().collect();
    assert_eq!(nodes.len(), 3, "they are spread: {spread:?}");
    eventually("all sensors run", Duration::from_secs(30), || async {
        (pids(&apis[0]).await.ok()?.len() == COUNT).then_some(())
    })
    .await;

    // Each node dies once.
    for lost in 0..3 {
        let other = &apis[(lost + 1) % 3];
        let mine = of_node(&lab, other, lost, &pids(other).await?).await;
        let since = Utc::now();
        lab.kill(lost);
        let moved = moved(other, &mine, since).await;
        let latest = moved.values().max().copied().unwrap_or_default();
        println!("n{} killed: {} sensors run elsewhere after {latest:?} at the latest", lost + 1, moved.len());
        assert!(latest <= MOVED, "{moved:?}");
        lab.restart(lost).await?;
        settled(&lab, other).await;
    }
    // One stands still for ten seconds, and goes on believing that the sensors are its own.
    let mine = of_node(&lab, &apis[1], 0, &pids(&apis[1]).await?).await;
    let since = Utc::now();
    let paused = Instant::now();
    lab.signal(0, Signal::SIGSTOP);
    let moved_in = moved(&apis[1], &mine, since).await;
    println!("n1 paused: {:?} at the latest", moved_in.values().max());
    for (sensor, pid) in &mine {
        assert!(!Path::new(&format!("/proc/{pid}")).is_dir(), "{sensor}'s process outlived its lease");
    }
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(paused.elapsed())).await;
    lab.signal(0, Signal::SIGCONT);
    lab.wait_ready(0, Duration::from_secs(30)).await;
    settled(&lab, &apis[1]).await;
    // One is cut off from the others, not from the servers: it could still store events.
    let mine = of_node(&lab, &apis[0], 1, &pids(&apis[0]).await?).await;
    let since = Utc::now();
    let others = lab.others(1);
    lab.network.cut(1, &others)?;
    let moved_in = moved(&apis[0], &mine, since).await;
    println!("n2 cut off: {:?} at the latest", moved_in.values().max());
    lab.network.heal(1)?;
    settled(&lab, &apis[0]).await;
    // A planned stop hands them over.
    let mine = of_node(&lab, &apis[0], 2, &pids(&apis[0]).await?).await;
    let since = Utc::now();
    lab.stop(2, Duration::from_secs(60)).await?;
    let moved_in = moved(&apis[0], &mine, since).await;
    println!("n3 stopped: {:?} at the latest", moved_in.values().max());

    one_after_the_other(&ticks(&apis[0], begin).await?);
    Ok(())
}

/// StackStorm's static partitions: here by the datastore.
#[tokio::test(flavor = "multi_thread")]
async fn pinned_sensors_run_on_their_node_or_not_at_all() -> Result<()> {
    let config = vec![("sensors", "partition_provider = \"kvstore\"".to_owned())];
    let Some(mut lab) = Lab::start(LabOptions { config, ..LabOptions::default() }).await? else { return Ok(()) };
    for node in &lab.nodes {
        write_pack(&node.dir.join("data"))?;
    }
    let (api, other) = (lab.admin(0).await, lab.admin(1).await);
    for (node, sensors) in [("n1", "lab.S0, lab.S1,lab.S2,lab.S3"), ("n2", "lab.S4")] {
        let name = format!("{node}.sensor_partition");
        let reply =
            api.call(Method::PUT, &format!("/v1/keys/{name}"), Some(&json!({"name": name, "value": sensors}))).await?;
        anyhow::ensure!(reply.status == 200, "{}", reply.status);
    }
    api.post("/v1/packs/register", &json!({"packs": ["lab"], "types": ["all"]})).await?;
    let pinned = |owners: &BTreeMap<String, String>| {
        (0..4).all(|number| owners[&format!("S{number}")] == "n1") && owners["S4"] == "n2"
    };
    eventually("they are where they belong", Duration::from_secs(60), || async {
        pinned(&owners(&lab, &api, None).await).then_some(())
    })
    .await;
    lab.kill(0);
    // S5 is nobody's in particular.
    let waiting = eventually("they wait for their node", Duration::from_secs(30), || async {
        let status = lab.status(&other).await?;
        let free = status["partitions"].as_array()?.iter().filter(|sensor| sensor["node"].is_null());
        let free: Vec<String> = free.filter_map(|sensor| Some(sensor["sensor"].as_str()?.to_owned())).collect();
        (free.len() == 4).then_some(free)
    })
    .await;
    assert_eq!(waiting, ["lab.S0", "lab.S1", "lab.S2", "lab.S3"]);
    let since = Utc::now();
    let heard = eventually("the others go on", Duration::from_secs(60), || async {
        let heard = ticks(&other, since).await.ok()?;
        let often = |sensor: &str| heard.iter().filter(|tick| tick.sensor == sensor).count() >= OFTEN;
        (often("S4") && often("S5")).then_some(heard)
    })
    .await;
    let speaking: BTreeSet<&str> = heard.iter().map(|tick| tick.sensor.as_str()).collect();
    assert_eq!(speaking, BTreeSet::from(["S4", "S5"]));
    lab.restart(0).await?;
    eventually("they are back", Duration::from_secs(60), || async {
        pinned(&owners(&lab, &other, None).await).then_some(())
    })
    .await;
    Ok(())
}

/// The processes of the sensors that a node owns.
async fn of_node(lab: &Lab, api: &Api, index: usize, pids: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let owners = owners(lab, api, None).await;
    let name = &lab.nodes[index].name;
    let mine = owners.iter().filter(|(_, node)| *node == name);
    mine.filter_map(|(sensor, _)| Some((sensor.clone(), *pids.get(sensor)?))).collect()
}

/// Every node has sensors again, and each of them speaks.
async fn settled(lab: &Lab, api: &Api) {
    eventually("the sensors are spread and speak", Duration::from_secs(60), || async {
        let status: Value = lab.status(api).await?;
        let sensors = status["partitions"].as_array()?;
        let nodes: BTreeSet<&str> = sensors.iter().filter_map(|sensor| sensor["node"].as_str()).collect();
        let calm = sensors.iter().all(|sensor| sensor["moves"] == false && sensor["node"].is_string());
        let recent = ticks(api, Utc::now() - chrono::Duration::milliseconds(1500)).await.ok()?;
        let mut speaking: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for tick in &recent {
            speaking.entry(&tick.sensor).or_default().insert(tick.pid);
        }
        // Where two processes spoke, one was that of the owner before.
        let alone = speaking.values().all(|pids| pids.len() == 1);
        (nodes.len() == 3 && calm && speaking.len() == COUNT && alone).then_some(())
    })
    .await;
}

/// A node for one sensor: it runs that one and no other, though it is disabled, and no other node does.
#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_with_a_node_of_its_own() -> Result<()> {
    let Some(mut lab) = Lab::start(LabOptions::default()).await? else { return Ok(()) };
    for node in &lab.nodes {
        write_pack(&node.dir.join("data"))?;
    }
    let api = lab.admin(0).await;
    api.post("/v1/packs/register", &json!({"packs": ["lab"], "types": ["all"]})).await?;
    settled(&lab, &api).await;

    lab.stop(2, Duration::from_secs(60)).await?;
    lab.nodes[2].sensor_ref = Some("lab.S0".to_owned());
    lab.restart(2).await?;
    eventually("S0 has its node, and the node has S0", Duration::from_secs(60), || async {
        let owners = owners(&lab, &api, None).await;
        owners.iter().all(|(sensor, node)| (sensor == "S0") == (node == "n3")).then_some(())
    })
    .await;
    let since = Utc::now() + chrono::Duration::seconds(1);
    let pid = eventually("it speaks from there", Duration::from_secs(60), || async {
        let heard = ticks(&api, since).await.ok()?;
        let mine: BTreeSet<i64> = heard.iter().filter(|tick| tick.sensor == "S0").map(|tick| tick.pid).collect();
        (mine.len() == 1).then(|| mine.first().copied()).flatten()
    })
    .await;
    // Its end is the node's; others take it over, for it is enabled.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
    eventually("another node has S0", Duration::from_secs(60), || async {
        let owners = owners(&lab, &api, None).await;
        (owners["S0"] != "n3").then_some(())
    })
    .await;
    lab.kill(2);

    let body = json!({"enabled": false});
    let reply = api.call(Method::PUT, "/v1/sensortypes/lab.S5", Some(&body)).await?;
    anyhow::ensure!(reply.status == 200, "{}", reply.text);
    lab.nodes[2].sensor_ref = Some("lab.S5".to_owned());
    lab.restart(2).await?;
    let owners = eventually("the disabled one runs on its node", Duration::from_secs(60), || async {
        let owners = owners(&lab, &api, None).await;
        (owners["S5"] == "n3").then_some(owners)
    })
    .await;
    assert_eq!(owners.values().filter(|node| *node == "n3").count(), 1, "{owners:?}");
    let since = Utc::now();
    eventually("and speaks", Duration::from_secs(60), || async {
        let heard = ticks(&api, since).await.ok()?;
        heard.iter().any(|tick| tick.sensor == "S5").then_some(())
    })
    .await;
    one_after_the_other(&ticks(&api, since).await?);
    Ok(())
}
