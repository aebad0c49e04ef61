//! `http-request` against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

#[path = "../common/mod.rs"]
mod common;
mod options;
mod server;

use common::Bed;
use domain::executions::cancel;
use model::Status;
use serde_json::{Value, json};
use server::serve;

async fn bed() -> Bed {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().await;
    bed.add_core().await;
    bed
}

async fn call(bed: &Bed, parameters: Value) -> (Status, Value) {
    bed.run("core.http", parameters).await
}

#[tokio::test]
async fn answers_become_results() {
    let (bed, server) = (bed().await, serve());
    let url = |path: &str| format!("http://{server}{path}");
    let (status, result) = call(&bed, json!({"url": url("/json")})).await;
    assert_eq!(status, Status::Succeeded);
    let headers = json!({
        "Content-Type": "application/json; charset=utf-8", "X-Twice": "a, b", "Content-Length": "13",
        "Connection": "close",
    });
    assert_eq!(result, json!({"status_code": 200, "body": {"a": [1, 2]}, "parsed": true, "headers": headers}));
    let (_, result) = call(&bed, json!({"url": url("/broken")})).await;
    assert_eq!((&result["body"], &result["parsed"]), (&json!("{"), &json!(false)));
    for (path, code) in [("/missing", 404), ("/multi", 207), ("/moved", 302)] {
        let (status, result) = call(&bed, json!({"url": url(path)})).await;
        assert_eq!((status, &result["status_code"]), (Status::Failed, &json!(code)));
    }
    let (status, result) = call(&bed, json!({"url": url("/moved"), "allow_redirects": true})).await;
    assert_eq!((status, &result["parsed"]), (Status::Succeeded, &json!(true)));
}

#[tokio::test]
async fn requests_carry_what_the_action_says() {
    let (bed, server) = (bed().await, serve());
    let url = format!("http://{server}/echo?a=1");
    let (_, result) = call(
        &bed,
        json!({
            "url": url, "headers": {"Content-Type": "application/json", "X-Own": "x"}, "body": "{'ž': 1}",
            "params": {"b": "2 3"}, "cookies": {"c": "d"}, "username": "u", "password": "p",
        }),
    )
    .await;
    let text = result["body"].as_str().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"ž\":1}");
    assert!(head.starts_with("POST /echo?a=1&b=2+3 HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    for line in [
        "x-own: x",
        "cookie: c=d",
        "authorization: basic dtpw",
        "user-agent: st2/v3.9.0",
        "x-stanley-action: http",
        "content-type: application/json",
        "content-length: 8",
    ] {
        assert!(head.lines().any(|one| one == line), "{line}: {head}");
    }
    let (_, result) = call(&bed, json!({"url": format!("http://{server}/echo")})).await;
    assert!(result["body"].as_str().unwrap().starts_with("GET /echo HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_fails_says_why() {
    let (bed, server) = (bed().await, serve());
    let (status, result) = call(&bed, json!({"url": "http://127.0.0.1:1/"})).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("Connection refused"), "{result}");
    let slow = format!("http://{server}/slow");
    let (status, result) = call(&bed, json!({"url": slow, "timeout": 0.2})).await;
    assert_eq!(status, Status::Timeout, "{result}");
    let (status, result) = call(&bed, json!({"url": slow, "url_hosts_blacklist": ["127.0.0.1"]})).await;
    assert_eq!((status, &result["error"]), (Status::Failed, &json!(format!("URL \"{slow}\" is blacklisted"))));
    let requested = bed.request("core.http", json!({"url": slow})).await;
    bed.wait(requested.id, "runs", |execution| execution.status == Status::Running).await;
    cancel(&bed.services, requested.id, "bob").await.unwrap();
    assert_eq!(bed.completed(requested.id).await.status, Status::Canceled);
}
