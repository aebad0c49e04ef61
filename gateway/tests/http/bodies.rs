//! Hostile and odd requests.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Server, answer};

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_refused_and_the_gateway_goes_on() {
    let server = Server::start().await;
    let big = json!({"action": "core.noop", "parameters": {"x": "y".repeat(10 * 1024 * 1024)}});
    for path in ["/v1/executions", "/v1/webhooks/nope", "/v1/rules"] {
        let refused = server.post(path, big.clone()).await;
        assert_eq!(refused.status, 413, "{path}");
        assert!(refused.fault().contains("over the limit of 8388608 (api.max_body_size)"), "{}", refused.fault());
    }
    let url = format!("{}/v1/executions", server.api);
    let unknown = answer(server.client.post(url).json(&big).send().await.unwrap()).await;
    assert_eq!(unknown.status, 401);
    assert_eq!(server.get("/v1/user").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bodies_get_a_clear_error() {
    let server = Server::start().await;
    let post = |kind: &'static str, body: Vec<u8>| {
        let url = format!("{}/v1/executions", server.api);
        let request = server.client.post(url).header("X-Auth-Token", &server.token).header("Content-Type", kind);
        async move { answer(request.body(body).send().await.unwrap()).await }
    };
    let deep = "[".repeat(200_000).into_bytes();
    for (kind, body, fault) in [
        ("application/json", b"{".to_vec(), "unexpected end of data: line 1 column 2 (char 1)"),
        ("application/json", b"{\"a\": \"\xff\"}".to_vec(), "invalid UTF-8"),
        ("application/json", deep, "too many nested structures"),
        ("text/xml", b"<a/>".to_vec(), "Unsupported Content-Type: \"text/xml\""),
        ("text/plain", b"hello".to_vec(), "'hello' is not of type 'object'"),
        ("application/json", b"[1]".to_vec(), "[1] is not of type 'object'"),
        ("application/json", b"null".to_vec(), "None is not of type 'object'"),
        ("application/json", b"".to_vec(), "'action' is a required property"),
    ] {
        let refused = post(kind, body).await;
        assert_eq!(refused.status, 400, "{fault}");
        assert!(refused.fault().contains(fault), "{} / {fault}", refused.fault());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_request_id_and_cors() {
    let server = Server::start().await;
    for (method, path, status) in [
        (Method::GET, "/v1/nope", 404),
        (Method::PATCH, "/v1/actions", 404),
        (Method::GET, "/v1/%ff", 404),
        (Method::OPTIONS, "/anything", 200),
        (Method::GET, "/v1/actions", 200),
        (Method::HEAD, "/v1/actions", 200),
    ] {
        let request = server
            .client
            .request(method.clone(), format!("{}{path}", server.api))
            .header("X-Auth-Token", &server.token)
            .header("Origin", "http://example.com")
            .header("X-Request-ID", "abc");
        let got = answer(request.send().await.unwrap()).await;
        assert_eq!(got.status, status, "{method} {path}");
        assert_eq!(got.header("x-request-id"), Some("abc"));
        assert_eq!(got.header("access-control-allow-origin"), Some("http://example.com"));
        assert_eq!(got.header("access-control-allow-credentials"), Some("true"));
    }
    assert_eq!(server.get("/v1/nope").await.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_have_their_texts() {
    let server = Server::start().await;
    for (query, fault) in [
        ("limit=0", "Limit, \"0\" specified, must be a positive number or -1 for full result set."),
        ("limit=-22", "Limit, \"-22\" specified, must be a positive number."),
        ("limit=abc", "Parameter \"limit\" is not of type integer"),
        ("offset=2147483648", "Offset \"2147483648\" specified is more than 32-bit int"),
        ("id=zzz", "'zzz' is not a valid ObjectId, it must be a 12-byte input or a 24-character hex string"),
        ("exclude_attributes=bogus", "Invalid or unsupported exclude attribute specified: bogus"),
    ] {
        let refused = server.get(&format!("/v1/executions?{query}")).await;
        assert_eq!((refused.status, refused.fault()), (400, fault.to_owned()));
    }
    let empty = server.get("/v1/executions?offset=-0&bogus=1").await;
    assert_eq!((empty.status, empty.text.as_str()), (200, "[]"));
    assert_eq!((empty.header("x-limit"), empty.header("x-total-count")), (Some("100"), Some("0")));
    let all = server.get("/v1/executions?limit=-1").await;
    assert_eq!((all.status, all.header("x-limit")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish_and_closes_idle_connections() {
    let mut server = Server::start().await;
    let address = server.api.strip_prefix("http://").unwrap().to_owned();
    let mut idle = TcpStream::connect(&address).await.unwrap();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/executions HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {}\r\nContent-Length: 2\r\n\r\n{{",
        server.token
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // The connections are accepted once a later one was served.
    assert_eq!(server.get("/v1/user").await.status, 200);
    let stopped = async {
        let finish = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            slow.write_all(b"}").await.unwrap();
            let mut text = String::new();
            slow.read_to_string(&mut text).await.unwrap();
            text
        };
        let ((), text) = tokio::join!(server.stop(), finish);
        text
    };
    let text = tokio::time::timeout(Duration::from_secs(8), stopped).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
}
