//! Ways in: passwords, agents, bastions; and which hosts are trusted.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use model::Status;
use runners::remote::options::HostKeyPolicy;
use serde_json::json;

use crate::sshd::{PASSWORD, Sshd, USER, keygen, output};
use crate::{bed, here};

/// An agent that ends with this.
struct Agent(Child);

impl Agent {
    fn start(socket: &Path, key: &Path) -> Self {
        let process = Command::new("ssh-agent").args(["-D", "-a"]).arg(socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self(process);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", socket).status().unwrap();
        assert!(added.success());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_agent() {
    let Some(sshd) = Sshd::start() else { return };
    for kind in ["ed25519", "rsa"] {
        let key = sshd.at(&format!("agent-{kind}"));
        keygen(&key, kind, "");
        let socket = sshd.at(&format!("socket-{kind}"));
        let _agent = Agent::start(&socket, &key);
        let bed = bed(&sshd, |options| {
            options.ssh.key_file = None;
            options.ssh.agent = Some(socket);
        })
        .await;
        let given = json!({"hosts": here(&sshd), "cmd": "true"});
        let (status, result) = bed.run("core.remote", given.clone()).await;
        assert_eq!(status, Status::Failed);
        assert!(result["error"].as_str().unwrap().contains("Authentication failed."), "{result}");
        sshd.authorize(&sshd.at(&format!("agent-{kind}.pub")));
        let (status, result) = bed.run("core.remote", given).await;
        assert_eq!(status, Status::Succeeded, "{kind}: {result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    let Some(sshd) = Sshd::with("127.0.0.1", "PasswordAuthentication yes", Some("")) else { return };
    let bed = bed(&sshd, |options| options.ssh.key_file = None).await;
    for (password, wanted) in [(PASSWORD, Status::Succeeded), ("wrong", Status::Failed)] {
        let given = json!({"hosts": here(&sshd), "cmd": "id -un", "username": USER, "password": password});
        let (status, result) = bed.run("core.remote", given).await;
        assert_eq!(status, wanted, "{result} {}", sshd.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_bastion() {
    let Some(bastion) = Sshd::with("127.0.0.1", "LogLevel DEBUG", None) else { return };
    let Some(sshd) = Sshd::start() else { return };
    // Both take the same key.
    bastion.authorize(&sshd.at("key.pub"));
    let bed = bed(&sshd, |_| {}).await;
    let given = json!({"hosts": here(&sshd), "cmd": "echo in", "bastion_host": here(&bastion)});
    let (status, result) = bed.run("core.remote", given.clone()).await;
    assert_eq!((status, &result["127.0.0.1"]["stdout"]), (Status::Succeeded, &json!("in")), "{result}");
    let log = bastion.log();
    assert!(log.contains(&format!("target 127.0.0.1 port {}", sshd.port)), "{log}");
    // Both keys are known now; a bastion that isn't is refused like any host.
    let known = std::fs::read_to_string(sshd.at("known_hosts")).unwrap();
    assert_eq!(known.lines().count(), 2);
    let kept = known.lines().find(|line| line.contains(&sshd.port.to_string())).unwrap();
    std::fs::write(sshd.at("known_hosts"), format!("{kept}\n")).unwrap();
    let strict = crate::bed(&sshd, |options| options.ssh.host_keys = HostKeyPolicy::Strict).await;
    let (status, result) = strict.run("core.remote", given).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("The host is not known"), "{result}");
    let nowhere = json!({"hosts": here(&sshd), "cmd": "true", "bastion_host": "127.0.0.1:1"});
    let (status, result) = bed.run("core.remote", nowhere).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("Unable to connect to any one of the hosts"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_for_keys_of_hosts() {
    let Some(sshd) = Sshd::start() else { return };
    let file = sshd.at("known_hosts");
    let run = async |policy| {
        let bed = bed(&sshd, |options| options.ssh.host_keys = policy).await;
        let (status, result) = bed.run("core.remote", json!({"hosts": here(&sshd), "cmd": "true"})).await;
        (status == Status::Succeeded, result["error"].as_str().unwrap_or_default().to_owned())
    };
    let (ok, error) = run(HostKeyPolicy::Strict).await;
    assert!(!ok && error.contains("The host is not known"), "{error}");
    assert!(run(HostKeyPolicy::Off).await.0 && !file.exists());
    assert!(run(HostKeyPolicy::AcceptNew).await.0);
    assert!(run(HostKeyPolicy::Strict).await.0);
    output("ssh-keygen", &["-q", "-H", "-f", &file.to_string_lossy()]);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("|1|"));
    assert!(run(HostKeyPolicy::Strict).await.0, "hashed names are read");
    keygen(&sshd.at("other"), "ed25519", "");
    let other = std::fs::read_to_string(sshd.at("other.pub")).unwrap();
    std::fs::write(&file, format!("[127.0.0.1]:{} {other}", sshd.port)).unwrap();
    for policy in [HostKeyPolicy::Strict, HostKeyPolicy::AcceptNew] {
        let (ok, error) = run(policy).await;
        assert!(!ok && error.contains("key has changed"), "{error}");
    }
    assert!(run(HostKeyPolicy::Off).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_silent_hold_up_nobody() {
    let Some(sshd) = Sshd::start() else { return };
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.2:0").unwrap();
    let bed = bed(&sshd, |options| options.ssh.connect_timeout = Duration::from_secs(2)).await;
    let hosts = format!("{},127.0.0.3:1,{}", silent.local_addr().unwrap(), here(&sshd));
    let began = Instant::now();
    let (status, result) = bed.run("core.remote", json!({"hosts": hosts, "cmd": "echo done"})).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(status, Status::Failed);
    assert_eq!(result["127.0.0.1"]["stdout"], json!("done"));
    let error = result["127.0.0.2"]["error"].as_str().unwrap();
    assert!(error.contains("No connection within 2 seconds"), "{error}");
    assert_eq!(result["127.0.0.3"]["return_code"], json!(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_hosts_at_a_time_than_allowed() {
    let Some(sshd) = Sshd::listening("0.0.0.0") else { return };
    let bed = bed(&sshd, |options| options.ssh.max_parallel = 3).await;
    std::fs::create_dir(sshd.at("running")).unwrap();
    let hosts: Vec<String> = (1..=9).map(|n| format!("127.0.0.{n}:{}", sshd.port)).collect();
    let cmd = "mkdir $$; sleep 0.2; ls | wc -l; rmdir $$";
    let given = json!({"hosts": hosts.join(","), "cmd": cmd, "cwd": sshd.at("running")});
    let (status, result) = bed.run("core.remote", given).await;
    assert_eq!(status, Status::Succeeded, "{result}");
    let counts = result.as_object().unwrap().values().map(|host| host["stdout"].as_u64().unwrap());
    let most = counts.max().unwrap();
    assert!((2..=3).contains(&most), "{most} at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_there_before_the_end() {
    let Some(sshd) = Sshd::start() else { return };
    let bed = bed(&sshd, |_| {}).await;
    let cmd = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ended";
    let given = json!({"hosts": here(&sshd), "cmd": cmd, "cwd": sshd.directory.path()});
    let requested = bed.request("core.remote", given).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while bed.output(requested.id).await != "begun\n" {
        assert!(Instant::now() < deadline, "no output");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!bed.read(requested.id).await.status.is_completed());
    std::fs::write(sshd.at("go"), "").unwrap();
    assert_eq!(bed.completed(requested.id).await.status, Status::Succeeded);
    assert_eq!(bed.output(requested.id).await, "begun\nended\n");
}
