//! The servers that a cluster stands on fail under load: work resumes by itself, nothing is lost or doubled, readiness
//! says what is missing, and the API answers 503 meanwhile and never an empty 200 (A1).

use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::lab::{Backend, Lab, LabOptions, Load, LoadOptions, checks};
use e2e::{Api, eventually, seed};

const THRESHOLD: usize = 2;
const SETTLE: Duration = Duration::from_secs(30);

struct Scene {
    lab: Lab,
    clients: Vec<Api>,
    load: Load,
}

impl Scene {
    async fn open(options: LabOptions) -> Result<Option<Self>> {
        let Some(lab) = Lab::start(options).await? else { return Ok(None) };
        let mut clients = Vec::new();
        for index in 0..3 {
            clients.push(lab.admin(index).await);
        }
        checks::create_limited_action(&clients[0], THRESHOLD as u64).await?;
        checks::create_timer_rule(&clients[0], 0, 1).await?;
        let load = Load::start(LoadOptions {
            clients: clients.clone(),
            workers: 4,
            journal: lab.dir.join("journal"),
            pause: Duration::from_millis(20),
            limited_every: 4,
            seed: seed(),
        });
        let scene = Self { lab, clients, load };
        scene.goes_on("the start").await;
        Ok(Some(scene))
    }

    async fn goes_on(&self, after: &str) {
        let before = self.load.acknowledged();
        let begin = Instant::now();
        eventually(&format!("work goes on after: {after}"), Duration::from_secs(30), || async {
            (self.load.acknowledged() >= before + 20).then_some(())
        })
        .await;
        println!("{after}: 20 more acknowledged after {:?}", begin.elapsed());
    }

    /// `/healthz/ready` of every node is 503 and names the dependency.
    async fn all_miss(&self, what: &str) {
        for api in &self.clients {
            eventually(&format!("readiness says that {what} is missing"), Duration::from_secs(10), || async {
                let reply = api.health("ready").await.ok()?;
                (reply.status == 503 && reply.text.contains(what)).then_some(())
            })
            .await;
        }
    }

    async fn all_ready(&self) {
        for index in 0..3 {
            self.lab.wait_ready(index, Duration::from_secs(60)).await;
        }
    }

    async fn close(self) -> Result<()> {
        let Self { lab, clients, load } = self;
        let history = load.stop().await;
        println!(
            "{} acknowledged of {} calls, {} refused",
            history.executions.len(),
            history.calls,
            history.refused.len()
        );
        checks::no_lies(&history)?;
        let ends = checks::executions_ended(&clients[0], &history, SETTLE).await?;
        println!("ends: {ends:?}");
        // No node was touched: nothing may have been abandoned.
        assert_eq!(ends.keys().collect::<Vec<_>>(), ["succeeded"], "{ends:?}");
        checks::keys_kept(&clients[1], &history).await?;
        let journal = lab.dir.join("journal");
        println!("{} local actions, each started once", checks::attempts_started_once(&journal)?);
        checks::limit_held(&journal.with_extension("limited"), THRESHOLD)?;
        let slots = checks::slots_fired_once(&clients[2], 0, 1, 10).await?;
        println!("{} slots, each fired once", slots.at.len());
        Ok(())
    }
}

/// While the store is away every answer is a 503 with Retry-After.
async fn answers_503(api: &Api) {
    eventually("the API answers 503", Duration::from_secs(30), || async {
        let reply = api.get_raw("/v1/executions?limit=1").await.ok()?;
        (reply.status == 503 && reply.headers.contains_key("retry-after")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_changes_its_primary() -> Result<()> {
    let options = LabOptions { mongo_members: 3, ..LabOptions::default() };
    let Some(mut scene) = Scene::open(options).await? else { return Ok(()) };
    scene.lab.mongo.step_down()?;
    scene.goes_on("primary stepped down").await;
    let primary = scene.lab.mongo.wait_for_primary()?;
    scene.lab.mongo.members[primary].process.kill()?;
    scene.goes_on("primary killed").await;
    scene.lab.mongo.members[primary].start()?;
    // Without a majority nothing can be written: the API says so, and comes back by itself.
    let primary = scene.lab.mongo.wait_for_primary()?;
    let others: Vec<usize> = (0..3).filter(|member| *member != primary).collect();
    for member in &others {
        scene.lab.mongo.members[*member].process.pause()?;
    }
    scene.all_miss("store").await;
    answers_503(&scene.clients[0]).await;
    for member in &others {
        scene.lab.mongo.members[*member].process.resume()?;
    }
    scene.all_ready().await;
    scene.goes_on("majority back").await;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_and_postgresql_come_and_go() -> Result<()> {
    let Some(mut scene) = Scene::open(LabOptions::default()).await? else { return Ok(()) };
    for away in [1, 30] {
        scene.lab.rabbit.process.kill()?;
        let begin = Instant::now();
        scene.all_miss("bus").await;
        tokio::time::sleep(Duration::from_secs(away).saturating_sub(begin.elapsed())).await;
        scene.lab.rabbit.start()?;
        scene.all_ready().await;
        scene.goes_on(&format!("RabbitMQ away for {away} s")).await;
    }
    scene.lab.postgres.stop_fast()?;
    scene.all_miss("workflow").await;
    scene.lab.postgres.start()?;
    scene.all_ready().await;
    scene.goes_on("PostgreSQL restarted").await;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_loses_its_memory() -> Result<()> {
    let options = LabOptions { backend: Backend::Redis, ..LabOptions::default() };
    let Some(mut scene) = Scene::open(options).await? else { return Ok(()) };
    for _ in 0..5 {
        if let Some(redis) = &scene.lab.redis {
            redis.command("FLUSHALL")?;
        }
        scene.goes_on("Redis flushed").await;
    }
    if let Some(redis) = &mut scene.lab.redis {
        redis.process.kill()?;
    }
    scene.all_miss("coordinator").await;
    // Only limited work waits.
    let id = scene.clients[0].run("core.noop", serde_json::json!({})).await?;
    scene.clients[1].finished(&id, Duration::from_secs(10)).await;
    if let Some(redis) = &mut scene.lab.redis {
        redis.start()?;
    }
    scene.all_ready().await;
    scene.goes_on("Redis restarted").await;
    scene.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn zookeeper_sessions_are_lost() -> Result<()> {
    let options = LabOptions { backend: Backend::ZooKeeper, ..LabOptions::default() };
    let Some(mut scene) = Scene::open(options).await? else { return Ok(()) };
    if let Some(zookeeper) = &scene.lab.zookeeper {
        // Longer than any session may last on this server.
        zookeeper.process.pause()?;
        scene.all_miss("coordinator").await;
        tokio::time::sleep(Duration::from_secs(11)).await;
        zookeeper.process.resume()?;
    }
    scene.all_ready().await;
    scene.goes_on("ZooKeeper paused for 11 s").await;
    if let Some(zookeeper) = &mut scene.lab.zookeeper {
        zookeeper.process.kill()?;
        zookeeper.start()?;
    }
    scene.all_ready().await;
    scene.goes_on("ZooKeeper restarted").await;
    scene.close().await
}
