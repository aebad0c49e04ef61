//! Traces, put together from what belongs to them.

use model::{Cause, Execution, Id, InstanceStatus, RuleEnforcement, TriggerInstance};
use serde_json::{Value, json};
use store::StoreExt;

use super::support::Server;

/// An event that a rule answered with an execution, which had a child.
async fn chain(server: &Server, tag: Option<&str>) -> (TriggerInstance, Execution, Execution) {
    let now = server.now();
    let instance = TriggerInstance {
        id: Id::fresh(now),
        trigger: "acme.seen".to_owned(),
        payload: json!({}),
        occurrence_time: now.to_millis_precision(),
        status: InstanceStatus::Processed,
        trace_context: tag.map(|tag| model::resource::to_object(&json!({"trace_tag": tag}))),
        check_at: None,
    };
    server.insert(&instance).await;
    let rule = Id::of_content(b"rule");
    let made = server.post("/v1/executions", json!({"action": "acme.noop"})).await.json();
    let id: Id = made["id"].as_str().unwrap().parse().unwrap();
    let stored = server.services.store.read::<Execution>(id).await.unwrap().unwrap().doc;
    let mut first = stored.clone();
    (first.id, first.liveaction_id) = (Id::fresh(now), Id::fresh(now));
    first.context = model::resource::to_object(&json!({
        "user": "st2admin", "rule": {"id": rule}, "trace_context": {"id_": instance.id},
    }));
    first.cause = Some(Box::new(Cause {
        rule_ref: "acme.r".to_owned(),
        rule_name: "r".to_owned(),
        trigger_name: "seen".to_owned(),
        trigger_type_name: "seen".to_owned(),
        trigger_instance_id: instance.id,
        rule,
        trigger: rule,
        trigger_type: rule,
        trigger_instance: json!({}),
    }));
    let mut second = first.clone();
    (second.id, second.liveaction_id) = (Id::fresh(now), Id::fresh(now));
    (second.parent, second.cause) = (Some(first.id), None);
    second.start_timestamp = first.start_timestamp.plus(std::time::Duration::from_millis(1));
    server.insert(&first).await;
    server.insert(&second).await;
    let record: RuleEnforcement = serde_json::from_value(json!({
        "id": Id::fresh(now), "trigger_instance_id": instance.id, "execution_id": first.id,
        "rule": {"ref": "acme.r", "id": rule, "uid": "rule:acme:r"}, "enforced_at": now, "status": "succeeded",
    }))
    .unwrap();
    server.insert(&record).await;
    (instance, first, second)
}

fn ids(answer: &Value) -> Vec<&str> {
    answer.as_array().unwrap().iter().map(|trace| trace["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_followed_from_an_event() {
    let server = Server::start().await;
    server.action("acme", "noop", "noop", json!({})).await;
    let (instance, first, second) = chain(&server, Some("tagged")).await;
    let trace = server.get(&format!("/v1/traces/{}", instance.id)).await.json();
    assert_eq!(trace["trace_tag"], "tagged");
    assert_eq!(trace["id"], json!(instance.id));
    assert_eq!(trace["trigger_instances"][0]["object_id"], json!(instance.id));
    assert_eq!(trace["trigger_instances"][0]["caused_by"], json!({}));
    let rule = &trace["rules"][0];
    assert_eq!((&rule["ref"], &rule["caused_by"]["id"]), (&json!("acme.r"), &json!(instance.id)));
    let executions = trace["action_executions"].as_array().unwrap();
    let caused: Vec<(&Value, &Value)> =
        executions.iter().map(|part| (&part["object_id"], &part["caused_by"])).collect();
    let by_rule = json!({"type": "rule", "id": format!("{}:{}", Id::of_content(b"rule"), instance.id)});
    let by_parent = json!({"type": "action_execution", "id": first.id});
    assert_eq!(caused, [(&json!(first.id), &by_rule), (&json!(second.id), &by_parent)]);

    for filter in [
        format!("execution={}", second.id),
        format!("trigger_instance={}", instance.id),
        format!("rule={}", Id::of_content(b"rule")),
        format!("execution={}&trace_tag=tagged", first.id),
        "trace_tag=tagged".to_owned(),
        format!("id={}", instance.id),
    ] {
        let found = server.get(&format!("/v1/traces?{filter}")).await;
        assert_eq!(ids(&found.json()), [instance.id.to_string()], "{filter}");
        assert_eq!(found.header("x-total-count"), Some("1"));
    }
    for filter in ["trace_tag=none", "execution=x", "rule=acme.r", &format!("execution={}&trace_tag=t", first.id)] {
        assert_eq!(server.get(&format!("/v1/traces?{filter}")).await.text, "[]", "{filter}");
    }
    // What is no beginning is no trace.
    assert_eq!(server.get(&format!("/v1/traces/{}", first.id)).await.status, 404);
    assert_eq!(server.get("/v1/traces/none").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_requests_begin_and_name() {
    let server = Server::start().await;
    server.action("acme", "noop", "noop", json!({})).await;
    let ask =
        async |context: Value| server.post("/v1/executions", json!({"action": "acme.noop", "context": context})).await;
    let plain = ask(json!({})).await.json();
    let first = plain["id"].as_str().unwrap();
    let tagged = ask(json!({"trace_context": {"trace_tag": "t"}})).await.json();
    let second = tagged["id"].as_str().unwrap();
    let same = ask(json!({"trace_context": {"id_": second}})).await;
    assert_eq!(same.status, 201);
    let unknown = ask(json!({"trace_context": {"id_": "0123456789abcdef01234567"}})).await;
    assert_eq!(unknown.status, 400);
    assert_eq!(unknown.fault(), "Unable to find Trace with id=\"0123456789abcdef01234567\"");
    let link = same.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(ask(json!({"trace_context": {"id_": link}})).await.status, 400, "no beginning");

    let all = server.get("/v1/traces").await;
    assert_eq!((ids(&all.json()), all.header("x-limit")), (vec![second, first], Some("100")));
    assert_eq!(ids(&server.get("/v1/traces?sort_asc=True&limit=1").await.json()), [first]);
    let last = server.get("/v1/traces?limit=1&offset=1").await;
    assert_eq!((ids(&last.json()), last.header("x-total-count")), (vec![first], Some("2")));
    let tag = all.json()[1]["trace_tag"].as_str().unwrap().to_owned();
    assert_eq!(tag, format!("execution-{}", plain["liveaction"]["id"].as_str().unwrap()));
    assert_eq!(ids(&server.get(&format!("/v1/traces?trace_tag={tag}")).await.json()), [first]);
    let two = server.get(&format!("/v1/traces/{second}")).await.json();
    assert_eq!(two["action_executions"].as_array().unwrap().len(), 2);
    let chosen = server.get("/v1/traces?include_attributes=trace_tag&limit=1").await.json();
    assert_eq!(chosen, json!([{"id": second, "trace_tag": "t"}]));
}
