//! Actions as another user, and bounds on all that they start. Both take root.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Bed;
use domain::Settings;
use domain::executions::cancel;
use model::Status;
use runners::RunnerOptions;
use runners::process::{GroupLimits, Groups};
use serde_json::json;

/// Every machine has this user.
const USER: &str = "nobody";

async fn bed_of(user: &str, adjust: impl FnOnce(&mut RunnerOptions)) -> Option<Bed> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this takes root");
        return None;
    }
    let bed = Bed::with(Settings { system_user: user.to_owned(), ..Settings::default() }, adjust).await;
    // Others may enter, as they may where packs usually are.
    std::fs::set_permissions(bed.directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    bed.add_core().await;
    Some(bed)
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn written(file: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "{} was not written", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_as_the_system_user() {
    let Some(bed) = bed_of(USER, |_| {}).await else { return };
    let cmd = "id -un; grep CapEff /proc/self/status | cut -f2; echo $ST2_ACTION_PACK_NAME; \
               cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c \"^ST2_ACTION_AUTH_TOKEN=\"";
    let (_, result) = bed.run("core.local", json!({"cmd": cmd})).await;
    assert_eq!(result["stdout"], json!("nobody\n0000000000000000\ncore\n0"), "{result}");
    let (status, result) = bed.run("core.local", json!({"cmd": "cat /etc/shadow"})).await;
    assert_eq!(status, Status::Failed);
    assert!(result["stderr"].as_str().unwrap().contains("Permission denied"), "{result}");
    let (_, result) = bed.run("core.local_sudo", json!({"cmd": "id -un"})).await;
    assert_eq!(result["stdout"], json!("root"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_as_the_system_user() {
    let Some(bed) = bed_of(USER, |_| {}).await else { return };
    let pack = bed.directory.path().join("test");
    std::fs::create_dir_all(pack.join("actions")).unwrap();
    std::fs::write(pack.join("actions/who.sh"), "#!/bin/sh\nid -un\necho \"$1\"\n").unwrap();
    std::fs::set_permissions(pack.join("actions/who.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    bed.add_pack("test", &pack).await;
    let parameters = json!({"a": {"type": "string", "position": 0}});
    bed.add_action("test.who", "local-shell-script", "who.sh", parameters).await;
    let (status, result) = bed.run("test.who", json!({"a": "b 'c'"})).await;
    assert_eq!((status, &result["stdout"]), (Status::Succeeded, &json!("nobody\nb 'c'")), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_as_another_user_is_ended_all_the_same() {
    let Some(bed) = bed_of(USER, |_| {}).await else { return };
    let file = bed.directory.path().join("pid");
    let cmd = format!("trap '' TERM; echo $$ > {}; sleep 600; sleep 600", file.display());
    let requested = bed.request("core.local", json!({"cmd": cmd})).await;
    let pid = written(&file).await;
    cancel(&bed.services, requested.id, "ana").await.unwrap();
    assert_eq!(bed.completed(requested.id).await.status, Status::Canceled);
    gone(&pid).await;
}

const LIMITS: GroupLimits = GroupLimits { memory: Some(64 << 20), processes: Some(12), cpus: Some(0.5) };

/// None, and a line that says why, where the system lets this process make no groups.
async fn bounded(limits: GroupLimits) -> Option<Bed> {
    if let Err(error) = Groups::prepare(limits) {
        eprintln!("SKIPPED: {error}");
        return None;
    }
    bed_of("no-such-user", |options| options.groups = limits).await
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded() {
    let Some(bed) = bounded(LIMITS).await else { return };
    let said = "together they may use 67108864 bytes of memory";
    let eat = "python3 -c 'x = bytearray(300 << 20)'";
    // The shell's child is killed; then, with exec, the process itself.
    for cmd in [format!("{eat}; exit $?"), format!("exec {eat}")] {
        let (status, result) = bed.run("core.local", json!({"cmd": cmd})).await;
        assert_eq!(status, Status::Failed, "{result}");
        assert!(result["error"].as_str().unwrap_or_default().contains(said), "{result}");
    }
    let (status, result) = bed.run("core.local", json!({"cmd": "python3 -c 'x = bytearray(10 << 20)'"})).await;
    assert_eq!(status, Status::Succeeded, "{result}");
    let text = "from st2common.runners.base_action import Action\nclass Eat(Action):\n    def run(self, n):\n        \
                return len(bytearray(n << 20))\n";
    bed.add_python("eat", text).await;
    let (status, result) = bed.run("test.eat", json!({"n": 300})).await;
    assert_eq!(status, Status::Failed, "{result}");
    assert!(result["error"].as_str().unwrap_or_default().contains(said), "{result}");
    let (status, result) = bed.run("test.eat", json!({"n": 10})).await;
    assert_eq!((status, &result["result"]), (Status::Succeeded, &json!(10 << 20)), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_bounded() {
    let Some(bed) = bounded(LIMITS).await else { return };
    let cmd = "for n in $(seq 40); do sleep 1 & done; wait";
    let (_, result) = bed.run("core.local", json!({"cmd": cmd})).await;
    assert!(result["stderr"].as_str().unwrap().contains("fork"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_a_run_that_is_stopped_end_with_it() {
    let Some(bed) = bounded(LIMITS).await else { return };
    let file = bed.directory.path().join("pid");
    let daemon = format!("setsid sh -c 'echo $$ > {}; exec sleep 600' > /dev/null 2>&1 &", file.display());
    // By itself it stays, as StackStorm's does; its group goes once it has gone.
    let (status, _) = bed.run("core.local", json!({"cmd": daemon})).await;
    assert_eq!(status, Status::Succeeded);
    let pid = written(&file).await;
    assert!(is_alive(&pid));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::SIGKILL).unwrap();
    gone(&pid).await;
    std::fs::remove_file(&file).unwrap();
    let cmd = format!("{daemon} sleep 600");
    let (status, _) = bed.run("core.local", json!({"cmd": cmd, "timeout": 2})).await;
    assert_eq!(status, Status::Timeout);
    gone(&written(&file).await).await;
}
