//! The life of an execution on a real store.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::sync::Arc;

use common::Bench;
use domain::executions::{Cancellation, Outcome, Rerun, cancel, claim, finish, request, rerun};
use domain::view::{self, ViewOptions};
use domain::{DomainError, Settings};
use model::{Claim, Execution, Id, Object, RunnerInfo, Status, Versioned};
use serde_json::{Value, json};

fn holder(session: u64) -> (Claim, RunnerInfo) {
    (Claim { node: "n1".to_owned(), session }, RunnerInfo { hostname: "h".to_owned(), pid: 1 })
}

async fn claimed(bench: &Bench, execution: &Versioned<Execution>) -> Arc<Versioned<Execution>> {
    let (who, info) = holder(1);
    claim(&bench.services, execution, who, info).await.unwrap()
}

fn success(result: Value) -> Outcome {
    Outcome { status: Status::Succeeded, result, context: Object::new() }
}

fn statuses(execution: &Execution) -> Vec<Status> {
    execution.log.iter().map(|entry| entry.status).collect()
}

#[tokio::test]
async fn a_plain_execution_takes_three_writes_and_logs_every_status() {
    let bench = Bench::new().await;
    let requested = bench.requested().await;
    let running = claimed(&bench, &requested).await;
    let done = finish(&bench.services, &running, success(json!({"x": 1}))).await.unwrap();
    assert_eq!(done.rev, 3);
    assert_eq!(statuses(&done), [Status::Requested, Status::Scheduled, Status::Running, Status::Succeeded]);
    assert_eq!((done.attempt, done.result_size, done.postrun_pending), (1, 7, false));
    assert_eq!(bench.reread(done.id).await, *done);
}

#[tokio::test]
async fn bad_requests_are_refused_with_stackstorms_texts() {
    let bench = Bench::new().await;
    for (action, parameters, text) in [
        ("p.nope", json!({}), "Action \"p.nope\" cannot be found."),
        ("p.greet", json!({}), "'name' is a required property"),
        ("p.greet", json!({"name": "a", "zz": 1}), "Additional properties are not allowed ('zz' was unexpected)"),
        ("p.greet", json!({"name": "a", "fixed": "x"}), "Override of immutable parameter(s) ['fixed'] is unsupported."),
    ] {
        let refused = request(&bench.services, Bench::asking(action, parameters)).await.unwrap_err();
        assert_eq!(refused, DomainError::Invalid(text.to_owned()));
    }
}

#[tokio::test]
async fn repeating_a_derived_request_makes_nothing_new() {
    let bench = Bench::new().await;
    let id = Id::fresh(bench.services.now());
    let mut asking = Bench::asking("p.noop", json!({}));
    asking.id = Some(id);
    let first = request(&bench.services, asking.clone()).await.unwrap();
    let running = claimed(&bench, &first).await;
    let again = request(&bench.services, asking).await.unwrap();
    assert_eq!(*again, *running);
}

#[tokio::test]
async fn only_one_of_many_claims_wins() {
    let bench = Bench::new().await;
    let requested = bench.requested().await;
    let mut claims = tokio::task::JoinSet::new();
    for session in 0..20 {
        let (services, requested) = (bench.services.clone(), requested.clone());
        claims.spawn(async move {
            let (who, info) = holder(session);
            claim(&services, &requested, who, info).await
        });
    }
    let outcomes = claims.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(_) | Err(DomainError::Superseded(_))));
    }
}

#[tokio::test]
async fn a_result_after_the_end_or_of_another_holder_is_refused() {
    let bench = Bench::new().await;
    let running = claimed(&bench, &*bench.requested().await).await;
    let mut stranger = (*running).clone();
    stranger.doc.claim = Some(holder(2).0);
    stranger.rev = 1;
    let refused = finish(&bench.services, &stranger, success(json!({"who": "stranger"}))).await;
    assert!(matches!(refused, Err(DomainError::Superseded(_))));
    finish(&bench.services, &running, success(json!({"who": "first"}))).await.unwrap();
    let refused = finish(&bench.services, &running, success(json!({"who": "second"}))).await;
    assert!(matches!(refused, Err(DomainError::Superseded(_))));
    let stored = bench.reread(running.id).await;
    let shown = view::result(&bench.services, &stored).await.unwrap();
    assert_eq!(shown, json!({"who": "first"}));
}

#[tokio::test]
async fn cancel_before_during_and_after() {
    let bench = Bench::new().await;
    let waiting = bench.requested().await;
    let Cancellation::Accepted(canceled) = cancel(&bench.services, waiting.id, "ana").await.unwrap() else {
        panic!("not accepted")
    };
    assert_eq!(canceled.status, Status::Canceled);
    let (who, info) = holder(1);
    assert!(matches!(claim(&bench.services, &waiting, who, info).await, Err(DomainError::Superseded(_))));
    assert!(matches!(cancel(&bench.services, waiting.id, "ana").await.unwrap(), Cancellation::Already(_)));

    let running = claimed(&bench, &*bench.requested().await).await;
    let Cancellation::Accepted(canceling) = cancel(&bench.services, running.id, "ana").await.unwrap() else {
        panic!("not accepted")
    };
    assert_eq!(canceling.status, Status::Canceling);
    // The runner doesn't know yet and brings a result: the cancellation stands.
    let done = finish(&bench.services, &running, success(json!({"late": true}))).await.unwrap();
    assert_eq!(done.status, Status::Canceled);
    let shown = view::result(&bench.services, &done).await.unwrap();
    assert_eq!(shown, json!({"message": "Action canceled by user.", "user": "ana"}));
    assert_eq!(done.context["cancelled_by"], "ana");

    let done = finish(&bench.services, &*claimed(&bench, &*bench.requested().await).await, success(json!({}))).await;
    let refused = cancel(&bench.services, done.unwrap().id, "ana").await.unwrap();
    assert!(matches!(refused, Cancellation::Refused(_)));
}

#[tokio::test]
async fn large_results_lie_in_blobs_and_huge_ones_fail() {
    let settings = Settings { inline_result_limit: 100, max_result_size: 1000, ..Settings::default() };
    let bench = Bench::with(settings).await;
    let big = json!({"text": "é".repeat(200)});
    let running = claimed(&bench, &*bench.requested().await).await;
    let done = finish(&bench.services, &running, success(big.clone())).await.unwrap();
    assert_eq!(view::result(&bench.services, &done).await.unwrap(), big);
    let listed = view::execution(&bench.services, &done, ViewOptions::default()).await.unwrap();
    assert!(!listed.contains_key("result"));
    let single = ViewOptions { with_blobs: true, ..ViewOptions::default() };
    assert_eq!(view::execution(&bench.services, &done, single).await.unwrap()["result"], big);

    let running = claimed(&bench, &*bench.requested().await).await;
    let done = finish(&bench.services, &running, success(json!("x".repeat(2000)))).await.unwrap();
    assert_eq!(done.status, Status::Failed);
    let shown = view::result(&bench.services, &done).await.unwrap();
    assert!(shown["error"].as_str().unwrap().contains("max_result_size = 1000"), "{shown}");
}

#[tokio::test]
async fn secrets_are_masked_unless_asked_for() {
    let bench = Bench::new().await;
    let asking = Bench::asking("p.greet", json!({"name": "a", "password": "hunter2"}));
    let execution = request(&bench.services, asking).await.unwrap();
    let shown = view::execution(&bench.services, &execution, ViewOptions::default()).await.unwrap();
    assert_eq!(shown["parameters"], json!({"name": "a", "password": "********"}));
    assert_eq!(shown["liveaction"]["parameters"]["password"], "********");
    assert!(!Value::Object(shown).to_string().contains("hunter2"));
    let clear = ViewOptions { show_secrets: true, ..ViewOptions::default() };
    let shown = view::execution(&bench.services, &execution, clear).await.unwrap();
    assert_eq!(shown["parameters"]["password"], "hunter2");
    let live = view::liveaction(&bench.services, &execution).await.unwrap();
    assert!(!Value::Object(live).to_string().contains("hunter2"));
}

#[tokio::test]
async fn templates_that_fail_store_a_failed_execution_and_answer() {
    let bench = Bench::new().await;
    let asking = Bench::asking("p.greet", json!({"name": "{{ nope }}"}));
    let refused = request(&bench.services, asking).await.unwrap_err();
    assert_eq!(refused, DomainError::Invalid("Dependency unsatisfied in variable \"nope\"".to_owned()));
    let query = store::Query::eq("status", Status::Failed);
    let stored = store::StoreExt::search::<Execution>(bench.services.store.as_ref(), &query).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(statuses(&stored[0]), [Status::Requested, Status::Failed]);
}

#[tokio::test]
async fn a_rerun_takes_the_originals_parameters_and_says_so() {
    let bench = Bench::new().await;
    let asking = Bench::asking("p.greet", json!({"name": "a", "count": 2}));
    let first = request(&bench.services, asking).await.unwrap();
    let overrides = common::object(json!({"count": 3}));
    let again =
        rerun(&bench.services, &first, Rerun { parameters: overrides, ..Rerun::default() }, "bea").await.unwrap();
    assert_eq!(Value::Object(again.parameters.clone()), json!({"name": "a", "count": 3}));
    assert_eq!(again.context["re-run"]["ref"], json!(first.id));
    assert_eq!(again.context["user"], "bea");
}
