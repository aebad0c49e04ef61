//! What follows completions, on a real store.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::time::Duration;

use common::{Bench, Role, eventually, run_actions, statuses};
use domain::executions::Request;
use model::{Execution, Status, TriggerInstance};
use scheduler::{PostRun, PostRunSettings, ScheduleSettings, Scheduler};
use serde_json::json;
use store::{Query, StoreExt};

fn postrun(bench: &Bench) -> Role {
    let role = PostRun::new(bench.services.clone(), PostRunSettings::default());
    Role::start(|cancel| role.run(cancel))
}

fn scheduler(bench: &Bench) -> Role {
    let role = Scheduler::new(bench.services.clone(), ScheduleSettings::default());
    Role::start(|cancel| role.run(cancel))
}

fn is(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// I-P4: at most max_retry_count successors, one for each failure, each after its delay.
#[tokio::test]
async fn failures_are_retried_as_often_as_the_policy_says() {
    let bench = Bench::new().await;
    bench.add_action("p.fail", json!({"end": {"type": "string", "default": "failed"}})).await;
    let parameters = json!({"retry_on": "failure", "max_retry_count": 2, "delay": 0.4});
    bench.add_policy("again", "p.fail", "action.retry", parameters).await;
    let _roles = (scheduler(&bench), postrun(&bench));
    let (_runner, _) = run_actions(&bench.services, 4, Duration::ZERO);
    let first = bench.request("p.fail", json!({"end": "failed"})).await;
    bench.request("p.fail", json!({"end": "abandoned"})).await;
    eventually("three failed", || async { is(bench.count(Status::Failed).await == 3) }).await;
    eventually("all done", || async { is(bench.pending_postruns().await == 0) }).await;
    let query = Query::eq("action", "p.fail").and(store::Cond::Eq("status", Status::Failed.into()));
    let mut all = common::docs(bench.services.store.search::<Execution>(&query).await.unwrap());
    all.sort_by_key(|execution| execution.start_timestamp);
    assert_eq!(all.len(), 3);
    for (n, pair) in all.windows(2).enumerate() {
        let retry = &pair[1].context["policies"]["retry"];
        let expected = json!({
            "applied_policy": "p.again",
            "retry_count": n + 1,
            "retried_liveaction_id": pair[0].liveaction_id,
        });
        assert_eq!(*retry, expected);
        assert_eq!(pair[1].parameters, first.parameters);
        assert_eq!(statuses(&pair[1])[..2], ["requested", "delayed"]);
    }
    assert_eq!(bench.total::<Execution>().await, 4);
}

#[tokio::test]
async fn each_section_and_route_is_notified_once() {
    let bench = Bench::new().await;
    bench.add_type("core.st2.generic.notifytrigger", json!({})).await;
    let _roles = (scheduler(&bench), postrun(&bench));
    let (_runner, _) = run_actions(&bench.services, 4, Duration::ZERO);
    let notify = json!({
        "on-complete": {"message": "{{ action_parameters.name }} ended", "routes": ["a", "b"], "data": {"k": "{{ action_results.n }}"}},
        "on-success": {"message": ""},
        "on-failure": {"routes": ["never"]},
    });
    let asked = Request { notify: Some(notify), ..Bench::asking("p.greet", json!({"name": "x"})) };
    let execution = bench.ask(asked).await;
    bench.becomes(execution.id, Status::Succeeded).await;
    eventually("notified", || async { is(bench.pending_postruns().await == 0) }).await;
    let mut told: Vec<TriggerInstance> = bench.instances_of("core.st2.generic.notifytrigger").await;
    told.sort_by_key(|instance| instance.payload["route"].as_str().unwrap().to_owned());
    let field = |name: &str| told.iter().map(|t| t.payload[name].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(field("route"), ["a", "b", "notify.default"]);
    assert_eq!(field("channel"), field("route"));
    assert_eq!(field("message"), ["x ended", "x ended", "Action p.greet succeeded."]);
    let payload = &told[0].payload;
    assert_eq!(payload["data"]["result"], r#"{"n":1}"#);
    assert_eq!(payload["execution_id"], json!(execution.id));
    assert_eq!((&payload["status"], &payload["action_ref"]), (&json!("succeeded"), &json!("p.greet")));
    assert!(payload["end_timestamp"].as_str().unwrap().ends_with("+00:00"));
}

#[tokio::test]
async fn the_action_trigger_fires_once_while_a_rule_wants_it() {
    let bench = Bench::new().await;
    bench.add_type("core.st2.generic.actiontrigger", json!({})).await;
    let _roles = (scheduler(&bench), postrun(&bench));
    let (_runner, _) = run_actions(&bench.services, 4, Duration::ZERO);
    let unheard = bench.request("p.noop", json!({})).await;
    let ended = bench.becomes(unheard.id, Status::Succeeded).await;
    assert!(!ended.postrun_pending, "a plain execution costs three writes");
    assert_eq!(bench.total::<TriggerInstance>().await, 0);

    bench.add_rule(Bench::rule("all", "core.st2.generic.actiontrigger", json!({}), "p.noop", json!({}))).await;
    let heard = bench.request("p.greet", json!({"name": "x", "password": "hunter2"})).await;
    bench.becomes(heard.id, Status::Succeeded).await;
    eventually("it fires", || async { is(bench.total::<TriggerInstance>().await == 1) }).await;
    let instance = bench.instances_of("core.st2.generic.actiontrigger").await.pop().unwrap();
    let payload = &instance.payload;
    assert_eq!(payload["execution_id"], json!(heard.id));
    assert_eq!((&payload["action_name"], &payload["runner_ref"]), (&json!("p.greet"), &json!("noop")));
    assert_eq!(payload["parameters"], json!({"name": "x", "password": "********"}));
    assert_eq!(payload["result"], json!({"n": 1}));
    let start = payload["start_timestamp"].as_str().unwrap();
    assert!(start.contains(' ') && start.ends_with("+00:00"), "{start}");
    // The same again changes nothing.
    let stored = bench.services.store.read::<Execution>(heard.id).await.unwrap().unwrap();
    for pending in [true, false] {
        let mut again = stored.clone();
        again.doc.postrun_pending = pending;
        let job = bus::Job::Execution { id: heard.id, hint: Some(std::sync::Arc::new(again)) };
        bench.services.bus.enqueue(bus::Queue::PostRun, job).await.unwrap();
    }
    eventually("it was looked at", || async {
        is(bench.services.bus.waiting(bus::Queue::PostRun).await.unwrap() == 0)
    })
    .await;
    assert_eq!(bench.total::<TriggerInstance>().await, 1);
}

/// What was left when the process died is done by the next one.
#[tokio::test]
async fn a_start_finds_what_was_left() {
    let bench = Bench::new().await;
    let _scheduler = scheduler(&bench);
    let (_runner, _) = run_actions(&bench.services, 4, Duration::ZERO);
    bench.add_policy("again", "p.greet", "action.retry", json!({"retry_on": "failure", "max_retry_count": 1})).await;
    let execution = bench.request("p.greet", json!({"name": "x"})).await;
    bench.becomes(execution.id, Status::Succeeded).await;
    assert_eq!(bench.pending_postruns().await, 1);
    let after = bench.restarted();
    let role = postrun(&after);
    eventually("done", || async { is(after.pending_postruns().await == 0) }).await;
    role.stop().await;
}
