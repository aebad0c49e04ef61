//! Rules with their triggers, dispatch, and the datastore on a real store.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::time::Duration;

use common::{Bench, object};
use domain::datastore::{self, SetKey};
use domain::rules::{self, RuleInput};
use domain::triggers::{self, Dispatch};
use domain::{DomainError, Services};
use model::{Id, Invocation, Object, Scope, Trigger, TriggerInstance, Versioned};
use serde_json::json;
use store::{Query, StoreExt};

fn rule(name: &str, url: &str) -> RuleInput {
    RuleInput {
        name: name.to_owned(),
        pack: "p".to_owned(),
        description: None,
        rule_type: Invocation { reference: "standard".to_owned(), parameters: Object::new() },
        trigger_type: "t.hook".to_owned(),
        trigger_parameters: object(json!({"url": url})),
        criteria: Object::new(),
        action: Invocation { reference: "p.noop".to_owned(), parameters: Object::new() },
        enabled: true,
        context: Object::new(),
        tags: Vec::new(),
        metadata_file: String::new(),
    }
}

async fn hooks(services: &Services) -> Vec<Versioned<Trigger>> {
    services.store.search::<Trigger>(&Query::eq("type", "t.hook")).await.unwrap()
}

#[tokio::test]
async fn a_trigger_lives_as_long_as_rules_use_it() {
    let bench = Bench::new().await;
    let services = &bench.services;
    let a = rules::create(services, rule("a", "x")).await.unwrap();
    let b = rules::create(services, rule("b", "x")).await.unwrap();
    assert_eq!(a.trigger, b.trigger);
    assert_eq!(hooks(services).await[0].ref_count, 2);

    let moved = rules::replace(services, b.id, rule("b", "y")).await.unwrap();
    assert_ne!(moved.trigger, a.trigger);
    let counts: Vec<i64> = hooks(services).await.iter().map(|trigger| trigger.ref_count).collect();
    assert_eq!(counts, [1, 1]);
    // Replacing by the same changes nothing: the trigger's phase stays.
    let before = hooks(services).await;
    rules::replace(services, b.id, rule("b", "y")).await.unwrap();
    assert_eq!(hooks(services).await, before);

    rules::delete(services, a.id).await.unwrap();
    rules::delete(services, b.id).await.unwrap();
    assert!(hooks(services).await.is_empty());
    assert!(matches!(rules::delete(services, b.id).await, Err(DomainError::NotFound(_))));
}

#[tokio::test]
async fn concurrent_rules_share_one_trigger_and_are_all_counted() {
    let bench = Bench::new().await;
    let mut creating = tokio::task::JoinSet::new();
    for index in 0..20 {
        let services = bench.services.clone();
        creating.spawn(async move { rules::create(&services, rule(&format!("r{index}"), "x")).await });
    }
    for created in creating.join_all().await {
        created.unwrap();
    }
    let triggers = hooks(&bench.services).await;
    assert_eq!((triggers.len(), triggers[0].ref_count), (1, 20));
}

#[tokio::test]
async fn rules_that_cant_be_are_refused() {
    let bench = Bench::new().await;
    let mut unknown = rule("r", "x");
    unknown.trigger_type = "t.nope".to_owned();
    let refused = rules::create(&bench.services, unknown).await.unwrap_err().to_string();
    assert!(refused.contains("Trigger \"t.nope\" defined in the rule does not exist"), "{refused}");
    let mut incomplete = rule("r", "x");
    incomplete.trigger_parameters = Object::new();
    assert!(matches!(rules::create(&bench.services, incomplete).await, Err(DomainError::Invalid(_))));
    rules::create(&bench.services, rule("r", "x")).await.unwrap();
    let twice = rules::create(&bench.services, rule("r", "y")).await.unwrap_err();
    assert!(matches!(twice, DomainError::Conflict { existing: Some(_), .. }), "{twice:?}");
    assert_eq!(hooks(&bench.services).await.len(), 1, "the refused rule left no trigger behind");
}

fn event(payload: serde_json::Value, id: Option<Id>, services: &Services) -> Dispatch {
    Dispatch {
        trigger: "t.event".to_owned(),
        payload,
        occurrence_time: services.now(),
        id,
        trace_context: None,
        validate: true,
        fence: None,
    }
}

#[tokio::test]
async fn an_event_is_stored_once_and_checked() {
    let bench = Bench::new().await;
    let services = &bench.services;
    let id = Id::derive("test", services.now(), &["1"]);
    let first = triggers::dispatch(services, event(json!({"n": 1}), Some(id), services)).await.unwrap();
    assert_eq!(first.map(|stored| stored.id), Some(id));
    assert_eq!(triggers::dispatch(services, event(json!({"n": 1}), Some(id), services)).await.unwrap(), None);
    assert_eq!(services.store.total::<TriggerInstance>(&Query::all()).await.unwrap(), 1);

    let refused = triggers::dispatch(services, event(json!({"n": "one"}), None, services)).await;
    assert!(matches!(&refused, Err(DomainError::Invalid(text)) if text.contains("not dispatching")), "{refused:?}");
    let mut unknown = event(json!({}), None, services);
    unknown.trigger = "t.nope".to_owned();
    assert!(matches!(triggers::dispatch(services, unknown).await, Err(DomainError::NotFound(_))));
}

#[tokio::test]
async fn keys_by_scope_with_secrets_and_expiry() {
    let bench = Bench::new().await;
    let services = &bench.services;
    let plain = |value: &str| SetKey { value: value.to_owned(), ..SetKey::default() };
    datastore::set(services, Scope::System, "", "a.b", plain("1")).await.unwrap();
    datastore::set(services, Scope::User, "ana", "a.b", plain("2")).await.unwrap();
    let value = |pair: Option<Versioned<model::KeyValue>>| pair.map(|pair| pair.doc.value);
    assert_eq!(value(datastore::get(services, Scope::System, "", "a.b").await.unwrap()).as_deref(), Some("1"));
    assert_eq!(value(datastore::get(services, Scope::User, "ana", "a.b").await.unwrap()).as_deref(), Some("2"));
    assert_eq!(value(datastore::get(services, Scope::User, "bea", "a.b").await.unwrap()), None);

    let secret = SetKey { value: "hunter2".to_owned(), secret: true, ..SetKey::default() };
    let stored = datastore::set(services, Scope::System, "", "s", secret).await.unwrap();
    assert!(!stored.value.contains("hunter2"));
    assert_eq!(datastore::reveal(services, &stored).unwrap(), "hunter2");
    // Not said again, not secret any more.
    let open = datastore::set(services, Scope::System, "", "s", plain("open")).await.unwrap();
    assert!(!open.secret);

    let short = SetKey { value: "x".to_owned(), ttl: Some(Duration::from_millis(1)), ..SetKey::default() };
    datastore::set(services, Scope::System, "", "short", short).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while datastore::get(services, Scope::System, "", "short").await.unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "an expired key is still there");
    }
    let names: Vec<String> = datastore::list(services, Scope::System, "", None, None, 0)
        .await
        .unwrap()
        .into_iter()
        .map(|pair| pair.name)
        .collect();
    assert_eq!(names, ["a.b", "s"]);
    assert!(datastore::delete(services, Scope::System, "", "s").await.unwrap());
    assert!(!datastore::delete(services, Scope::System, "", "s").await.unwrap());
}

#[tokio::test]
async fn racing_writers_of_a_key_all_succeed_and_one_is_last() {
    let bench = Bench::new().await;
    let mut writing = tokio::task::JoinSet::new();
    for index in 0..20 {
        let services = bench.services.clone();
        writing.spawn(async move {
            let input = SetKey { value: index.to_string(), ..SetKey::default() };
            datastore::set(&services, Scope::System, "", "k", input).await
        });
    }
    let written: Vec<String> = writing.join_all().await.into_iter().map(|pair| pair.unwrap().value).collect();
    let last = datastore::get(&bench.services, Scope::System, "", "k").await.unwrap().unwrap();
    assert!(written.contains(&last.doc.value));
}
