//! Many hosts at once: addresses of loopback, all of them one sshd.

use std::time::Instant;

use model::Status;
use serde_json::json;

use crate::sshd::Sshd;

const HOSTS: usize = 200;

/// The figure of 200 hosts, one command each; 10 s is what the build for measuring must do.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_hosts() {
    let Some(sshd) = Sshd::listening("0.0.0.0") else { return };
    let bed = crate::bed(&sshd, |_| {}).await;
    let hosts: Vec<String> = (1..=HOSTS).map(|n| format!("127.0.0.{n}:{}", sshd.port)).collect();
    let began = Instant::now();
    let (status, result) =
        bed.run("core.remote", json!({"hosts": hosts.join(","), "cmd": "echo $SSH_CONNECTION"})).await;
    eprintln!("{HOSTS} hosts over SSH: {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(status, Status::Succeeded, "{result}");
    assert_eq!(result.as_object().unwrap().len(), HOSTS);
    for n in 1..=HOSTS {
        let stdout = result[format!("127.0.0.{n}")]["stdout"].as_str().unwrap().to_owned();
        assert!(stdout.ends_with(&format!(" 127.0.0.{n} {}", sshd.port)), "{stdout}");
    }
}
