//! Nodes are killed, paused, cut off and restarted under load; the invariants of DESIGN §8 hold.
//!
//! `SQUALL_TEST_SEED` replays the choices of a run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::lab::{Backend, Lab, LabOptions, Load, LoadOptions, checks};
use e2e::{Api, eventually, seed};
use model::{Clock, SystemClock};
use nix::sys::signal::Signal;
use serde_json::Value;

const THRESHOLD: usize = 2;
/// E1: after the last fault is healed.
const SETTLE: Duration = Duration::from_secs(30);

/// A lost runner's executions are decided so soon (debug build, busy machine; 5 s is the promise).
const DECIDED: Duration = Duration::from_secs(7);

struct Scene {
    lab: Lab,
    clients: Vec<Api>,
    /// When nodes were lost, µs.
    faults: Vec<i64>,
}

impl Scene {
    async fn open(backend: Backend) -> Result<Option<Self>> {
        let Some(lab) = Lab::start(LabOptions { backend, ..LabOptions::default() }).await? else { return Ok(None) };
        let mut clients = Vec::new();
        for index in 0..3 {
            clients.push(lab.admin(index).await);
        }
        checks::create_limited_action(&clients[0], THRESHOLD as u64).await?;
        for index in 0..2 {
            checks::create_timer_rule(&clients[0], index, index as u64 + 1).await?;
        }
        Ok(Some(Self { lab, clients, faults: Vec::new() }))
    }

    fn lost(&mut self) {
        self.faults.push(SystemClock.now().micros());
    }

    fn kill(&mut self, index: usize) {
        self.lost();
        self.lab.kill(index);
    }

    fn load(&self, seed: u64) -> Load {
        Load::start(LoadOptions {
            clients: self.clients.clone(),
            workers: 4,
            journal: self.lab.dir.join("journal"),
            pause: Duration::from_millis(20),
            limited_every: 5,
            seed,
        })
    }

    /// The leader (or a duty's holder) as any reachable node but `except` names it.
    async fn find(&self, what: &str, except: Option<usize>) -> usize {
        eventually(what, Duration::from_secs(15), || async {
            for (index, api) in self.clients.iter().enumerate() {
                if Some(index) == except || !self.lab.nodes[index].is_up() {
                    continue;
                }
                let found = match what {
                    "leader" => self.lab.leader(api).await,
                    duty => self.lab.holder(api, duty).await,
                };
                if let Some(found) = found.filter(|found| Some(*found) != except) {
                    return Some(found);
                }
            }
            None
        })
        .await
    }

    /// Work goes on: so many more executions are acknowledged.
    async fn goes_on(&self, load: &Load, what: &str) {
        let before = load.acknowledged();
        eventually(&format!("work goes on after: {what}"), Duration::from_secs(20), || async {
            (load.acknowledged() >= before + 20).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_nodes_lose_and_double_nothing() -> Result<()> {
    let seed = seed();
    let Some(mut scene) = Scene::open(Backend::Raft).await? else { return Ok(()) };
    let load = scene.load(seed);
    scene.goes_on(&load, "the start").await;

    // The leader is killed, twice.
    for _ in 0..2 {
        let leader = scene.find("leader", None).await;
        let begin = Instant::now();
        scene.kill(leader);
        let next = scene.find("leader", Some(leader)).await;
        println!("leader n{} killed, n{} leads after {:?}", leader + 1, next + 1, begin.elapsed());
        scene.goes_on(&load, "leader killed").await;
        scene.lab.restart(leader).await?;
    }
    // Each duty's holder is killed.
    for duty in ["timers", "backup-scheduler", "garbage-collector"] {
        let holder = scene.find(duty, None).await;
        let begin = Instant::now();
        scene.kill(holder);
        let next = scene.find(duty, Some(holder)).await;
        println!("{duty} moved from n{} to n{} after {:?}", holder + 1, next + 1, begin.elapsed());
        scene.goes_on(&load, "holder killed").await;
        scene.lab.restart(holder).await?;
    }
    // One that holds the timers is paused, and wakes up believing it still does.
    let holder = scene.find("timers", None).await;
    scene.lost();
    scene.lab.signal(holder, Signal::SIGSTOP);
    let next = scene.find("timers", Some(holder)).await;
    println!("timers moved from the paused n{} to n{}", holder + 1, next + 1);
    scene.goes_on(&load, "holder paused").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.lab.signal(holder, Signal::SIGCONT);
    scene.lab.wait_ready(holder, Duration::from_secs(30)).await;
    // The leader is cut off from the other nodes (not from the servers): the minority side.
    let leader = scene.find("leader", None).await;
    let others = scene.lab.others(leader);
    scene.lost();
    scene.lab.network.cut(leader, &others)?;
    let next = scene.find("leader", Some(leader)).await;
    println!("n{} was cut off, n{} leads", leader + 1, next + 1);
    scene.goes_on(&load, "leader cut off").await;
    not_ready(&scene.clients[leader], "raft").await;
    scene.lab.network.heal(leader)?;
    scene.lab.wait_ready(leader, Duration::from_secs(30)).await;
    // One node hears nothing, but is heard (asymmetric).
    let deaf = scene.find("timers", None).await;
    scene.lost();
    scene.lab.network.deafen(deaf, &scene.lab.others(deaf))?;
    scene.goes_on(&load, "one node deaf").await;
    scene.lab.network.heal(deaf)?;
    // All three lose their power at once.
    for index in 0..3 {
        scene.kill(index);
    }
    for index in 0..3 {
        scene.lab.launch(index)?;
    }
    for index in 0..3 {
        scene.lab.wait_ready(index, Duration::from_secs(60)).await;
    }
    scene.goes_on(&load, "all restarted").await;

    let history = load.stop().await;
    println!("{} acknowledged of {} calls, {} refused", history.executions.len(), history.calls, history.refused.len());
    checks::no_lies(&history)?;
    let ends = checks::executions_ended(&scene.clients[0], &history, SETTLE).await?;
    println!("ends: {ends:?}");
    let decided = checks::decided_after(&scene.clients[0], &scene.faults).await?;
    println!("abandoned after their node was lost: {decided:?}");
    assert!(decided.last().is_none_or(|longest| *longest <= DECIDED), "{decided:?}");
    checks::keys_kept(&scene.clients[1], &history).await?;
    let journal = scene.lab.dir.join("journal");
    println!("{} local actions, each started once", checks::attempts_started_once(&journal)?);
    checks::limit_held(&journal.with_extension("limited"), THRESHOLD)?;
    for index in 0..2 {
        let slots = checks::slots_fired_once(&scene.clients[2], index, index as u64 + 1, 10).await?;
        println!("timer {index}: {} slots, each fired once", slots.at.len());
    }
    equal_states(&scene).await
}

/// Readiness names what is missing.
async fn not_ready(api: &Api, what: &str) {
    eventually(&format!("readiness says that {what} is missing"), Duration::from_secs(10), || async {
        let reply = api.health("ready").await.ok()?;
        (reply.status == 503 && reply.text.contains(what)).then_some(())
    })
    .await;
}

/// K3: all replicas have the same hash at the same index.
async fn equal_states(scene: &Scene) -> Result<()> {
    let all: Vec<Value> = eventually("the replicas are equal", Duration::from_secs(10), || async {
        let mut seen = Vec::new();
        for api in &scene.clients {
            seen.push(scene.lab.status(api).await?);
        }
        let same_index = seen.windows(2).all(|pair| pair[0]["applied"] == pair[1]["applied"]);
        same_index.then_some(seen)
    })
    .await;
    let hash = all[0]["state_hash"].as_str().context("no hash")?;
    for status in &all {
        assert_eq!(status["state_hash"], hash, "{all:#?}");
    }
    Ok(())
}
