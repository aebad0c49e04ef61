//! The index of packs and writing of configurations.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{Answer, Server};

async fn ask(server: &Server, method: Method, path: &str, body: Value) -> Answer {
    let url = format!("{}/v1/{path}", server.api);
    let mut call = server.client.request(method, url).header("X-Auth-Token", &server.token);
    if !body.is_null() {
        call = call.json(&body);
    }
    super::support::answer(call.send().await.unwrap()).await
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {}", answer.text))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_read_searched_and_judged() {
    let server = Server::start().await;
    // None answers yet.
    for (method, path, body) in [
        (Method::GET, "packs/index", Value::Null),
        (Method::POST, "packs/index/search", json!({"query": "csv"})),
        (Method::POST, "packs/index/search", json!({"pack": "csv"})),
    ] {
        let answer = ask(&server, method, path, body).await;
        let fault = parsed(&answer)["faultstring"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 400, "{fault}");
        assert!(fault.starts_with("No results from the index: tried file://"), "{fault}");
        assert!(fault.contains("\nStatus: [\n  {\n    \"url\": "), "{fault}");
    }
    let health = parsed(&ask(&server, Method::GET, "packs/index/health", Value::Null).await);
    assert_eq!(health["indexes"]["errors"], json!({"unresponsive": 1}));
    assert_eq!((&health["indexes"]["invalid"], &health["packs"]["count"]), (&json!(1), &json!(0)));

    let csv = json!({"name": "csv", "version": "1.0.0", "description": "Tables", "repo_url": "https://x.example/csv"});
    let index = json!({"packs": {"csv": csv, "sheets": {"name": "sheets", "keywords": ["CSV"]}}});
    std::fs::write(server.dir.path().join("index.json"), index.to_string()).unwrap();
    let all = parsed(&ask(&server, Method::GET, "packs/index", Value::Null).await);
    assert_eq!(all["index"], index["packs"]);
    assert_eq!((&all["status"][0]["packs"], &all["status"][0]["error"]), (&json!(2), &Value::Null));
    let search = async |body: Value| parsed(&ask(&server, Method::POST, "packs/index/search", body).await);
    assert_eq!(search(json!({"query": "csv"})).await.as_array().map(Vec::len), Some(2));
    assert_eq!(search(json!({"query": "x.example"})).await, json!([]));
    assert_eq!(search(json!({"pack": "csv"})).await, csv);
    assert_eq!(search(json!({"pack": "none"})).await, json!([]));
    for body in [json!({}), json!({"query": "a", "pack": "b"}), json!({"query": 5})] {
        assert_eq!(ask(&server, Method::POST, "packs/index/search", body).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_checked_then_written_for_its_node_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    let pack = server.dir.path().join("packs/tidy");
    std::fs::create_dir_all(&pack).unwrap();
    std::fs::write(pack.join("pack.yaml"), "name: tidy\nref: tidy\ndescription: d\nversion: 1.0.0\nauthor: a\n")
        .unwrap();
    std::fs::write(
        pack.join("config.schema.yaml"),
        "token: {type: string, secret: true, required: true}\nport: {type: integer, default: 80}\n",
    )
    .unwrap();
    let registered = ask(&server, Method::POST, "packs/register", json!({"packs": ["tidy"]})).await;
    assert_eq!(registered.status, 200, "{}", registered.text);
    let file = server.dir.path().join("configs/tidy.yaml");
    for bad in [json!({}), json!({"token": "t", "port": "many"}), json!([1])] {
        let answer = ask(&server, Method::PUT, "configs/tidy", bad).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(!file.exists());
    }
    for unknown in ["nowhere", "..%2Fevil", "%2E%2E"] {
        let answer = ask(&server, Method::PUT, &format!("configs/{unknown}"), json!({"a": 1})).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
    }
    let values = json!({"token": "secret: {{ a", "more": [1, {"deep": null}]});
    let put = parsed(&ask(&server, Method::PUT, "configs/tidy", values.clone()).await);
    assert_eq!(put["values"]["token"], "********");
    assert_eq!(put["values"]["more"], values["more"]);
    let shown = parsed(&ask(&server, Method::PUT, "configs/tidy?show_secrets=true", values.clone()).await);
    assert_eq!((&shown["values"], &shown["id"]), (&values, &put["id"]));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(model::yaml::load(&text).unwrap(), values);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let registered =
        ask(&server, Method::POST, "packs/register", json!({"packs": ["tidy"], "types": ["config"]})).await;
    assert_eq!(registered.status, 200, "{}", registered.text);
    let got = parsed(&ask(&server, Method::GET, "configs/tidy?show_secrets=true", Value::Null).await);
    assert_eq!(got["values"]["token"], values["token"]);
}
