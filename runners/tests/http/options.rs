//! Every option of `http-request`.

use model::Status;
use serde_json::{Value, json};

use crate::common::Bed;
use crate::server::{proxy, serve, serve_tls};

async fn bed() -> Bed {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().await;
    let parameters = json!({
        "method": {"type": "string"}, "body": {"type": "string"}, "params": {}, "auth": {},
        "timeout": {"type": "number", "default": 60}, "file_name": {"type": "string"},
        "file_content": {"type": "string"}, "file_content_type": {"type": "string"},
    });
    bed.add_action("core.http", "http-request", "", parameters).await;
    bed
}

/// Head and body of the request, as the server echoes them.
async fn echoed(bed: &Bed, parameters: Value) -> (String, String) {
    let (status, result) = bed.run("core.http", parameters).await;
    assert_eq!(status, Status::Succeeded, "{result}");
    let (head, body) = result["body"].as_str().unwrap().split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn error(bed: &Bed, parameters: Value) -> String {
    let (status, result) = bed.run("core.http", parameters).await;
    assert_eq!(status, Status::Failed, "{result}");
    result["error"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned()
}

#[tokio::test]
async fn methods() {
    let (bed, server) = (bed().await, serve());
    let url = format!("http://{server}/echo");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let (head, _) = echoed(&bed, json!({"url": url, "method": method})).await;
        assert!(head.starts_with(&format!("{} /echo ", method.to_ascii_lowercase())), "{head}");
    }
    let (status, result) = bed.run("core.http", json!({"url": url, "method": "HEAD"})).await;
    assert_eq!((status, &result["status_code"], &result["body"]), (Status::Succeeded, &json!(200), &json!("")));
    assert!(error(&bed, json!({"url": url, "method": "A B"})).await.contains("invalid method"));
    assert!(error(&bed, json!({"url": "no url"})).await.contains("Invalid URL"));
}

#[tokio::test]
async fn headers_and_cookies() {
    let (bed, server) = (bed().await, serve());
    let headers = json!({"X-Number": 5, "Host": "other.example", "User-Agent": "mine", "Content-Length": "99"});
    let given = json!({
        "url": format!("http://{server}/echo"), "headers": headers, "cookies": {"b": "2", "a": "1"}, "body": "é",
    });
    let (head, body) = echoed(&bed, given).await;
    for line in
        ["x-number: 5", "host: other.example", "user-agent: st2/v3.9.0", "cookie: a=1; b=2", "content-length: 2"]
    {
        assert!(head.lines().any(|one| one == line), "{line}: {head}");
    }
    assert_eq!(body, "é");
    let bad = json!({"url": format!("http://{server}/echo"), "headers": {"a b": "c"}});
    assert!(error(&bed, bad).await.contains("invalid header"));
}

#[tokio::test]
async fn params_and_bodies() {
    let (bed, server) = (bed().await, serve());
    let url = format!("http://{server}/echo");
    let query = async |params: Value| {
        let (head, _) = echoed(&bed, json!({"url": url, "params": params})).await;
        head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(query(json!({"a": ["1", 2], "b": "x&y", "c": null})).await, "/echo?a=1&a=2&b=x%26y");
    assert_eq!(query(json!("q=berlin,de")).await, "/echo?q=berlin,de");
    let body = async |kind: &str, body: &str| {
        let headers = json!({"Content-Type": kind});
        echoed(&bed, json!({"url": url, "headers": headers, "body": body})).await.1
    };
    assert_eq!(body("application/json", "{ \"a\" : [1, 2] }").await, "{\"a\":[1,2]}");
    assert_eq!(body("application/json; charset=utf-8", "{ }").await, "{ }");
    assert_eq!(body("application/x-www-form-urlencoded", "a=1&b=2").await, "a=1&b=2");
    let broken = json!({"url": url, "headers": {"Content-Type": "application/json"}, "body": "{"});
    assert!(error(&bed, broken).await.contains("Failed to parse the body as JSON"));
}

#[tokio::test]
async fn files() {
    let (bed, server) = (bed().await, serve());
    let given = json!({
        "url": format!("http://{server}/echo"), "file_name": "notes.txt", "file_content": "line é\n",
        "file_content_type": "text/x-notes", "body": "not sent",
    });
    let (head, body) = echoed(&bed, given).await;
    assert!(head.starts_with("post /echo "), "{head}");
    let boundary = head.lines().find_map(|line| line.strip_prefix("content-type: multipart/form-data; boundary="));
    assert_eq!(
        body,
        format!(
            "--{0}\r\nContent-Disposition: form-data; name=\"notes.txt\"; filename=\"notes.txt\"\r\n\
             Content-Type: text/x-notes\r\n\r\nline é\n\r\n--{0}--\r\n",
            boundary.unwrap()
        )
    );
}

#[tokio::test]
async fn logins() {
    let (bed, server) = (bed().await, serve());
    let url = format!("http://{server}/echo");
    for (given, wanted) in [
        (json!({"username": "ana", "password": "p:w"}), Some("authorization: basic yw5hona6dw==")),
        (json!({"username": "ana"}), Some("authorization: basic yw5hog==")),
        (json!({"auth": ["ana", "p"]}), Some("authorization: basic yw5hona=")),
        (json!({"auth": ["bob", "x"], "username": "ana", "password": "p"}), Some("authorization: basic yw5hona=")),
        (json!({}), None),
    ] {
        let mut parameters = json!({"url": url});
        parameters.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        let (head, _) = echoed(&bed, parameters).await;
        assert_eq!(head.lines().find(|line| line.starts_with("authorization")), wanted);
    }
    assert!(error(&bed, json!({"url": url, "auth": "ana"})).await.contains("auth must be"));
}

#[tokio::test]
async fn redirects_end_and_stay_where_they_may() {
    let (bed, server, other) = (bed().await, serve(), serve());
    let away = format!("http://{server}/elsewhere?http://localhost:{}/echo", other.port());
    let go = json!({"url": away, "allow_redirects": true, "username": "ana", "password": "p"});
    let (head, _) = echoed(&bed, go.clone()).await;
    // The password is for the first host.
    assert!(!head.contains("authorization"), "{head}");
    for (list, word) in [("url_hosts_blacklist", "is blacklisted"), ("url_hosts_whitelist", "is not whitelisted")] {
        let mut given = go.clone();
        given[list] = if list == "url_hosts_blacklist" { json!(["localhost"]) } else { json!(["127.0.0.1"]) };
        let text = error(&bed, given).await;
        assert!(text.contains(word), "{text}");
    }
    let text = error(&bed, json!({"url": format!("http://{server}/loop"), "allow_redirects": true})).await;
    assert!(text.contains("Exceeded 30 redirects"), "{text}");
    let (status, result) = bed.run("core.http", json!({"url": away})).await;
    assert_eq!((status, &result["status_code"]), (Status::Failed, &json!(302)));
}

#[tokio::test]
async fn lists_of_hosts() {
    let (bed, server) = (bed().await, serve());
    let url = format!("http://{server}/echo");
    for (given, wanted) in [
        (json!({"url_hosts_blacklist": ["127.0.0.1"]}), Some(format!("URL \"{url}\" is blacklisted"))),
        (json!({"url_hosts_blacklist": ["127.0.0.2"]}), None),
        (json!({"url_hosts_whitelist": ["localhost"]}), Some(format!("URL \"{url}\" is not whitelisted"))),
        (json!({"url_hosts_whitelist": ["localhost", "127.0.0.1"]}), None),
        (
            json!({"url_hosts_whitelist": ["a"], "url_hosts_blacklist": ["b"]}),
            Some(
                "\"url_hosts_blacklist\" and \"url_hosts_whitelist\" parameters are mutually exclusive. Only one \
                 should be provided."
                    .to_owned(),
            ),
        ),
    ] {
        let mut parameters = json!({"url": url});
        parameters.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        match wanted {
            Some(text) => assert_eq!(error(&bed, parameters).await, text),
            None => assert!(echoed(&bed, parameters).await.0.starts_with("get ")),
        }
    }
}

#[tokio::test]
async fn certificates() {
    let (bed, server) = (bed().await, serve_tls());
    let url = format!("https://{server}/json");
    let text = error(&bed, json!({"url": url})).await;
    assert!(text.to_ascii_lowercase().contains("certificate"), "{text}");
    let (status, result) = bed.run("core.http", json!({"url": url, "verify_ssl_cert": false})).await;
    assert_eq!((status, &result["body"]), (Status::Succeeded, &json!({"a": [1, 2]})), "{result}");
    // The one that doesn't look leaves no mark on the next.
    error(&bed, json!({"url": url})).await;
}

#[tokio::test]
async fn proxies() {
    let (bed, server) = (bed().await, serve_tls());
    let (address, heads) = proxy();
    let through = format!("http://ana:secret@{address}");
    let plain = json!({"url": "http://nowhere.example/x?y", "http_proxy": through});
    let (status, result) = bed.run("core.http", plain).await;
    assert_eq!((status, &result["body"]), (Status::Succeeded, &json!("proxied")), "{result}");
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET http://nowhere.example/x?y HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic yw5honnly3jlda=="), "{head}");
    let tunnel = json!({"url": format!("https://{server}/json"), "https_proxy": through, "verify_ssl_cert": false});
    let (status, result) = bed.run("core.http", tunnel).await;
    assert_eq!((status, &result["parsed"]), (Status::Succeeded, &json!(true)), "{result}");
    assert!(heads.recv().unwrap().starts_with(&format!("CONNECT {server} HTTP/1.1\r\n")));
    let dead = json!({"url": "http://nowhere.example/", "http_proxy": "http://ana:secret@127.0.0.1:1"});
    let text = error(&bed, dead).await;
    assert!(!text.contains("secret"), "{text}");
}
