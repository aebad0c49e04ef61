//! The WinRM runners against a fake host (`fake.py`): there is no Windows where these tests run.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

#[path = "../common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Bed;
use domain::executions::cancel;
use model::Status;
use serde_json::{Value, json};

/// The fake, and a pool with actions for it.
struct Lab {
    process: Child,
    port: u16,
    log: PathBuf,
    bed: Bed,
}

impl Lab {
    async fn new(options: Value) -> Self {
        let bed = Bed::new().await;
        bed.add_registered_types("winrm").await;
        bed.add_action("core.winrm_cmd", "winrm-cmd", "", json!({})).await;
        bed.add_action("core.winrm_ps_cmd", "winrm-ps-cmd", "", json!({})).await;
        let log = bed.directory.path().join("log");
        let mut given = json!({"user": "Ana", "password": "pässword", "domain": "", "log": log});
        for (name, value) in options.as_object().unwrap() {
            given[name] = value.clone();
        }
        // Ends when its input does, which is with the test.
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/winrm/fake.py"))
            .arg(given.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the fake has begun");
        Self { process, port, log, bed }
    }

    fn parameters(&self, more: Value) -> Value {
        let mut given = json!({
            "host": "127.0.0.1", "port": self.port, "scheme": "http", "username": "Ana", "password": "pässword",
        });
        for (name, value) in more.as_object().unwrap() {
            given[name] = value.clone();
        }
        given
    }

    async fn cmd(&self, more: Value) -> (Status, Value) {
        self.bed.run("core.winrm_cmd", self.parameters(more)).await
    }

    /// What the host was asked, by action or other key.
    fn events(&self, key: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["action"] == key || event.get(key).is_some()).collect()
    }

    /// Waits for the last request of a run: it has cleaned up.
    fn clean(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.events("Delete").is_empty() {
            assert!(Instant::now() < deadline, "no shell was deleted");
            std::thread::sleep(Duration::from_millis(10));
        }
        let last = self.events("Delete").pop().unwrap();
        assert_eq!((&last["shells"], &last["commands"]), (&json!(0), &json!(0)));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_over_ntlm_with_sealed_messages() {
    let lab = Lab::new(json!({})).await;
    let cmd = "echo '{\"a\": 1}'; echo \"<$X>\" >&2; pwd";
    let given = json!({"cmd": cmd, "env": {"X": "a & \"b\""}, "cwd": "/usr/bin"});
    let requested = lab.bed.request("core.winrm_cmd", lab.parameters(given)).await;
    let done = lab.bed.completed(requested.id).await;
    let result = lab.bed.result(&done).await;
    assert_eq!(done.status, Status::Succeeded, "{result}");
    assert_eq!(
        result,
        json!({
            "failed": false, "succeeded": true, "return_code": 0,
            "stdout": "{\"a\": 1}\n/usr/bin\n", "stderr": "<a & \"b\">\n",
        })
    );
    let live = lab.bed.output(requested.id).await;
    assert!(live.contains("/usr/bin\n") && live.contains("<a & \"b\">"), "{live:?}");
    assert_eq!(lab.events("logged_in"), [json!({"logged_in": "Negotiate"})]);
    let created = &lab.events("Create")[0];
    assert_eq!(created["options"], json!({"WINRS_NOPROFILE": "FALSE", "WINRS_CODEPAGE": "65001"}));
    assert!(lab.events("refused").is_empty());
    lab.clean();
    // Alone, JSON becomes its value; and nothing is cut off of other text.
    let (status, result) = lab.cmd(json!({"cmd": "echo 5; exit 3"})).await;
    assert_eq!((status, &result["return_code"], &result["stdout"]), (Status::Failed, &json!(3), &json!(5)));
    let (_, result) = lab.cmd(json!({"cmd": "printf '\\303\\251%0.s' $(seq 30000); printf 'x\\r\\n'"})).await;
    assert_eq!(result["stdout"], json!(format!("{}x\r\n", "é".repeat(30_000))));
}

#[tokio::test(flavor = "multi_thread")]
async fn older_hosts_and_accounts_of_a_domain() {
    // No time, so no integrity code; only the scheme NTLM.
    let lab = Lab::new(json!({"auth": "NTLM", "no_time": true, "domain": "CORP"})).await;
    let (status, result) = lab.cmd(json!({"username": "CORP\\Ana", "cmd": "echo hi"})).await;
    assert_eq!((status, &result["stdout"]), (Status::Succeeded, &json!("hi\n")), "{result}");
    assert_eq!(lab.events("logged_in"), [json!({"logged_in": "NTLM"})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sealed_is_not_sent() {
    let lab = Lab::new(json!({"no_exchange": true})).await;
    let (status, result) = lab.cmd(json!({"cmd": "echo hi"})).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("does not agree to encrypt"), "{result}");
    assert!(lab.events("Create").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_and_dead_hosts_are_told() {
    let lab = Lab::new(json!({})).await;
    for transport in ["ntlm", "basic"] {
        let (status, result) = lab.cmd(json!({"cmd": "echo", "password": "sesame", "transport": transport})).await;
        assert_eq!(status, Status::Failed);
        let error = result["error"].as_str().unwrap();
        assert_eq!(error, "the specified credentials were rejected by the server");
    }
    let (status, result) = lab.cmd(json!({"cmd": "echo", "port": 1})).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("127.0.0.1:1"), "{result}");
    let (status, result) = lab.cmd(json!({"cmd": "echo", "transport": "kerberos"})).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("\"kerberos\" is not supported"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn basic() {
    let lab = Lab::new(json!({"auth": "basic"})).await;
    let (status, result) = lab.cmd(json!({"transport": "plaintext", "cmd": "echo hi"})).await;
    assert_eq!((status, &result["stdout"]), (Status::Succeeded, &json!("hi\n")), "{result}");
    lab.clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_and_cancellations_end_the_command_and_close_the_shell() {
    let lab = Lab::new(json!({})).await;
    let (status, result) = lab.cmd(json!({"cmd": "echo begun; exec sleep 600", "timeout": 1})).await;
    assert_eq!(status, Status::Timeout, "{result}");
    assert_eq!((&result["return_code"], &result["failed"]), (&json!(-1), &json!(true)));
    lab.clean();
    let signal = lab.events("Signal").pop().unwrap();
    assert!(signal["code"].as_str().unwrap().ends_with("/signal/terminate"), "{signal}");

    let given = lab.parameters(json!({"cmd": "echo begun; exec sleep 600"}));
    let requested = lab.bed.request("core.winrm_cmd", given).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while lab.events("Command").len() < 2 {
        assert!(Instant::now() < deadline, "the command has not begun");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cancel(&lab.bed.services, requested.id, "ana").await.unwrap();
    assert_eq!(lab.bed.completed(requested.id).await.status, Status::Canceled);
    while lab.events("Delete").len() < 2 {
        assert!(Instant::now() < deadline, "the shell was not deleted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lab.clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn powershell() {
    let lab = Lab::new(json!({})).await;
    let script = "Get-ChildItem é; Write-Error broken; exit 4";
    let (status, result) = lab.bed.run("core.winrm_ps_cmd", lab.parameters(json!({"cmd": script}))).await;
    assert_eq!(status, Status::Failed);
    assert_eq!(
        result,
        json!({"failed": true, "succeeded": false, "return_code": 4, "stdout": script, "stderr": "broken\n"})
    );
    let line = lab.events("Command")[0]["line"].as_str().unwrap().to_owned();
    assert!(line.starts_with("powershell -encodedcommand "), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_of_packs_short_and_long() {
    let lab = Lab::new(json!({})).await;
    let pack = lab.bed.directory.path().join("test");
    std::fs::create_dir_all(pack.join("actions")).unwrap();
    lab.bed.add_pack("test", &pack).await;
    let parameters = json!({
        "n": {"type": "integer", "position": 0}, "name": {"type": "string"}, "on": {"type": "boolean"},
    });
    let long = "# é\n".repeat(3000);
    for (name, text) in [("short", "param()\n"), ("long", &long)] {
        std::fs::write(pack.join(format!("actions/{name}.ps1")), text).unwrap();
        let reference = format!("test.{name}");
        lab.bed.add_action(&reference, "winrm-ps-script", &format!("{name}.ps1"), parameters.clone()).await;
        let given = lab.parameters(json!({"n": 5, "name": "it's $x", "on": true}));
        let (status, result) = lab.bed.run(&reference, given).await;
        assert_eq!(status, Status::Succeeded, "{result}");
        let ran = result["stdout"].as_str().unwrap();
        assert_eq!(ran, format!("& {{{text}}} -name \"it`'s `$x\" -on $true \"5\""));
    }
    let lines = lab.events("Command");
    assert!(lines.iter().all(|event| event["line"].as_str().unwrap().len() <= 8191));
    let file = lines.iter().find_map(|event| event["line"].as_str().unwrap().split_once("-file \"")).unwrap().1;
    let directory = Path::new(file.split('\\').next().unwrap()).to_owned();
    assert!(!directory.exists(), "{} is left on the host", directory.display());
}

/// A certificate for 127.0.0.1 that nobody has signed, and its key: `certificate`, `key`.
fn certify(directory: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(directory.join("certificate"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("key"), made.signing_key.serialize_pem()).unwrap();
}

async fn with_tls(directory: &Path) -> Lab {
    Lab::new(json!({"certificate": directory.join("certificate"), "key": directory.join("key")})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_login_that_is_bound_to_it() {
    let files = tempfile::tempdir().unwrap();
    certify(files.path());
    let lab = with_tls(files.path()).await;
    let (status, result) = lab.cmd(json!({"scheme": "https", "cmd": "echo hi"})).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("certificate"), "{result}");
    let given = json!({"scheme": "https", "verify_ssl_cert": false, "cmd": "echo hi"});
    let (status, result) = lab.cmd(given).await;
    assert_eq!(
        (status, &result["stdout"]),
        (Status::Succeeded, &json!("hi\n")),
        "{result} {:?}",
        lab.events("refused")
    );
    lab.clean();
}

/// Begun by [`trusted_certificates_are_taken`], in an environment that trusts the host.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as a part of another test"]
async fn in_an_environment_that_trusts_the_host() {
    let Some(certificate) = std::env::var_os("SSL_CERT_FILE") else { return };
    let lab = with_tls(Path::new(&certificate).parent().unwrap()).await;
    let (status, result) = lab.cmd(json!({"scheme": "https", "cmd": "echo hi"})).await;
    assert_eq!((status, &result["stdout"]), (Status::Succeeded, &json!("hi\n")), "{result}");
}

#[test]
fn trusted_certificates_are_taken() {
    let files = tempfile::tempdir().unwrap();
    certify(files.path());
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_an_environment_that_trusts_the_host", "--ignored"])
        .env("SSL_CERT_FILE", files.path().join("certificate"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&done.stderr));
}
