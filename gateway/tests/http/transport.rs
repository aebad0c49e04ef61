//! What has to do with no resource: compression, limits, HTTP/2.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Gateway, GatewayOptions, Limits, Mount, PortsReady, Rate, Tls};
use reqwest::{Certificate, Client, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Server, answer};

async fn raw(server: &Server, path: &str, header: (&str, &str)) -> reqwest::Response {
    let request = server.client.get(format!("{}{path}", server.api)).header("X-Auth-Token", &server.token);
    request.header(header.0, header.1).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_texts_are_compressed_for_who_asks() {
    let server = Server::start().await;
    for index in 0..20 {
        server.action("acme", &format!("noop{index}"), "noop", json!({"text": {"type": "string"}})).await;
    }
    let plain = raw(&server, "/v1/actions", ("Accept-Encoding", "identity")).await;
    assert!(plain.headers().get("content-encoding").is_none());
    let plain = plain.bytes().await.unwrap();
    let packed = raw(&server, "/v1/actions", ("Accept-Encoding", "deflate, gzip")).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.headers()["vary"], "Accept-Encoding");
    assert_eq!(packed.headers()["x-total-count"], "20");
    let packed = packed.bytes().await.unwrap();
    assert!(packed.len() * 3 < plain.len());
    let mut text = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
    assert_eq!(text, plain);
    let small = raw(&server, "/v1/keys", ("Accept-Encoding", "gzip")).await;
    assert!(small.headers().get("content-encoding").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_much_is_told_to_wait() {
    let server = Server::start_with(|limits| limits.rate = Some(Rate { per_second: 0.5, burst: 3.0 })).await;
    for _ in 0..3 {
        assert_eq!(server.get("/v1/keys").await.status, 200);
    }
    let refused = server.get("/v1/keys").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")));
    assert_eq!(refused.fault(), "Too many requests: ask more slowly.");
    // Somebody else isn't concerned.
    server.user("bob").await;
    server.add_token("b0b", "bob", Duration::from_secs(60)).await;
    let bob = server.client.get(format!("{}/v1/keys", server.api)).header("X-Auth-Token", "b0b");
    assert_eq!(bob.send().await.unwrap().status(), 200);
    // Who isn't logged in is counted by address.
    let mut codes = Vec::new();
    for _ in 0..4 {
        let request = server.client.get(format!("{}/v1/keys", server.api)).header("X-Auth-Token", "nope");
        codes.push(request.send().await.unwrap().status().as_u16());
    }
    assert_eq!(codes, [401, 401, 401, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_can_be_worked_on_is_taken() {
    let server = Server::start_with(|limits| limits.max_in_flight = 1).await;
    let address = server.api.strip_prefix("http://").unwrap();
    let head =
        format!("POST /v1/apikeys HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {}\r\nContent-Length: 2\r\n\r\n", server.token);
    let refused = async {
        loop {
            // Its body doesn't come: it is worked on until then, unless it found a request of ours under way.
            let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
            slow.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..20 {
                let refused = server.get("/v1/keys").await;
                if refused.status == 429 {
                    return (slow, refused);
                }
            }
        }
    };
    let (mut slow, refused) = tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(refused.header("retry-after"), Some("1"));
    slow.write_all(b"{}").await.unwrap();
    let mut got = [0; 12];
    slow.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 201");
    assert_eq!(server.get("/v1/keys").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() {
    let server = Server::start().await;
    let bare = async |url: String| answer(server.client.get(url).send().await.unwrap()).await;
    let described = bare(format!("{}/api/v1/openapi.json", server.combined)).await;
    assert_eq!((described.status, described.header("content-type")), (200, Some("application/json")));
    assert_eq!(described.text, bare(format!("{}/v1/openapi.json", server.api)).await.text);
    let described = described.json();
    assert_eq!(described["openapi"], "3.1.0");
    let limit = &described["paths"]["/api/v1/executions"]["get"]["parameters"][0];
    assert!(limit["name"].is_string(), "{limit}");
    for url in [format!("{}/docs", server.combined), format!("{}/docs", server.api)] {
        let page = bare(url).await;
        assert!(page.status == 200 && page.text.contains("/v1/openapi.json"));
        assert!(!page.text.contains("http://") && !page.text.contains("https://"), "it needs nothing from elsewhere");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_upgrade() {
    let server = Server::start().await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let request = client.get(format!("{}/api/v1/keys", server.combined)).header("X-Auth-Token", &server.token);
    let response = request.send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 200));
    assert_eq!(answer(response).await.json(), Value::Array(Vec::new()));
}

/// A new certificate and key for localhost in the directory.
fn certify(dir: &Path) -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_certificates_that_change() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let first = certify(dir.path());
    let tls = Tls::open(dir.path().join("cert.pem"), dir.path().join("key.pem")).unwrap();
    let gateway = Gateway::build(GatewayOptions {
        services: server.services.clone(),
        auth: gateway::AuthOptions::standalone(Arc::new(auth::FlatFile::new(server.dir.path().join("htpasswd")))),
        action_tokens: None,
        allow_origin: Vec::new(),
        api_url: None,
        readiness: Arc::new(PortsReady(server.services.clone())),
        cluster: None,
        metrics: None,
        limits: Limits::default(),
        tls: Some(Arc::new(tls)),
        access_log: false,
    });
    let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (secure, plain) = (bind().await, bind().await);
    let port = secure.local_addr().unwrap().port();
    let redirect = format!("http://localhost:{}/api/v1/keys?limit=1", plain.local_addr().unwrap().port());
    let cancel = tokio_util::sync::CancellationToken::new();
    let listeners = vec![(secure.into(), Mount::Tls), (plain.into(), Mount::Redirect(port))];
    let serving = tokio::spawn({
        let cancel = cancel.clone();
        async move { gateway.serve(listeners, cancel).await }
    });
    let client = |root: &Certificate| Client::builder().tls_certs_only([root.clone()]).build().unwrap();
    let ask = async |root: &Certificate, url: String| {
        client(root).get(url).header("X-Auth-Token", &server.token).send().await
    };
    let url = format!("https://localhost:{port}/api/v1/keys");
    let answered = ask(&first, url.clone()).await.unwrap();
    assert_eq!((answered.status().as_u16(), answered.version()), (200, Version::HTTP_2));
    assert!(answered.headers().contains_key("strict-transport-security"));
    let followed = ask(&first, redirect.clone()).await.unwrap();
    assert_eq!(followed.url().as_str(), format!("{url}?limit=1"));
    let bare = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    assert_eq!(bare.get(redirect).send().await.unwrap().status(), 308);

    // A half-written pair changes nothing; a whole one is taken without a restart.
    std::fs::write(dir.path().join("cert.pem"), "half").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(ask(&first, url.clone()).await.is_ok());
    let second = certify(dir.path());
    let taken = async {
        while ask(&second, url.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
    assert!(ask(&first, url).await.is_err());
    assert!(Tls::open(dir.path().join("nope"), dir.path().join("key.pem")).is_err());
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap();
}

/// Long lists are kept as they were rendered: a change must show in the next answer, whoever asks and however.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_what_is_stored() {
    let server = Server::start().await;
    let text = "x".repeat(600);
    for number in 0..40 {
        server.action("acme", &format!("a{number:02}"), "noop", json!({"word": {"description": text}})).await;
    }
    let names = async |path: &str| {
        let listed = server.get(path).await;
        assert!(listed.status == 200 && listed.text.len() > 20_000, "{}", listed.text.len());
        let names: Vec<String> =
            listed.json().as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(listed.header("x-total-count").unwrap(), names.len().to_string());
        names
    };
    assert_eq!(names("/v1/actions").await.len(), 40);
    assert_eq!(names("/v1/actions").await, names("/v1/actions?sort=name").await);
    for round in 0..5 {
        server.action("acme", &format!("b{round}"), "noop", json!({"word": {"description": text}})).await;
        let shown = names("/v1/actions").await;
        assert_eq!((shown.len(), shown.contains(&format!("b{round}"))), (41, true));
        let packed = raw(&server, "/v1/actions", ("Accept-Encoding", "gzip")).await;
        assert_eq!(
            (&packed.headers()["content-encoding"], &packed.headers()["x-total-count"]),
            (&"gzip".parse().unwrap(), &"41".parse().unwrap())
        );
        let gone = server.call(reqwest::Method::DELETE, &format!("/v1/actions/acme.b{round}"), None).await;
        assert_eq!(gone.status, 204);
        assert_eq!(names("/v1/actions").await.len(), 40);
    }
}
