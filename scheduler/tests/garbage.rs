//! The garbage collector on a real store (invariant G1).

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::time::Duration;

use common::{Bench, Role, eventually, lease};
use model::{
    EnforcedRule, Execution, Id, InstanceStatus, KeyValue, OutputChunk, OutputType, ResultValue, RuleEnforcement,
    Scope, Status, Timestamp, Token, TriggerInstance,
};
use scheduler::{GarbageCollector, GarbageSettings};
use serde_json::json;
use store::{Store, StoreExt};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn settings() -> GarbageSettings {
    GarbageSettings {
        executions_ttl: Some(2 * DAY),
        execution_output_ttl: Some(5 * DAY),
        trigger_instances_ttl: Some(2 * DAY),
        rule_enforcements_ttl: Some(2 * DAY),
        tokens_ttl: Some(DAY),
        sleep_delay: Duration::from_millis(1),
        batch: 3,
        rate: 100_000,
        ..GarbageSettings::default()
    }
}

/// An execution of `age`, in its own commit so that its times are what they are.
async fn execution(bench: &Bench, status: Status, age: Duration) -> Execution {
    let mut execution = bench.request("p.noop", json!({})).await.doc.clone();
    let at = bench.services.now().minus(age);
    execution.id = Id::derive("test", at, &[status.as_str(), &age.as_secs().to_string()]);
    execution.liveaction_id = Id::derive("live", at, &[&execution.id.to_string()]);
    execution.start_timestamp = at;
    execution.status = status;
    execution.check_at = None;
    if status.is_completed() {
        execution.end_timestamp = Some(at);
        let blob = Id::of_content(execution.id.to_string().as_bytes());
        bench.store.put_blob(blob, b"{}".to_vec()).await.unwrap();
        execution.result = Some(ResultValue::Blob { blob, preview: String::new() });
    }
    bench.services.store.insert(&execution).await.unwrap();
    let chunk = OutputChunk {
        id: Id::derive("out", at, &[&execution.id.to_string()]),
        execution_id: execution.id,
        action_ref: execution.action.clone(),
        runner_ref: "noop".to_owned(),
        timestamp: at,
        output_type: OutputType::Stdout,
        data: "x".to_owned(),
        seq: 0,
    };
    bench.services.store.insert(&chunk).await.unwrap();
    execution
}

async fn instance(bench: &Bench, status: InstanceStatus, at: Timestamp) -> Id {
    let id = Id::fresh(at);
    let processed = matches!(status, InstanceStatus::Processed | InstanceStatus::ProcessingFailed);
    let instance = TriggerInstance {
        id,
        trigger: "t.event".to_owned(),
        payload: json!({}),
        occurrence_time: at,
        status,
        trace_context: None,
        check_at: (!processed).then_some(at),
    };
    bench.services.store.insert(&instance).await.unwrap();
    id
}

async fn key(bench: &Bench, name: &str, expires: Option<Timestamp>) {
    let pair = KeyValue {
        id: Id::fresh(bench.services.now()),
        uid: KeyValue::uid_of(Scope::System, name),
        name: name.to_owned(),
        description: None,
        value: "v".to_owned(),
        secret: false,
        scope: Scope::System,
        expire_timestamp: expires,
    };
    bench.services.store.insert(&pair).await.unwrap();
}

#[tokio::test]
async fn only_what_is_over_and_old_goes() {
    let bench = Bench::new().await;
    let now = bench.services.now();
    let mut old = Vec::new();
    let mut kept = Vec::new();
    for status in Status::ALL {
        for age in [DAY, 3 * DAY, 4 * DAY] {
            let made = execution(&bench, status, age).await;
            if status.is_completed() && age > 2 * DAY { old.push(made) } else { kept.push(made) }
        }
    }
    for age in [DAY, 3 * DAY] {
        for status in [InstanceStatus::Pending, InstanceStatus::Processed, InstanceStatus::ProcessingFailed] {
            instance(&bench, status, now.minus(age)).await;
        }
        let record = RuleEnforcement {
            id: Id::fresh(now),
            trigger_instance_id: Id::fresh(now),
            execution_id: None,
            failure_reason: None,
            rule: EnforcedRule { reference: "r.r".to_owned(), id: Id::fresh(now), uid: "rule:r:r".to_owned() },
            enforced_at: now.minus(age),
            status: "succeeded".to_owned(),
        };
        bench.services.store.insert(&record).await.unwrap();
        let token = Token {
            id: Id::fresh(now),
            user: "ana".to_owned(),
            token: age.as_secs().to_string(),
            expiry: now.minus(age).plus(Duration::from_secs(60)),
            metadata: model::Object::new(),
            service: false,
        };
        bench.services.store.insert(&token).await.unwrap();
    }
    key(&bench, "past", Some(now.minus(DAY))).await;
    key(&bench, "future", Some(now.plus(DAY))).await;
    key(&bench, "forever", None).await;

    let role = GarbageCollector::new(bench.services.clone(), settings(), lease(1));
    let role = Role::start(|cancel| role.run(cancel));
    eventually("tokens, the last", || async { (bench.total::<Token>().await == 1).then_some(()) }).await;
    role.stop().await;

    for gone in &old {
        assert!(bench.services.store.read::<Execution>(gone.id).await.unwrap().is_none(), "{gone:?}");
        if let Some(ResultValue::Blob { blob, .. }) = &gone.result {
            assert_eq!(bench.store.get_blob(*blob).await.unwrap(), None);
        }
    }
    for left in &kept {
        assert_eq!(bench.read(left.id).await, *left);
        if let Some(ResultValue::Blob { blob, .. }) = &left.result {
            assert!(bench.store.get_blob(*blob).await.unwrap().is_some());
        }
    }
    assert_eq!(bench.total::<OutputChunk>().await, kept.len() as u64);
    assert_eq!(bench.total::<TriggerInstance>().await, 4);
    assert_eq!(bench.total::<RuleEnforcement>().await, 1);
    assert_eq!(bench.total::<KeyValue>().await, 2);
}

#[tokio::test]
async fn a_deposed_collector_deletes_nothing() {
    let bench = Bench::new().await;
    execution(&bench, Status::Failed, 4 * DAY).await;
    let before = bench.total::<Execution>().await;
    let mut newer = store::Batch::under(store::Fence { name: "garbage-collector".to_owned(), epoch: 9 });
    newer.insert(&model::timer::TimerCursor::new(Timestamp::default()));
    bench.services.store.commit(newer).await.unwrap();
    let role = GarbageCollector::new(bench.services.clone(), settings(), lease(8));
    let role = Role::start(|cancel| role.run(cancel));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.total::<Execution>().await, before);
    role.stop().await;
}

#[test]
fn short_times_to_live_are_refused() {
    let short = GarbageSettings { tokens_ttl: Some(DAY / 2), ..GarbageSettings::default() };
    assert!(short.check().unwrap_err().contains("tokens_ttl"));
    assert_eq!(GarbageSettings::default().check(), Ok(()));
}
