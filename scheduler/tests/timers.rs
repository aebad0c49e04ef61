//! The timers engine on a real store.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::{Bench, Role, eventually, lease};
use model::timer::TimerCursor;
use model::{Duty, Id, Lease, Resource, Timestamp, Trigger, TriggerInstance};
use scheduler::{TimerSettings, TimersEngine};
use serde_json::json;
use store::{Batch, Fence, Query, StoreExt};
use tokio::sync::watch;

fn engine(bench: &Bench, leases: watch::Receiver<Option<Lease>>) -> Role {
    let settings = TimerSettings { cursor_interval: Duration::from_millis(500), ..TimerSettings::default() };
    let engine = TimersEngine::new(bench.services.clone(), settings, leases);
    Role::start(|cancel| engine.run(cancel))
}

fn is(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// Each slot from the first on has one instance; returns how many.
fn assert_series(trigger: &Trigger, instances: &[TriggerInstance], period: i64) -> usize {
    let mut slots: Vec<i64> = instances.iter().map(|instance| instance.occurrence_time.micros()).collect();
    slots.sort_unstable();
    let anchor = trigger.created_at.to_millis_precision().micros();
    for (index, slot) in slots.iter().enumerate() {
        let expected = anchor + (index as i64 + 1) * period;
        assert!((slot - expected).abs() < 2_000, "slot {index}: {slot} is not {expected}");
    }
    slots.len()
}

async fn trigger(bench: &Bench, reference: &str) -> Trigger {
    bench.services.store.first::<Trigger>(&Query::eq("ref", reference)).await.unwrap().unwrap().doc
}

/// C1 over restarts: the engine is aborted again and again; each slot has exactly one instance.
#[tokio::test]
async fn every_slot_fires_once_over_restarts() {
    let bench = Bench::new().await;
    let rule = bench.add_timer("each", model::timer::INTERVAL, json!({"unit": "seconds", "delta": 1})).await;
    let timer = trigger(&bench, &rule.trigger).await;
    let end = Instant::now() + Duration::from_secs(7);
    let mut epoch = 0;
    while Instant::now() < end {
        epoch += 1;
        let role = engine(&bench, lease(epoch));
        tokio::time::sleep(Duration::from_millis(300 + 170 * epoch % 900)).await;
        role.kill().await;
        tokio::time::sleep(Duration::from_millis(130 * epoch % 700)).await;
    }
    let role = engine(&bench, lease(epoch + 1));
    eventually("it caught up", || async { is(bench.instances_of(&rule.trigger).await.len() >= 7) }).await;
    role.stop().await;
    let instances = bench.instances_of(&rule.trigger).await;
    assert!(assert_series(&timer, &instances, 1_000_000) >= 7);
    let payload = &instances[0].payload;
    assert!(payload["executed_at"].as_str().unwrap().ends_with("+00:00") && payload["schedule"].is_null());
    assert_eq!(instances[0].trace_context.as_ref().unwrap()["trace_tag"], format!("st2.IntervalTimer-{}", timer.name));
    assert!(bench.services.store.read::<TimerCursor>(TimerCursor::only_id()).await.unwrap().is_some());
}

/// K2: who lost the duty fires nothing, and gives up.
#[tokio::test]
async fn a_deposed_holder_fires_nothing() {
    let bench = Bench::new().await;
    let rule = bench.add_timer("each", model::timer::INTERVAL, json!({"unit": "seconds", "delta": 1})).await;
    let mut newer = Batch::under(Fence { name: Duty::Timers.as_str().to_owned(), epoch: 7 });
    newer.insert(&TimerCursor::new(Timestamp::default()));
    bench.services.store.commit(newer).await.unwrap();
    let role = engine(&bench, lease(6));
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert_eq!(bench.instances_of(&rule.trigger).await.len(), 0);
    role.stop().await;
}

/// I-T6: timers that come and go while the engine works; the phase is the trigger's.
#[tokio::test]
async fn rules_that_come_and_go_are_followed() {
    let bench = Bench::new().await;
    let role = engine(&bench, lease(1));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rule = bench.add_timer("late", model::timer::INTERVAL, json!({"unit": "seconds", "delta": 1})).await;
    let soon = bench.services.now().plus(Duration::from_millis(800));
    let date = bench.add_timer("once", model::timer::DATE, json!({"date": soon.to_string(), "timezone": "UTC"})).await;
    let cron = bench.add_timer("cron", model::timer::CRON, json!({"second": "*", "timezone": "UTC"})).await;
    eventually("interval", || async { is(bench.instances_of(&rule.trigger).await.len() >= 2) }).await;
    eventually("cron", || async { is(bench.instances_of(&cron.trigger).await.len() >= 2) }).await;
    let fired = bench.instances_of(&date.trigger).await;
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].occurrence_time, soon.to_millis_precision());
    for instance in bench.instances_of(&cron.trigger).await {
        assert_eq!(instance.occurrence_time.micros() % 1_000_000, 0);
    }
    domain::rules::delete(&bench.services, rule.id).await.unwrap();
    domain::rules::delete(&bench.services, cron.id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = bench.total::<TriggerInstance>().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(bench.total::<TriggerInstance>().await, before);
    role.stop().await;
}

/// I-T3: due while nobody was at work.
#[tokio::test]
async fn a_date_that_passed_meanwhile_fires_once_on_recovery() {
    let bench = Bench::new().await;
    let soon = bench.services.now().plus(Duration::from_millis(300));
    let rule = bench.add_timer("once", model::timer::DATE, json!({"date": soon.to_string(), "timezone": "UTC"})).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for epoch in 1..4 {
        let role = engine(&bench, lease(epoch));
        eventually("it fires", || async { is(bench.instances_of(&rule.trigger).await.len() == 1) }).await;
        role.stop().await;
    }
    assert_eq!(bench.instances_of(&rule.trigger).await.len(), 1);
}

/// Run with `--release -- --ignored --nocapture`: 10,000 timers of their own, about 1,000 ticks a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn jitter_of_ten_thousand_timers() {
    let bench = Bench::durable().await;
    // No slot is due before the engine starts.
    let now = bench.services.now().plus(Duration::from_secs(5));
    let mut ids = HashSet::new();
    for chunk in 0..10u64 {
        let mut batch = Batch::new();
        for n in 0..1_000u64 {
            let created_at = now.minus(Duration::from_millis((chunk * 1_000 + n) * 7 % 10_000));
            let name = format!("timer{chunk}x{n}");
            let parameters =
                common::object(json!({"unit": "seconds", "delta": 10, "timezone": "UTC", "n": chunk * 1_000 + n}));
            let trigger = Trigger {
                id: Id::derive("bench", now, &[&name]),
                uid: format!("trigger:core:{name}"),
                reference: format!("core.{name}"),
                pack: "core".to_owned(),
                name,
                description: None,
                type_ref: model::timer::INTERVAL.to_owned(),
                parameters,
                ref_count: 1,
                created_at,
            };
            ids.insert(trigger.id());
            batch.insert(&trigger);
        }
        bench.services.store.commit(batch).await.unwrap();
    }
    let engine = TimersEngine::new(bench.services.clone(), TimerSettings::default(), lease(1));
    let rules = scheduler::RulesEngine::new(bench.services.clone(), scheduler::RulesSettings::default());
    let stats = engine.stats();
    let rules = Role::start(|cancel| rules.run(cancel));
    let role = Role::start(|cancel| engine.run(cancel));
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        println!("{:?}", stats.read());
    }
    role.stop().await;
    rules.stop().await;
}
