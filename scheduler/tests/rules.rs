//! The rules engine on a real store.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::sync::Arc;
use std::time::Duration;

use bus::{Job, Queue};
use common::{Bench, Role, eventually};
use model::{Execution, InstanceStatus, Invocation, KeyValue, Object, RuleEnforcement, Status, Versioned};
use scheduler::{RulesEngine, RulesSettings};
use serde_json::json;
use store::StoreExt;

fn engine(bench: &Bench) -> Role {
    let engine = RulesEngine::new(bench.services.clone(), RulesSettings::default());
    Role::start(|cancel| engine.run(cancel))
}

#[tokio::test]
async fn a_matching_event_makes_one_execution_with_its_cause() {
    let bench = Bench::new().await;
    let criteria = json!({"trigger.name": {"type": "eq", "pattern": "go"}});
    let parameters = json!({"name": "{{ trigger.name }}-{{ trigger.n }}", "count": "{{ trigger.n }}"});
    let rule = bench.add_rule(Bench::rule("one", "t.event", criteria.clone(), "p.greet", parameters)).await;
    bench
        .add_rule(Bench::rule("no", "t.event", json!({"trigger.n": {"type": "gt", "pattern": 9}}), "p.noop", json!({})))
        .await;
    let role = engine(&bench);

    let instance = bench.event(json!({"name": "go", "n": 5})).await;
    assert_eq!(bench.processed(instance.id).await.status, InstanceStatus::Processed);
    let executions = bench.executions_of(instance.id).await;
    assert_eq!(executions.len(), 1);
    let execution = &executions[0];
    assert_eq!(execution.parameters, common::object(json!({"name": "go-5", "count": 5})));
    assert_eq!(execution.context["user"], "stanley");
    assert_eq!(execution.context["rule"], json!({"id": rule.id, "name": "one"}));
    assert_eq!(execution.context["trigger_instance"], json!({"id": instance.id, "name": null}));
    let tag = format!("trigger_instance-{}", instance.id);
    assert_eq!(execution.context["trace_context"]["trace_tag"], json!(tag));
    let cause = execution.cause.as_ref().unwrap();
    assert_eq!((cause.rule_ref.as_str(), cause.trigger_name.as_str()), ("r.one", "event"));
    assert_eq!(cause.trigger_instance["status"], "processing");
    let snapshot = bench.services.catalog.snapshot(cause.rule).await.unwrap().unwrap();
    assert_eq!(snapshot.body["ref"], "r.one");
    let records = bench.records_of(instance.id).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].execution_id, Some(execution.id));
    assert_eq!(records[0].status, "succeeded");
    role.stop().await;
}

/// E4, I-R1: the same job again, by two engines at once, with an old hint.
#[tokio::test]
async fn repeating_an_instance_changes_nothing() {
    let bench = Bench::new().await;
    for n in 0..3 {
        bench.add_rule(Bench::rule(&format!("r{n}"), "t.event", json!({}), "p.noop", json!({}))).await;
    }
    let instance = bench.event(json!({"n": 1})).await;
    for _ in 0..20 {
        let job = Job::TriggerInstance { id: instance.id, hint: Some(instance.clone()) };
        bench.services.bus.enqueue(Queue::Rules, job).await.unwrap();
        bench.services.bus.enqueue(Queue::Rules, Job::TriggerInstance { id: instance.id, hint: None }).await.unwrap();
    }
    let roles = [engine(&bench), engine(&bench)];
    bench.processed(instance.id).await;
    eventually("the queue is empty", || async {
        (bench.services.bus.waiting(Queue::Rules).await.unwrap() == 0).then_some(())
    })
    .await;
    for role in roles {
        role.stop().await;
    }
    assert_eq!(bench.executions_of(instance.id).await.len(), 3);
    assert_eq!(bench.records_of(instance.id).await.len(), 3);
}

#[tokio::test]
async fn backstops_fire_only_if_nothing_else_matched() {
    let bench = Bench::new().await;
    let mut backstop = Bench::rule("backstop", "t.event", json!({}), "p.noop", json!({}));
    backstop.rule_type = Invocation { reference: "backstop".to_owned(), parameters: Object::new() };
    bench.add_rule(backstop).await;
    let criteria = json!({"trigger.n": {"type": "eq", "pattern": 1}});
    bench.add_rule(Bench::rule("standard", "t.event", criteria, "p.noop", json!({}))).await;
    let role = engine(&bench);
    for (n, expected) in [(1, "r.standard"), (2, "r.backstop")] {
        let instance = bench.event(json!({"n": n})).await;
        bench.processed(instance.id).await;
        let records = bench.records_of(instance.id).await;
        assert_eq!(records.iter().map(|r| r.rule.reference.as_str()).collect::<Vec<_>>(), [expected]);
    }
    role.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_is_recorded() {
    let bench = Bench::new().await;
    let rule =
        |name: &str, criteria, action: &str, parameters| Bench::rule(name, "t.event", criteria, action, parameters);
    bench.add_rule(rule("a_missing", json!({}), "p.nowhere", json!({}))).await;
    bench.add_rule(rule("b_undefined", json!({}), "p.greet", json!({"name": "{{ nobody.knows }}"}))).await;
    bench.add_rule(rule("c_cast", json!({}), "p.greet", json!({"name": "x", "count": "{{ trigger.word }}"}))).await;
    bench.add_rule(rule("d_required", json!({}), "p.greet", json!({}))).await;
    let raising = json!({"trigger.word": {"type": "eq", "pattern": "{{ nobody.knows }}"}});
    bench.add_rule(rule("e_pattern", raising, "p.noop", json!({}))).await;
    bench.add_rule(rule("f_good", json!({}), "p.noop", json!({}))).await;
    let role = engine(&bench);
    let instance = bench.event(json!({"word": "w"})).await;
    assert_eq!(bench.processed(instance.id).await.status, InstanceStatus::Processed);
    let records = bench.records_of(instance.id).await;
    let reason = |index: usize| records[index].failure_reason.clone().unwrap_or_default();
    assert_eq!(records.len(), 6, "{records:#?}");
    assert_eq!(reason(0), "Action \"p.nowhere\" doesn't exist");
    assert!(reason(1).contains("Dependency unsatisfied in variable \"nobody\""), "{}", reason(1));
    assert!(!reason(2).is_empty() && !reason(3).is_empty());
    assert!(reason(4).starts_with("Failed to match rule \"r.e_pattern\" against trigger instance"), "{}", reason(4));
    assert_eq!(records[5].status, "succeeded");
    // Only what could not be rendered leaves a failed execution behind, and its record doesn't name it.
    let executions = bench.executions_of(instance.id).await;
    let failed: Vec<&Execution> = executions.iter().filter(|e| e.status == Status::Failed).collect();
    assert_eq!((executions.len(), failed.len()), (2, 1));
    assert_eq!(failed[0].parameters["name"], "{{ nobody.knows }}");
    assert!(records[..5].iter().all(|record| record.execution_id.is_none() && record.status == "failed"));
    role.stop().await;
}

#[tokio::test]
async fn criteria_see_the_datastore_and_changes_of_rules() {
    let bench = Bench::new().await;
    let now = bench.services.now();
    let pair = KeyValue {
        id: model::Id::fresh(now),
        uid: KeyValue::uid_of(model::Scope::System, "wanted"),
        name: "wanted".to_owned(),
        description: None,
        value: "w".to_owned(),
        secret: false,
        scope: model::Scope::System,
        expire_timestamp: None,
    };
    bench.services.store.insert(&pair).await.unwrap();
    let criteria = json!({"trigger.word": {"type": "eq", "pattern": "{{ st2kv.system.wanted }}"}});
    let input = Bench::rule("kv", "t.event", criteria, "p.noop", json!({}));
    let rule = bench.add_rule(input.clone()).await;
    let role = engine(&bench);
    let matched = async |word: &str| {
        let instance = bench.event(json!({"word": word})).await;
        bench.processed(instance.id).await;
        bench.executions_of(instance.id).await.len()
    };
    assert_eq!(matched("w").await, 1);
    assert_eq!(matched("v").await, 0);
    let mut changed = input;
    changed.criteria = common::object(json!({"trigger.word": {"type": "eq", "pattern": "v"}}));
    domain::rules::replace(&bench.services, rule.id, changed).await.unwrap();
    assert_eq!(matched("w").await, 0);
    assert_eq!(matched("v").await, 1);
    domain::rules::delete(&bench.services, rule.id).await.unwrap();
    assert_eq!(matched("v").await, 0);
    role.stop().await;
}

#[tokio::test]
async fn hundreds_of_matches_take_several_commits() {
    let bench = Bench::new().await;
    for n in 0..50 {
        bench.add_rule(Bench::rule(&format!("r{n}"), "t.event", json!({}), "p.noop", json!({}))).await;
    }
    let settings = RulesSettings { executions_per_commit: 7, ..RulesSettings::default() };
    let engine = RulesEngine::new(bench.services.clone(), settings);
    let role = Role::start(|cancel| engine.run(cancel));
    let instance = bench.event(json!({})).await;
    bench.processed(instance.id).await;
    assert_eq!(bench.executions_of(instance.id).await.len(), 50);
    assert_eq!(bench.records_of(instance.id).await.len(), 50);
    role.stop().await;
}

/// Nothing is lost when the queue is full, and an engine that starts finds what an earlier one left.
#[tokio::test]
async fn a_backlog_in_the_store_is_worked_off() {
    let options = bus::LocalBusOptions { queue_capacity: 10, ..Default::default() };
    let bench = Bench::with(domain::Settings::default(), options).await;
    bench.add_rule(Bench::rule("all", "t.event", json!({}), "p.noop", json!({}))).await;
    for n in 0..100 {
        bench.event(json!({"n": n})).await;
    }
    let role = engine(&bench);
    eventually("all early ones", || async { (bench.total::<RuleEnforcement>().await == 100).then_some(()) }).await;
    for n in 0..100 {
        bench.event(json!({"n": n})).await;
    }
    eventually("all", || async { (bench.total::<RuleEnforcement>().await == 200).then_some(()) }).await;
    assert_eq!(bench.total::<Execution>().await, 200);
    role.stop().await;
}

/// Rows that bypassed validation stop nothing but their own instance.
#[tokio::test]
async fn an_unknown_operator_fails_the_instance() {
    let bench = Bench::new().await;
    let rule = bench.add_rule(Bench::rule("bad", "t.event", json!({}), "p.noop", json!({}))).await;
    let mut stored: Versioned<model::Rule> = bench.services.store.read(rule.id).await.unwrap().unwrap();
    stored.doc.criteria = common::object(json!({"trigger.n": {"type": "nope", "pattern": 1}}));
    bench.services.store.update(stored).await.unwrap();
    bench.services.catalog.forget::<model::Rule>();
    let role = engine(&bench);
    let instance = bench.event(json!({"n": 1})).await;
    assert_eq!(bench.processed(instance.id).await.status, InstanceStatus::ProcessingFailed);
    role.stop().await;
}

/// Run with `--release -- --ignored --nocapture`: 1,000 rules on other triggers, 100 on this one, one matches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn events_per_second() {
    const EVENTS: usize = 20_000;
    let bench = Bench::durable().await;
    bench.add_type("t.other", json!({})).await;
    for n in 0..1_100 {
        let criteria = json!({"trigger.n": {"type": "eq", "pattern": if n == 0 { 1 } else { 100 + n }}});
        let trigger = if n < 100 { "t.event" } else { "t.other" };
        bench.add_rule(Bench::rule(&format!("r{n}"), trigger, criteria, "p.noop", json!({}))).await;
    }
    let instance = bench.event(json!({"n": 1})).await;
    let role = engine(&bench);
    bench.processed(instance.id).await;
    let start = std::time::Instant::now();
    let sent = Arc::new(tokio::sync::Semaphore::new(200));
    let bench = Arc::new(bench);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..EVENTS {
        let slot = sent.clone().acquire_owned().await.unwrap();
        let bench = bench.clone();
        tasks.spawn(async move {
            bench.event(json!({"n": 1, "text": "some words"})).await;
            drop(slot);
        });
    }
    while tasks.join_next().await.is_some() {}
    let dispatched = start.elapsed();
    while bench.total::<RuleEnforcement>().await < EVENTS as u64 + 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = start.elapsed();
    println!(
        "{EVENTS} events: dispatched in {dispatched:?}, matched in {all:?}: {:.0}/s",
        EVENTS as f64 / all.as_secs_f64()
    );
    role.stop().await;
}
