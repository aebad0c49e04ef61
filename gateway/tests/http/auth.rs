//! Who gets in, and who doesn't.

use std::time::Duration;

use base64::Engine as _;
use model::Id;
use reqwest::Method;
use serde_json::json;

use super::support::{Answer, PASSWORD, Server, answer};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

async fn login(server: &Server, user: &str, password: &str, body: serde_json::Value) -> Answer {
    let request = server.client.post(format!("{}/tokens", server.auth)).header("Authorization", basic(user, password));
    answer(request.json(&body).send().await.unwrap()).await
}

async fn with_header(server: &Server, name: &str, value: &str) -> Answer {
    let request = server.client.get(format!("{}/v1/user", server.api)).header(name, value);
    answer(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_used_and_expire() {
    let server = Server::start().await;
    let made = login(&server, "st2admin", PASSWORD, json!({})).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("x-api-url"), Some("http://127.0.0.1:9101"));
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 32);

    let used = with_header(&server, "X-Auth-Token", &token).await;
    assert_eq!((used.status, used.json()["username"].as_str()), (200, Some("st2admin")));
    let cookie = used.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with(&format!("auth-token={token}; Max-Age=863")), "{cookie}");
    assert!(cookie.ends_with("; secure; HttpOnly; SameSite=lax"), "{cookie}");
    let by_cookie = with_header(&server, "Cookie", &format!("x=y; auth-token={token}")).await;
    assert_eq!((by_cookie.status, by_cookie.header("set-cookie")), (200, None));
    let url = format!("{}/api/v1/user?x-auth-token={token}", server.combined);
    let by_query = answer(server.client.get(url).send().await.unwrap()).await;
    assert_eq!(by_query.json()["authentication"]["location"], "query");

    for (body, fault) in [
        (json!({"ttl": 0}), "0 is less than the minimum of 1"),
        (json!({"ttl": 999_999}), "TTL specified 999999 is greater than max allowed 86400."),
        (json!({"user": "bob"}), "Current user is not a service and cannot request impersonated tokens"),
        (json!({"ttl": "x"}), "'x' is not of type 'integer'"),
    ] {
        let refused = login(&server, "st2admin", PASSWORD, body).await;
        assert_eq!((refused.status, refused.fault()), (400, fault.to_owned()));
    }

    server.add_token("00000000000000000000000000000000", "st2admin", Duration::from_millis(1)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let expired = with_header(&server, "X-Auth-Token", "00000000000000000000000000000000").await;
    assert_eq!((expired.status, expired.fault()), (401, "Unauthorized - Token has expired.".to_owned()));
    let unknown = with_header(&server, "X-Auth-Token", "ffffffffffffffffffffffffffffffff").await;
    assert_eq!((unknown.status, unknown.fault()), (401, "Unauthorized".to_owned()));
    server.add_token("11111111111111111111111111111111", "nobody", Duration::from_secs(60)).await;
    assert_eq!(with_header(&server, "X-Auth-Token", "11111111111111111111111111111111").await.status, 401);
    let nothing = with_header(&server, "X-Auth-Token", "").await;
    assert_eq!(nothing.fault(), "Unauthorized - One of Token or API key required.");
}

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_follow_their_changes_at_once() {
    let server = Server::start().await;
    let made = server.post("/v1/apikeys", json!({"metadata": {"used_by": "test"}})).await;
    assert_eq!(made.status, 201);
    let (key, id) = (made.json()["key"].as_str().unwrap().to_owned(), made.json()["id"].as_str().unwrap().to_owned());
    assert!(made.json().get("key_hash").is_none());
    let used = with_header(&server, "St2-Api-Key", &key).await;
    assert_eq!(used.json()["authentication"], json!({"method": "API key", "location": "header"}));
    assert!(used.header("set-cookie").is_none());

    let disabled = server.call(Method::PUT, &format!("/v1/apikeys/{id}"), Some(json!({"enabled": false}))).await;
    assert_eq!(disabled.status, 200);
    let refused = with_header(&server, "St2-Api-Key", &key).await;
    assert_eq!((refused.status, refused.fault()), (401, "Unauthorized - API key is disabled.".to_owned()));
    server.call(Method::PUT, &format!("/v1/apikeys/{id}"), Some(json!({"enabled": true}))).await;
    assert_eq!(with_header(&server, "St2-Api-Key", &key).await.status, 200);
    assert_eq!(server.call(Method::DELETE, &format!("/v1/apikeys/{id}"), None).await.status, 204);
    let gone = with_header(&server, "St2-Api-Key", &key).await;
    assert_eq!(gone.status, 401);
    assert!(!gone.text.contains(&key));
    assert!(gone.fault().starts_with("Unauthorized - ApiKey with key_hash="));
}

#[tokio::test(flavor = "multi_thread")]
async fn running_actions_are_known_by_their_signature() {
    let server = Server::start().await;
    let execution = Id::fresh(server.now());
    let token = server.action_tokens.issue(execution, "stanley", server.now(), Duration::from_secs(60));
    let used = with_header(&server, "X-Auth-Token", &token).await;
    assert_eq!((used.status, used.json()["username"].as_str()), (200, Some("stanley")));
    let mut forged = token.clone();
    forged.replace_range(8..9, if &token[8..9] == "A" { "B" } else { "A" });
    assert_eq!(with_header(&server, "X-Auth-Token", &forged).await.status, 401);
    let old = server.action_tokens.issue(execution, "stanley", server.now(), Duration::ZERO);
    assert_eq!(with_header(&server, "X-Auth-Token", &old).await.fault(), "Unauthorized - Token has expired.");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_actions_end_with_them_and_make_no_others() {
    let server = Server::start().await;
    server.action("acme", "nothing", "noop", json!({})).await;
    let requested = server.call(Method::POST, "/v1/executions", Some(json!({"action": "acme.nothing"}))).await;
    let id: Id = requested.json()["id"].as_str().unwrap().parse().unwrap();
    let token = server.action_tokens.issue(id, "st2admin", server.now(), Duration::from_secs(60));
    assert_eq!(with_header(&server, "X-Auth-Token", &token).await.status, 200);
    let client = reqwest::Client::new();
    let made = client.post(format!("{}/v1/apikeys", server.api)).header("X-Auth-Token", &token).json(&json!({}));
    let refused = made.send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.unwrap().contains("The token of an action can't be used for this."));

    // Nothing runs here: canceling what is requested ends it.
    let ended = server.call(Method::DELETE, &format!("/v1/executions/{id}"), None).await;
    assert_eq!((ended.status, ended.json()["status"].as_str()), (200, Some("canceled")));
    let late = with_header(&server, "X-Auth-Token", &token).await;
    assert_eq!((late.status, late.fault()), (401, "Unauthorized - Token has expired.".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_passwords_is_slowed_down() {
    let server = Server::start().await;
    for _ in 0..10 {
        let refused = login(&server, "st2admin", "wrong", json!({})).await;
        assert_eq!((refused.status, refused.fault()), (401, "Invalid or missing credentials".to_owned()));
    }
    let throttled = login(&server, "st2admin", PASSWORD, json!({})).await;
    assert_eq!(throttled.status, 429);
    assert!(throttled.header("retry-after").is_some());
    assert_eq!(login(&server, "other", "wrong", json!({})).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_login_and_shows_the_loss_of_the_store() {
    let server = Server::start().await;
    for base in [&server.auth, &server.api, &server.stream, &server.combined] {
        let live = answer(server.client.get(format!("{base}/healthz/live")).send().await.unwrap()).await;
        assert_eq!(live.status, 200);
        let ready = answer(server.client.get(format!("{base}/healthz/ready")).send().await.unwrap()).await;
        assert_eq!((ready.status, ready.text.as_str()), (200, "ok   store: ok\nok   bus: ok\n"));
    }
    server.bus.close();
    let request = server.client.get(format!("{}/healthz/ready", server.api)).header("Accept", "application/json");
    let ready = answer(request.send().await.unwrap()).await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert_eq!(ready.header("retry-after"), Some("2"));
    assert_eq!(ready.json()["dependencies"][1]["name"], "bus");
}

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_logged() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("trace,hyper=info,hyper_util=info,reqwest=info,h2=info")
        .with_writer(move || writer.clone())
        .init();
    let server = Server::start_options(|options| options.access_log = true).await;
    let secret = "n0t-t0-be-l0gged";
    with_header(&server, "X-Auth-Token", secret).await;
    with_header(&server, "St2-Api-Key", secret).await;
    login(&server, "st2admin", secret, json!({})).await;
    for path in [
        format!("/v1/user?x-auth-token={secret}"),
        format!("/v1/actions?st2-api-key={secret}"),
        format!("/v1/apikeys/{secret}"),
    ] {
        answer(server.client.get(format!("{}{path}", server.api)).send().await.unwrap()).await;
        server.get(&path).await;
    }
    let key = json!({"name": "k", "value": secret, "secret": true});
    assert_eq!(server.call(Method::PUT, "/v1/keys/k", Some(key)).await.status, 200);
    assert_eq!(server.get("/v1/keys/k?decrypt=true").await.json()["value"], secret);
    server.post("/v1/rules", json!({"name": [secret]})).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for line in ["login refused", "request refused", "a key was shown decrypted", "/apikeys/{id}"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let line = text.lines().find(|line| line.contains(" access: ") && line.contains("/apikeys/{id}")).unwrap();
    for part in ["request{id=", "peer=\"127.0.0.1\"", "method=GET", "service=\"api\"", "status=401", "micros="] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(text.lines().any(|line| line.contains(" access: ") && line.contains("user=\"st2admin\"")), "{text}");
    let leak = text.lines().find(|line| line.contains(secret) || line.contains(&server.token));
    assert!(leak.is_none(), "{leak:?}");
}
