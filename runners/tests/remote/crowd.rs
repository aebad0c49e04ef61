//! Many hosts at once: addresses of loopback, all of them one sshd.

use std::time::Instant;

use model::Status;
use serde_json::json;

use crate::sshd::Sshd;

/// How many are asked, unless `SQUALL_TEST_SSH_HOSTS` says so: 200 to measure, with a release build.
const HOSTS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn many_hosts() {
    let count = std::env::var("SQUALL_TEST_SSH_HOSTS").ok().and_then(|text| text.parse().ok()).unwrap_or(HOSTS);
    let Some(sshd) = Sshd::listening("0.0.0.0") else { return };
    let bed = crate::bed(&sshd, |_| {}).await;
    let hosts: Vec<String> = (1..=count).map(|n| format!("127.0.0.{n}:{}", sshd.port)).collect();
    let began = Instant::now();
    let (status, result) =
        bed.run("core.remote", json!({"hosts": hosts.join(","), "cmd": "echo $SSH_CONNECTION"})).await;
    eprintln!("{count} hosts over SSH: {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(status, Status::Succeeded, "{result}");
    assert_eq!(result.as_object().unwrap().len(), count);
    for n in 1..=count {
        let stdout = result[format!("127.0.0.{n}")]["stdout"].as_str().unwrap().to_owned();
        assert!(stdout.ends_with(&format!(" 127.0.0.{n} {}", sshd.port)), "{stdout}");
    }
}
