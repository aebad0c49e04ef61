//! Executions without a runner.

use reqwest::Method;
use serde_json::json;

use super::support::Server;

async fn with_action() -> Server {
    let server = Server::start().await;
    let parameters = json!({
        "word": {"type": "string", "required": true},
        "token": {"type": "string", "secret": true},
    });
    server.action("acme", "say", "noop", parameters).await;
    server.action("acme", "nothing", "noop", json!({})).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_read_cancelled_and_run_again() {
    let server = with_action().await;
    let body = json!({"action": "acme.say", "parameters": {"word": "hi", "token": "s3cret"}});
    let made = server.post("/v1/executions", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    assert_eq!((&made["status"], &made["parameters"]["token"]), (&json!("requested"), &json!("********")));
    assert_eq!(made["context"], json!({"user": "st2admin", "pack": "acme"}));
    assert!(made.get("result").is_none());
    let path = format!("/v1/executions/{}", made["id"].as_str().unwrap());

    assert_eq!(server.get(&path).await.json()["parameters"]["token"], "********");
    assert_eq!(server.get(&format!("{path}?show_secrets=true")).await.json()["parameters"]["token"], "s3cret");
    let status = server.get(&format!("{path}?include_attributes=status,action.ref")).await.json();
    assert_eq!((&status["status"], &status["action"]["ref"]), (&json!("requested"), &json!("acme.say")));
    assert!(status["action"].get("name").is_none() && status.get("parameters").is_none());
    assert_eq!(server.get("/v1/executions/last").await.json()["id"], made["id"]);
    assert_eq!(server.get(&format!("{path}/attribute/status")).await.json(), "requested");
    assert_eq!(server.get(&format!("{path}/children")).await.json(), json!([]));
    assert_eq!(server.get(&format!("{path}/output")).await.text, "");
    assert_eq!(server.get(&format!("{path}/result")).await.text, "{}");

    let listed = server.get("/v1/actionexecutions?action=acme.say&parent=null&user=st2admin").await;
    assert_eq!((listed.header("x-total-count"), listed.json().as_array().unwrap().len()), (Some("1"), 1));
    let filters = server.get("/v1/executions/views/filters").await.json();
    assert_eq!((&filters["action"], &filters["rule"]), (&json!(["acme.say"]), &json!([null])));

    let pause = server.call(Method::PUT, &path, Some(json!({"status": "paused"}))).await;
    assert!(pause.fault().contains("is not supported by the \"noop\" runner."), "{}", pause.fault());
    let cancelled = server.call(Method::DELETE, &path, None).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("canceled")));
    assert_eq!(server.call(Method::DELETE, &path, None).await.json()["status"], "canceled");
    let update = server.call(Method::PUT, &path, Some(json!({"status": "running"}))).await;
    assert_eq!((update.status, update.fault()), (400, "Execution is already in completed state.".to_owned()));

    let again = server.post(&format!("{path}/re_run"), json!({"parameters": {"word": "bye"}})).await;
    assert_eq!(again.status, 201);
    assert_eq!(again.json()["context"]["re-run"], json!({"ref": made["id"]}));
    assert_eq!(again.json()["parameters"]["word"], "bye");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said() {
    let server = with_action().await;
    for (body, fault) in [
        (json!({}), "'action' is a required property"),
        (json!({"action": 5}), "5 is not of type 'string'"),
        (json!({"action": "acme.nope"}), "Action \"acme.nope\" cannot be found."),
        (json!({"action": "acme.say"}), "'word' is a required property"),
        (json!({"action": "acme.nothing", "delay": -1}), "-1 is less than the minimum of 0"),
        (
            json!({"action": "acme.say", "parameters": {"word": "x", "zz": 1}}),
            "Additional properties are not allowed ('zz' was unexpected)",
        ),
    ] {
        let refused = server.post("/v1/executions", body).await;
        assert_eq!((refused.status, refused.fault()), (400, fault.to_owned()));
    }
    for id in ["nope", "000000000000000000000000"] {
        let unknown = server.get(&format!("/v1/executions/{id}")).await;
        assert_eq!(unknown.fault(), format!("Unable to identify resource with id \"{id}\"."));
    }
    let request = server
        .client
        .post(format!("{}/executions", server.api))
        .header("X-Auth-Token", &server.token)
        .header("st2-context", "[1]")
        .json(&json!({"action": "acme.nothing"}));
    assert_eq!(request.send().await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_nothing_is_acknowledged_and_nothing_looks_empty() {
    let server = with_action().await;
    assert_eq!(server.post("/v1/executions", json!({"action": "acme.nothing"})).await.status, 201);
    server.store.close().await;
    let id = "6553f1000000000000000000";
    for (method, path) in [
        (Method::GET, "/v1/executions".to_owned()),
        (Method::GET, format!("/v1/executions/{id}")),
        (Method::GET, format!("/v1/executions/{id}/output")),
        (Method::GET, "/v1/keys".to_owned()),
        (Method::GET, "/v1/rules".to_owned()),
        (Method::POST, "/v1/executions".to_owned()),
    ] {
        let body = (method == Method::POST).then(|| json!({"action": "acme.nothing"}));
        let lost = server.call(method.clone(), &path, body).await;
        assert_eq!((lost.status, lost.header("retry-after")), (503, Some("2")), "{method} {path}: {}", lost.text);
        assert_eq!(lost.fault(), "The database is not available, try again.");
    }
}
