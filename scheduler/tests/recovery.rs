//! The backup scheduler on a real store.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Bench, Role, eventually, holder, lease, run_actions, statuses};
use domain::Settings;
use domain::executions::{Outcome, cancel, claim, finish};
use model::{InstanceStatus, Session, Status, Versioned};
use parking_lot::Mutex;
use scheduler::{BackupScheduler, RecoverySettings, RulesEngine, RulesSettings, ScheduleSettings, Scheduler};
use serde_json::json;
use store::StoreExt;
use tokio::sync::watch;

type Live = Arc<Mutex<Option<Vec<Session>>>>;

fn session(node: &str, epoch: u64) -> Session {
    Session { node: node.to_owned(), epoch }
}

fn live(sessions: &[(&str, u64)]) -> Live {
    Arc::new(Mutex::new(Some(sessions.iter().map(|(node, epoch)| session(node, *epoch)).collect())))
}

fn backup(bench: &Bench, own: Session, live: &Live) -> Role {
    let settings = RecoverySettings {
        interval: Duration::from_millis(50),
        backoff: Duration::from_millis(200),
        ..RecoverySettings::default()
    };
    let (own, live) = (watch::channel(Some(own)).1, live.clone());
    let sessions = Arc::new(move || live.lock().clone());
    let role = BackupScheduler::new(bench.services.clone(), settings, lease(1), own, sessions);
    Role::start(|cancel| role.run(cancel))
}

fn quick() -> Settings {
    Settings { redrive_after: Duration::from_millis(300), ..Settings::default() }
}

async fn running(bench: &Bench, session: u64) -> Arc<Versioned<model::Execution>> {
    let requested = bench.request("p.noop", json!({})).await;
    let (holder, info) = holder(session);
    claim(&bench.services, &requested, holder, info).await.unwrap()
}

/// After kill -9: claims of this node's earlier session are decided at once, E2.
#[tokio::test]
async fn executions_of_a_dead_session_are_abandoned_at_once() {
    let bench = Bench::new().await;
    let lost = running(&bench, 1).await;
    let canceling = running(&bench, 1).await;
    cancel(&bench.services, canceling.id, "ana").await.unwrap();
    let alive = running(&bench, 2).await;
    let live = live(&[("n1", 2)]);
    let role = backup(&bench, session("n1", 2), &live);
    let start = std::time::Instant::now();
    let abandoned = bench.becomes(lost.id, Status::Abandoned).await;
    let canceled = bench.becomes(canceling.id, Status::Canceled).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(statuses(&abandoned), ["requested", "scheduled", "running", "abandoned"]);
    assert_eq!(statuses(&canceled), ["requested", "scheduled", "running", "canceling", "canceled"]);
    assert_eq!(bench.read(alive.id).await.status, Status::Running);
    // The lost runner's result comes too late.
    let outcome = Outcome { status: Status::Succeeded, result: json!(1), context: model::Object::new() };
    assert!(finish(&bench.services, &lost, outcome.clone()).await.is_err());
    assert!(finish(&bench.services, &alive, outcome).await.is_ok());
    role.stop().await;
}

/// Says that some workflows have begun.
#[derive(Debug)]
struct Begun(model::Id);

#[async_trait::async_trait]
impl domain::workflows::Workflows for Begun {
    async fn completed(&self, _: &Versioned<model::Execution>) -> Result<(), domain::DomainError> {
        Ok(())
    }

    async fn asked(&self, _: &model::Versioned<model::Execution>) -> Result<(), domain::DomainError> {
        Ok(())
    }

    async fn has_begun(&self, execution: model::Id) -> Result<bool, domain::DomainError> {
        Ok(execution == self.0)
    }

    async fn inspect(&self, _: &str) -> Result<Vec<serde_json::Value>, domain::DomainError> {
        Ok(Vec::new())
    }

    async fn picture(&self, _: model::Id) -> Result<Option<serde_json::Value>, domain::DomainError> {
        Ok(None)
    }
}

/// The node dies after a workflow has begun, before its execution was handed over: the workflow goes on.
#[tokio::test]
async fn a_workflow_that_has_begun_is_not_abandoned() {
    let bench = Bench::new().await;
    let (begun, not_yet) = (running(&bench, 1).await, running(&bench, 1).await);
    for id in [begun.id, not_yet.id] {
        let workflow = |execution: &mut model::Execution, _| {
            execution.action_is_workflow = true;
            Ok(true)
        };
        domain::executions::update(&bench.services, id, workflow).await.unwrap();
    }
    assert!(bench.services.workflows.set(Arc::new(Begun(begun.id))).is_ok());
    let role = backup(&bench, session("n1", 2), &live(&[("n1", 2)]));
    for id in [begun.id, not_yet.id] {
        eventually("nobody holds it", || async { bench.read(id).await.claim.is_none().then_some(()) }).await;
    }
    // Another runner lets the one begin that hasn't.
    let (holder, info) = common::holder(2);
    let free = bench.services.store.read::<model::Execution>(not_yet.id).await.unwrap().unwrap();
    let again = domain::executions::claim(&bench.services, &free, holder, info).await.unwrap();
    assert_eq!((again.status, again.attempt), (Status::Running, 2));
    let left = bench.services.store.read::<model::Execution>(begun.id).await.unwrap().unwrap();
    assert_eq!(left.status, Status::Running);
    // The engine ends it.
    let outcome = Outcome { status: Status::Succeeded, result: json!(1), context: model::Object::new() };
    assert!(finish(&bench.services, &left, outcome).await.is_ok());
    role.stop().await;
}

#[tokio::test]
async fn nobody_is_declared_dead_on_doubtful_grounds() {
    let bench = Bench::new().await;
    let execution = running(&bench, 5).await;
    // The list is older than the claim; then the group can't say.
    let live = live(&[("n1", 4), ("n2", 1)]);
    let role = backup(&bench, session("n2", 1), &live);
    tokio::time::sleep(Duration::from_millis(400)).await;
    *live.lock() = None;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(bench.read(execution.id).await.status, Status::Running);
    // Its node is gone.
    *live.lock() = Some(vec![session("n2", 1)]);
    bench.becomes(execution.id, Status::Abandoned).await;
    role.stop().await;
}

/// Every doorbell is lost: nobody consumed when the jobs were sent, and the bus is another one now.
#[tokio::test]
async fn lost_doorbells_are_rung_again() {
    let bench = Bench::with(quick(), bus::LocalBusOptions::default()).await;
    let after = bench.restarted();
    after.add_rule(Bench::rule("all", "t.event", json!({}), "p.greet", json!({"name": "x"}))).await;
    let scheduler = Scheduler::new(after.services.clone(), ScheduleSettings::default());
    let rules = RulesEngine::new(after.services.clone(), RulesSettings::default());
    let _roles = (Role::start(|cancel| scheduler.run(cancel)), Role::start(|cancel| rules.run(cancel)));
    let (_runner, seen) = run_actions(&after.services, 4, Duration::ZERO);
    // Let the roles' own look into the store pass.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let execution = bench.request("p.noop", json!({})).await;
    let instance = bench.event(json!({})).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(after.read(execution.id).await.status, Status::Requested);
    let role = backup(&after, session("n1", 1), &live(&[("n1", 1)]));
    after.becomes(execution.id, Status::Succeeded).await;
    assert_eq!(after.processed(instance.id).await.status, InstanceStatus::Processed);
    eventually("the rule's execution ran too", || async { (after.count(Status::Succeeded).await == 2).then_some(()) })
        .await;
    assert!(seen.lock().starts.values().all(|starts| *starts == 1));
    role.stop().await;
}

#[tokio::test]
async fn a_canceling_execution_without_a_runner_ends() {
    let bench = Bench::with(quick(), bus::LocalBusOptions::default()).await;
    let mut asked = Bench::asking("p.noop", json!({}));
    asked.context.insert("parent".to_owned(), json!({"user": "ana"}));
    let execution = bench.ask(asked).await;
    cancel(&bench.services, execution.id, "ana").await.unwrap();
    assert_eq!(bench.read(execution.id).await.status, Status::Canceling);
    let role = backup(&bench, session("n1", 1), &live(&[("n1", 1)]));
    bench.becomes(execution.id, Status::Canceled).await;
    role.stop().await;
}
