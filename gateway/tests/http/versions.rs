//! Versions of resources: two who change the same thing don't overwrite each other unless they want to.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{Answer, Server, answer};

async fn call(server: &Server, method: Method, path: &str, header: (&str, &str), body: Option<Value>) -> Answer {
    let request = server.client.request(method, format!("{}{path}", server.api));
    let request = request.header("X-Auth-Token", &server.token).header(header.0, header.1);
    let request = body.iter().fold(request, |request, body| request.json(body));
    answer(request.send().await.unwrap()).await
}

fn rule(name: &str) -> Value {
    let trigger = json!({"type": "core.st2.webhook", "parameters": {"url": name}});
    json!({"pack": "acme", "name": name, "trigger": trigger, "action": {"ref": "acme.noop"}, "criteria": {}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_old_version_is_refused() {
    let server = Server::start().await;
    server.action("acme", "noop", "noop", json!({})).await;
    let alias = |text: &str| json!({"pack": "acme", "name": "a", "action_ref": "acme.noop", "formats": [text]});
    let made = server.post("/v1/actionalias", alias("a")).await.json();
    let trigger = json!({"pack": "acme", "name": "t"});
    assert_eq!(server.post("/v1/triggertypes", trigger.clone()).await.status, 201);
    let policy = json!({
        "pack": "acme", "name": "p", "policy_type": "action.concurrency", "resource_ref": "acme.noop",
        "parameters": {"threshold": 1},
    });
    assert_eq!(server.post("/v1/policies", policy.clone()).await.status, 201);
    let key = json!({"name": "k", "value": "1"});
    assert_eq!(server.call(Method::PUT, "/v1/keys/k", Some(key.clone())).await.status, 200);
    let api_key = server.post("/v1/apikeys", json!({})).await.json();
    let execution = server.post("/v1/executions", json!({"action": "acme.noop"})).await.json();
    let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
    for (path, change) in [
        (format!("/v1/actionalias/{}", id(&made)), Some(alias("b"))),
        ("/v1/triggertypes/acme.t".to_owned(), Some(trigger)),
        ("/v1/policies/acme.p".to_owned(), Some(policy)),
        ("/v1/runnertypes/noop".to_owned(), Some(json!({"enabled": false}))),
        ("/v1/keys/k".to_owned(), Some(json!({"name": "k", "value": "2"}))),
        (format!("/v1/apikeys/{}", id(&api_key)), Some(json!({"metadata": {"a": 1}}))),
        (format!("/v1/executions/{}", id(&execution)), None),
    ] {
        let shown = server.get(&path).await;
        let tag = shown.header("etag").unwrap_or_else(|| panic!("{path} has no version")).to_owned();
        let same = call(&server, Method::GET, &path, ("If-None-Match", &tag), None).await;
        assert_eq!((same.status, same.text.as_str()), (304, ""), "{path}");
        let method = if change.is_some() { Method::PUT } else { Method::DELETE };
        let refused = call(&server, method.clone(), &path, ("If-Match", "\"999\""), change.clone()).await;
        assert_eq!(refused.status, 412, "{path}: {}", refused.text);
        let changed = call(&server, method, &path, ("If-Match", &tag), change).await;
        assert_eq!(changed.status, 200, "{path}: {}", changed.text);
        let again = call(&server, Method::DELETE, &path, ("If-Match", &tag), None).await;
        let may_stay = path.contains("triggertypes") || path.contains("runnertypes");
        assert!(again.status == 412 || may_stay, "{path}: {} {}", again.status, again.text);
    }
    let refused = call(&server, Method::PUT, "/v1/rbac/definitions", ("If-Match", "\"1\""), Some(json!({}))).await;
    assert_eq!(refused.status, 412, "what has no version can't have the one that is named");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_of_one_version_one_wins() {
    let server = Server::start().await;
    server.action("acme", "noop", "noop", json!({})).await;
    let webhook: model::TriggerType = serde_json::from_value(json!({
        "id": "6553f1000000000000000000", "uid": "trigger_type:core:st2.webhook", "ref": "core.st2.webhook",
        "pack": "core", "name": "st2.webhook",
    }))
    .unwrap();
    server.insert(&webhook).await;
    let made = server.post("/v1/rules", rule("r")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/v1/rules/{}", made.json()["id"].as_str().unwrap());
    for round in 0..5 {
        let tag = server.get(&path).await.header("etag").unwrap().to_owned();
        let change = |who: &str| {
            let mut body = rule("r");
            body["description"] = json!(format!("{who} {round}"));
            call(&server, Method::PUT, &path, ("If-Match", &tag), Some(body))
        };
        let (one, two, three) = tokio::join!(change("a"), change("b"), change("c"));
        let mut codes = [one.status, two.status, three.status];
        codes.sort_unstable();
        assert!(codes[0] == 200 && matches!(codes[1], 409 | 412) && matches!(codes[2], 409 | 412), "{codes:?}");
    }
}
