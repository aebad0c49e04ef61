//! The remote runners against Debian's sshd on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

mod access;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod scripts;
mod secrets;
mod sshd;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Bed;
use domain::Settings;
use domain::executions::cancel;
use model::Status;
use runners::RunnerOptions;
use serde_json::{Value, json};
use sshd::{Sshd, keygen};

/// A pool with the remote runners, and the actions `core.remote` and `core.remote_sudo`; known hosts are kept beside
/// the sshd's files.
pub async fn bed(sshd: &Sshd, adjust: impl FnOnce(&mut RunnerOptions)) -> Bed {
    let bed = Bed::with(Settings::default(), |options| {
        options.ssh.agent = None;
        options.ssh.user = sshd.user.clone();
        options.ssh.key_file = Some(sshd.key());
        options.ssh.known_hosts = Some(sshd.at("known_hosts"));
        options.ssh.connect_timeout = Duration::from_secs(20);
        adjust(options);
    })
    .await;
    bed.add_registered_types("remote").await;
    bed.add_action("core.remote", "remote-shell-cmd", "", json!({})).await;
    bed
}

fn here(sshd: &Sshd) -> String {
    format!("127.0.0.1:{}", sshd.port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_its_result_and_live_output() {
    let Some(sshd) = Sshd::start() else { return };
    let bed = bed(&sshd, |_| {}).await;
    let cmd = "echo '{\"a\": 1}'; echo error >&2; echo $ST2_ACTION_PACK_NAME-$X; pwd; cat";
    let given = json!({"hosts": here(&sshd), "cmd": cmd, "env": {"X": "it's"}, "cwd": "/usr/bin"});
    let requested = bed.request("core.remote", given).await;
    let done = bed.completed(requested.id).await;
    let result = bed.result(&done).await;
    assert_eq!(done.status, Status::Succeeded, "{result} {}", sshd.log());
    assert_eq!(
        result,
        json!({"127.0.0.1": {
            "failed": false, "succeeded": true, "return_code": 0,
            "stdout": "{\"a\": 1}\ncore-it's\n/usr/bin", "stderr": "error",
        }})
    );
    let live = bed.output(requested.id).await;
    assert!(live.contains("core-it's\n/usr/bin\n"), "{live:?}");
    let (status, result) = bed.run("core.remote", json!({"hosts": here(&sshd), "cmd": "echo 5; exit 3"})).await;
    assert_eq!(status, Status::Failed);
    assert_eq!(result["127.0.0.1"]["return_code"], json!(3));
    assert_eq!(result["127.0.0.1"]["stdout"], json!(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_output_is_whole() {
    let Some(sshd) = Sshd::start() else { return };
    let bed = bed(&sshd, |_| {}).await;
    let (status, result) =
        bed.run("core.remote", json!({"hosts": here(&sshd), "cmd": "seq 1 300000; seq 1 1000 >&2"})).await;
    assert_eq!(status, Status::Succeeded);
    let lines: Vec<&str> = result["127.0.0.1"]["stdout"].as_str().unwrap().lines().collect();
    assert_eq!((lines.len(), lines[299_999]), (300_000, "300000"));
    assert_eq!(result["127.0.0.1"]["stderr"].as_str().unwrap().lines().count(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn some_hosts_may_fail() {
    let Some(sshd) = Sshd::start() else { return };
    let hosts = format!("127.0.0.1:{}, 127.0.0.1:1", sshd.port);
    let given = json!({"hosts": hosts, "cmd": "true"});
    let keys = [format!("127.0.0.1:{}", sshd.port), "127.0.0.1:1".to_owned()];
    for (partial, wanted) in [(false, Status::Failed), (true, Status::Succeeded)] {
        let bed = bed(&sshd, |options| options.ssh.allow_partial_failure = partial).await;
        let (status, result) = bed.run("core.remote", given.clone()).await;
        assert_eq!(status, wanted, "{result}");
        assert_eq!(result[&keys[0]]["succeeded"], json!(true));
        assert_eq!(result[&keys[1]]["return_code"], json!(255));
        assert!(result[&keys[1]]["error"].as_str().unwrap().starts_with("Connection error."), "{result}");
    }
    let bed = bed(&sshd, |_| {}).await;
    let (status, result) = bed.run("core.remote", json!({"hosts": "127.0.0.1:1", "cmd": "true"})).await;
    assert_eq!(status, Status::Failed);
    let text = result["error"].as_str().unwrap();
    assert!(text.starts_with("Unable to connect to any one of the hosts: ['127.0.0.1']."), "{text}");
}

/// Waits until the command has written its pid, and returns it.
async fn pid_in(file: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "the command has not begun");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Path::new(&format!("/proc/{pid}/cwd")).read_link().is_ok() {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_timeout_kill_the_remote_process() {
    let Some(sshd) = Sshd::start() else { return };
    let bed = bed(&sshd, |_| {}).await;
    let file = sshd.at("pid");
    let cmd = format!("echo begun; trap '' TERM; echo $$ > {}; sleep 600 & wait; sleep 600", file.display());
    let requested = bed.request("core.remote", json!({"hosts": here(&sshd), "cmd": cmd})).await;
    let pid = pid_in(&file).await;
    cancel(&bed.services, requested.id, "ana").await.unwrap();
    let done = bed.completed(requested.id).await;
    assert_eq!(done.status, Status::Canceled);
    gone(&pid).await;
    std::fs::remove_file(&file).unwrap();
    let (status, result) = bed.run("core.remote", json!({"hosts": here(&sshd), "cmd": cmd, "timeout": 1})).await;
    assert_eq!(status, Status::Timeout);
    let host = &result["127.0.0.1"];
    assert_eq!((&host["return_code"], &host["timeout"], &host["stdout"]), (&json!(-9), &json!(true), &json!("begun")));
    gone(&pid_in(&file).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_as_text_and_protected_ones() {
    let Some(sshd) = Sshd::start() else { return };
    let bed = bed(&sshd, |options| options.ssh.key_file = None).await;
    let run = async |name: &str, value: Value| {
        let mut given = json!({"hosts": here(&sshd), "cmd": "true", "username": sshd.user});
        given.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        let (status, result) = bed.run("core.remote", given).await;
        (status == Status::Succeeded, format!("{name}: {result}"))
    };
    let text = std::fs::read_to_string(sshd.key()).unwrap();
    let (ok, result) = run("material", json!({"private_key": text})).await;
    assert!(ok, "{result}");
    for (kind, file) in [("rsa", "rsa"), ("ecdsa", "ecdsa")] {
        keygen(&sshd.at(file), kind, "open sesame");
        sshd.authorize(&sshd.at(&format!("{file}.pub")));
        let path = sshd.at(file).to_string_lossy().into_owned();
        let (ok, result) = run(kind, json!({"private_key": path, "passphrase": "open sesame"})).await;
        assert!(ok, "{result}");
        let (ok, result) = run(kind, json!({"private_key": path, "passphrase": "wrong"})).await;
        assert!(!ok && result.contains("Invalid passphrase or invalid/unsupported key type"), "{result}");
        let (ok, result) = run(kind, json!({"private_key": path})).await;
        assert!(!ok && result.contains("is passphrase protected. Supply a passphrase."), "{result}");
    }
    let (ok, result) = run("none", json!({})).await;
    assert!(!ok && result.contains("neither a password nor a private key"), "{result}");
    keygen(&sshd.at("stranger"), "ed25519", "");
    let (ok, result) = run("stranger", json!({"private_key": sshd.at("stranger").to_string_lossy()})).await;
    assert!(!ok && result.contains("Authentication failed."), "{result}");
}
