//! A client that asks again doesn't do something twice.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{Execution, TriggerInstance};
use serde_json::{Value, json};
use store::StoreExt;

use super::support::{Answer, Server, answer};

async fn post(server: &Server, token: &str, key: &str, path: &str, body: Value) -> Answer {
    let request = server.client.post(format!("{}{path}", server.api)).header("X-Auth-Token", token);
    answer(request.header("Idempotency-Key", key).json(&body).send().await.unwrap()).await
}

async fn executions(server: &Server) -> u64 {
    server.store.total::<Execution>(&store::Query::all()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gets_the_same_answer() {
    let server = Server::start().await;
    server.action("acme", "noop", "noop", json!({})).await;
    let (token, body) = (server.token.clone(), json!({"action": "acme.noop"}));
    let first = post(&server, &token, "k1", "/v1/executions", body.clone()).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None), "{}", first.text);
    let again = post(&server, &token, "k1", "/v1/executions", body.clone()).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(again.text, first.text);
    assert_eq!(again.header("content-type"), Some("application/json"));
    assert_eq!(executions(&server).await, 1);

    let other = post(&server, &token, "k1", "/v1/executions", json!({"action": "acme.noop", "user": "x"})).await;
    assert_eq!(other.status, 422);
    server.user("bob").await;
    server.add_token("b0b", "bob", Duration::from_secs(60)).await;
    let bob = post(&server, "b0b", "k1", "/v1/executions", body.clone()).await;
    assert!(bob.status == 201 && bob.json()["id"] != first.json()["id"]);
    let bad = post(&server, &token, "k2", "/v1/executions", json!({"action": "no.such"})).await;
    let again = post(&server, &token, "k2", "/v1/executions", json!({"action": "no.such"})).await;
    assert_eq!((bad.status, again.status, &again.text), (400, 400, &bad.text));
    let long = "k".repeat(256);
    assert_eq!(post(&server, &token, &long, "/v1/executions", body).await.status, 400);

    let made = post(&server, &token, "k3", "/v1/apikeys", json!({})).await;
    assert_eq!(made.status, 201);
    let again = post(&server, &token, "k3", "/v1/apikeys", json!({})).await;
    assert!(again.status == 409 && again.fault().contains("secret"), "{}", again.text);
    assert_eq!(server.get("/v1/apikeys").await.header("x-total-count"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_same_time_one_is_done() {
    let server = Server::start().await;
    server.action("acme", "noop", "noop", json!({})).await;
    for round in 0..5 {
        let key = format!("round {round}");
        let ask = || post(&server, &server.token, &key, "/v1/executions", json!({"action": "acme.noop"}));
        let all = futures::future::join_all((0..8).map(|_| ask())).await;
        let done: Vec<&Answer> = all.iter().filter(|answer| answer.status == 201).collect();
        assert!(
            all.iter().all(|answer| matches!(answer.status, 201 | 409)),
            "{:?}",
            all.iter().map(|a| a.status).collect::<Vec<_>>()
        );
        let ids: BTreeSet<String> = done.iter().map(|answer| answer.json()["id"].to_string()).collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(executions(&server).await, round + 1);
    }
    let hook: model::TriggerType = serde_json::from_value(json!({
        "id": "6553f1000000000000000000", "uid": "trigger_type:core:st2.webhook", "ref": "core.st2.webhook",
        "pack": "core", "name": "st2.webhook",
    }))
    .unwrap();
    server.insert(&hook).await;
    let trigger = json!({"type": "core.st2.webhook", "parameters": {"url": "h"}});
    let rule = json!({"pack": "acme", "name": "r", "trigger": trigger, "action": {"ref": "acme.noop"}, "criteria": {}});
    assert_eq!(server.post("/v1/rules", rule).await.status, 201);
    for _ in 0..3 {
        assert_eq!(post(&server, &server.token, "hook", "/v1/webhooks/h", json!({"a": 1})).await.status, 202);
    }
    let instances = server.store.total::<TriggerInstance>(&store::Query::all()).await.unwrap();
    assert_eq!(instances, 1);
}
