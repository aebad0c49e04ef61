//! Pack files: nothing outside of a pack is shown.

use model::Pack;
use serde_json::json;

use super::support::Server;

async fn with_pack() -> Server {
    let server = Server::start().await;
    let packs = server.dir.path().join("packs");
    let pack = packs.join("acme");
    std::fs::create_dir_all(pack.join("actions")).unwrap();
    std::fs::write(pack.join("pack.yaml"), "name: acme\n").unwrap();
    std::fs::write(pack.join("actions/a.py"), "print()\n").unwrap();
    std::fs::write(pack.join("big.txt"), vec![b'x'; 500_001]).unwrap();
    std::fs::write(pack.join("binary"), b"\xff\x00").unwrap();
    std::fs::write(server.dir.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(server.dir.path().join("secret"), pack.join("link")).unwrap();
    let doc: Pack = serde_json::from_value(json!({
        "id": "6553f1000000000000000000", "uid": "pack:acme", "ref": "acme", "name": "acme", "description": "",
        "version": "1.0.0", "author": "a", "path": pack,
        "files": ["pack.yaml", "actions/a.py", "big.txt", "binary", "link", "gone", "../../secret"],
    }))
    .unwrap();
    server.insert(&doc).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_shown_with_their_age() {
    let server = with_pack().await;
    let file = server.get("/v1/packs/views/file/acme/actions/a.py").await;
    assert_eq!((file.status, file.text.as_str()), (200, "print()\n"));
    assert_eq!(file.header("content-type"), Some("text/x-python"));
    let etag = file.header("etag").unwrap().to_owned();
    let request = server
        .client
        .get(format!("{}/v1/packs/views/file/acme/actions/a.py", server.api))
        .header("X-Auth-Token", &server.token)
        .header("If-None-Match", &etag);
    assert_eq!(request.send().await.unwrap().status(), 304);
    let all = server.get("/v1/packs/views/files/acme").await.json();
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|file| file["file_path"].as_str().unwrap()).collect();
    assert_eq!(names, ["pack.yaml", "actions/a.py"]);
    let big = server.get("/v1/packs/views/file/acme/big.txt").await;
    assert!(big.fault().ends_with("exceeds maximum allowed file size (500000 bytes)"));
    assert_eq!(server.get("/v1/packs/views/file/nope/x").await.fault(), "Pack with ref_or_id \"nope\" does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn tricks_are_refused() {
    let server = with_pack().await;
    for (path, status) in [
        ("..%2F..%2Fsecret", 400),
        ("%2e%2e%2f%2e%2e%2fsecret", 400),
        ("actions/..%2F..%2F..%2Fsecret", 400),
        ("%2Fetc%2Fpasswd", 400),
        ("link", 400),
        ("a%00b", 400),
        ("actions", 404),
        ("nope.txt", 404),
        ("..%252F..%252Fsecret", 404),
    ] {
        let refused = server.get(&format!("/v1/packs/views/file/acme/{path}")).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.text);
        assert!(!refused.text.contains("root:"));
    }
    for pack in ["..", "%2E%2E", "..%2F..", "."] {
        assert_eq!(server.get(&format!("/v1/packs/views/files/{pack}")).await.status, 404, "{pack}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_write_their_files_only_below_their_pack() {
    let server = with_pack().await;
    server.action("other", "x", "noop", json!({})).await;
    let body = |path: &str| {
        json!({
            "name": "made", "pack": "acme", "runner_type": "noop", "entry_point": "made.sh",
            "data_files": [{"file_path": path, "content": "echo\n"}],
        })
    };
    for path in ["../../evil", "/etc/evil", "actions/../../../evil", "a\u{0}b", "actions/../link", ""] {
        let refused = server.post("/v1/actions", body(path)).await;
        assert_eq!(refused.status, 400, "{path}: {}", refused.text);
    }
    assert!(!server.dir.path().join("evil").exists());
    assert_eq!(std::fs::read_to_string(server.dir.path().join("secret")).unwrap(), "secret");
    let made = server.post("/v1/actions", body("made.sh")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let script = server.dir.path().join("packs/acme/actions/made.sh");
    assert_eq!(std::fs::read_to_string(&script).unwrap(), "echo\n");
    assert_eq!(server.get("/v1/actions/views/entry_point/acme.made").await.text, "echo\n");

    let clone = json!({"dest_pack": "acme", "dest_action": "copy"});
    assert_eq!(server.post("/v1/actions/acme.made/clone", clone).await.status, 201);
    for name in ["../evil", ".hidden", "a/b", ""] {
        let clone = json!({"dest_pack": "acme", "dest_action": name});
        assert_eq!(server.post("/v1/actions/acme.made/clone", clone).await.status, 400, "{name}");
    }
    let delete =
        server.call(reqwest::Method::DELETE, "/v1/actions/acme.made", Some(json!({"remove_files": true}))).await;
    assert_eq!(delete.status, 204);
    assert!(!script.exists() && server.dir.path().join("packs/acme/actions/copy.sh").exists());
}
