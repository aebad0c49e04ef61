//! The execution scheduler on a real store, with a runner that only sleeps.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::time::{Duration, Instant};

use bus::{LocalBusOptions, Queue};
use common::{Bench, Role, eventually, run_actions, statuses};
use domain::executions::{Request, cancel};
use model::{Execution, Status};
use scheduler::{ScheduleSettings, Scheduler};
use serde_json::json;

fn scheduler(bench: &Bench) -> Role {
    scheduler_with(bench, ScheduleSettings::default())
}

fn scheduler_with(bench: &Bench, settings: ScheduleSettings) -> Role {
    let scheduler = Scheduler::new(bench.services.clone(), settings);
    Role::start(|cancel| scheduler.run(cancel))
}

fn is(condition: bool) -> Option<()> {
    condition.then_some(())
}

#[tokio::test]
async fn what_nothing_holds_back_goes_on_without_a_write() {
    let bench = Bench::new().await;
    let role = scheduler(&bench);
    let mut run = bench.services.bus.consume(Queue::Run, 1).await.unwrap();
    let requested = bench.request("p.noop", json!({})).await;
    let delivery = tokio::time::timeout(common::PATIENCE, run.next()).await.unwrap().unwrap();
    assert_eq!(delivery.job.id(), requested.id);
    assert_eq!(statuses(&bench.read(requested.id).await), ["requested"]);
    delivery.ack();
    role.stop().await;
}

#[tokio::test]
async fn delays_are_kept_and_survive_a_restart() {
    let bench = Bench::new().await;
    let role = scheduler(&bench);
    let (runner, _) = run_actions(&bench.services, 8, Duration::ZERO);
    let ask = |delay| Request { delay: Some(delay), ..Bench::asking("p.noop", json!({})) };
    let short = bench.ask(ask(300)).await;
    let long = bench.ask(ask(900)).await;
    bench.becomes(short.id, Status::Delayed).await;
    let ended = bench.becomes(short.id, Status::Succeeded).await;
    assert_eq!(statuses(&ended), ["requested", "delayed", "scheduled", "running", "succeeded"]);
    let running = ended.log[3].timestamp;
    let late = running.since(short.due());
    assert!(running >= short.due() && late < Duration::from_millis(250), "{late:?}");

    bench.becomes(long.id, Status::Delayed).await;
    role.kill().await;
    runner.kill().await;
    let after = bench.restarted();
    let role = scheduler(&after);
    let (_runner, _) = run_actions(&after.services, 8, Duration::ZERO);
    let ended = after.becomes(long.id, Status::Succeeded).await;
    assert!(ended.log[3].timestamp >= long.due());
    role.stop().await;
}

/// P1 and I-P2.
#[tokio::test]
async fn a_threshold_is_never_passed_and_nobody_starves() {
    let bench = Bench::new().await;
    bench.add_policy("two", "p.greet", "action.concurrency", json!({"threshold": 2, "action": "delay"})).await;
    let role = scheduler(&bench);
    let (_runner, seen) = run_actions(&bench.services, 16, Duration::from_millis(10));
    for n in 0..30 {
        bench.request("p.greet", json!({"name": n.to_string()})).await;
        bench.request("p.noop", json!({})).await;
    }
    eventually("all succeed", || async { is(bench.count(Status::Succeeded).await == 60) }).await;
    role.stop().await;
    let seen = seen.lock();
    assert_eq!(seen.most["p.greet"], 2);
    assert!(seen.most["p.noop"] > 2);
    assert!(seen.starts.values().all(|starts| *starts == 1));
}

#[tokio::test]
async fn waiters_log_what_stackstorm_logs() {
    let bench = Bench::new().await;
    bench.add_policy("one", "p.noop", "action.concurrency", json!({"threshold": 1, "action": "delay"})).await;
    let role = scheduler(&bench);
    let (_runner, _) = run_actions(&bench.services, 4, Duration::from_millis(100));
    bench.request("p.noop", json!({})).await;
    let second = bench.request("p.noop", json!({})).await;
    let ended = bench.becomes(second.id, Status::Succeeded).await;
    assert_eq!(statuses(&ended), ["requested", "delayed", "requested", "scheduled", "running", "succeeded"]);
    role.stop().await;
}

/// I-P3.
#[tokio::test]
async fn cancel_mode_cancels_what_does_not_fit() {
    let bench = Bench::new().await;
    bench.add_policy("one", "p.noop", "action.concurrency", json!({"threshold": 1, "action": "cancel"})).await;
    let role = scheduler(&bench);
    let (_runner, _) = run_actions(&bench.services, 4, Duration::from_millis(300));
    let first = bench.request("p.noop", json!({})).await;
    bench.becomes(first.id, Status::Running).await;
    let second = bench.request("p.noop", json!({})).await;
    let canceled = bench.becomes(second.id, Status::Canceled).await;
    assert_eq!(statuses(&canceled), ["requested", "canceling", "canceled"]);
    assert_eq!(canceled.result, None);
    bench.becomes(first.id, Status::Succeeded).await;
    role.stop().await;
}

#[tokio::test]
async fn attributes_limit_separately() {
    let bench = Bench::new().await;
    let parameters = json!({"threshold": 1, "action": "delay", "attributes": ["name"]});
    bench.add_policy("each", "p.greet", "action.concurrency.attr", parameters).await;
    let role = scheduler(&bench);
    let (_runner, seen) = run_actions(&bench.services, 16, Duration::from_millis(50));
    for n in 0..12 {
        bench.request("p.greet", json!({"name": if n % 2 == 0 { "a" } else { "b" }})).await;
    }
    eventually("all succeed", || async { is(bench.count(Status::Succeeded).await == 12) }).await;
    assert_eq!(seen.lock().most["p.greet"], 2);
    role.stop().await;
}

#[tokio::test]
async fn a_canceled_waiter_gives_its_place_up_and_running_ones_are_counted_after_a_restart() {
    let bench = Bench::new().await;
    bench.add_policy("one", "p.noop", "action.concurrency", json!({"threshold": 1, "action": "delay"})).await;
    let role = scheduler(&bench);
    let (runner, _) = run_actions(&bench.services, 4, Duration::from_secs(3_600));
    let first = bench.request("p.noop", json!({})).await;
    bench.becomes(first.id, Status::Running).await;
    let second = bench.request("p.noop", json!({})).await;
    let third = bench.request("p.noop", json!({})).await;
    bench.becomes(second.id, Status::Delayed).await;
    bench.becomes(third.id, Status::Delayed).await;
    role.kill().await;
    runner.kill().await;

    let after = bench.restarted();
    let role = scheduler(&after);
    let (_runner, seen) = run_actions(&after.services, 4, Duration::from_millis(10));
    let fourth = after.request("p.noop", json!({})).await;
    after.becomes(fourth.id, Status::Delayed).await;
    assert!(seen.lock().starts.is_empty(), "the first still runs");
    cancel(&after.services, second.id, "ana").await.unwrap();
    // The lost runner's execution is decided, as recovery would.
    domain::executions::update(&after.services, first.id, |execution, now| {
        execution.advance(Status::Abandoned, now).unwrap();
        Ok(true)
    })
    .await
    .unwrap();
    after.becomes(third.id, Status::Succeeded).await;
    after.becomes(fourth.id, Status::Succeeded).await;
    assert_eq!(after.read(second.id).await.status, Status::Canceled);
    assert_eq!(seen.lock().most["p.noop"], 1);
    role.stop().await;
}

/// Full queues lose nothing, and the backlog runs as fast as the runners do.
#[tokio::test]
async fn a_backlog_beyond_the_queues_runs_once() {
    let options = LocalBusOptions { queue_capacity: 20, ..LocalBusOptions::default() };
    let bench = Bench::with(domain::Settings::default(), options).await;
    let settings = ScheduleSettings { refill_below: 10, refill_page: 15, prefetch: 4, ..ScheduleSettings::default() };
    let role = scheduler_with(&bench, settings);
    for _ in 0..300 {
        bench.request("p.noop", json!({})).await;
    }
    let start = Instant::now();
    let (_runner, seen) = run_actions(&bench.services, 4, Duration::ZERO);
    eventually("all succeed", || async { is(bench.count(Status::Succeeded).await == 300) }).await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(seen.lock().starts.values().all(|starts| *starts == 1));
    assert_eq!(bench.total::<Execution>().await, 300);
    role.stop().await;
}

#[tokio::test]
async fn more_delayed_than_fit_in_memory_all_run_in_time() {
    let bench = Bench::new().await;
    let role = scheduler_with(&bench, ScheduleSettings { max_delayed: 5, ..ScheduleSettings::default() });
    let (_runner, _) = run_actions(&bench.services, 8, Duration::ZERO);
    let mut asked = Vec::new();
    for n in 0..40u64 {
        let delay = Some(300 + 20 * (n % 7));
        asked.push(bench.ask(Request { delay, ..Bench::asking("p.noop", json!({})) }).await);
    }
    eventually("all succeed", || async { is(bench.count(Status::Succeeded).await == 40) }).await;
    for execution in asked {
        let ended = bench.read(execution.id).await;
        let started = ended.log.iter().find(|entry| entry.status == Status::Running).unwrap().timestamp;
        assert!(started >= execution.due());
        assert!(started.since(execution.due()) < Duration::from_secs(2), "{:?}", started.since(execution.due()));
    }
    role.stop().await;
}
