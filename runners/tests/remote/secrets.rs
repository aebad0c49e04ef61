//! What other users of a host can see of a command, and commands as root.

use std::path::PathBuf;

use model::{Id, Status};
use serde_json::{Value, json};

use crate::sshd::{PASSWORD, Sshd, USER};
use crate::{bed, here};

/// Says who runs it, whether it has the variables, and how many lines of all processes' arguments hold their values.
const SPY: &str = "id -un; echo $X; printf '%s\\n%s\\n' \"$ST2_ACTION_AUTH_TOKEN\" \"$X\" > spy.$$; \
                   grep -c . spy.$$; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c -F -f spy.$$; rm spy.$$; \
                   grep -lsF \"$ST2_ACTION_EXECUTION_ID\" /tmp/.st2-* | grep -c .; true";

fn spied(user: &str) -> Value {
    json!(format!("{user}\nhidden 'value'\n2\n0\n0"))
}

fn given(sshd: &Sshd, more: Value) -> Value {
    let mut given = json!({
        "hosts": here(sshd), "cmd": SPY, "env": {"X": "hidden 'value'"}, "username": sshd.user,
        "private_key": sshd.key(), "cwd": sshd.directory.path(),
    });
    given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    given
}

/// The file of an execution's environment, on the host that is this machine.
fn left_behind(id: Id) -> Option<PathBuf> {
    let files = std::fs::read_dir("/tmp").unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".st2-"));
    files.find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(&id.to_string())))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_and_env_are_not_in_the_command_line() {
    let Some(sshd) = Sshd::start() else { return };
    let bed = bed(&sshd, |_| {}).await;
    let (status, result) = bed.run("core.remote", given(&sshd, json!({}))).await;
    assert_eq!((status, &result["127.0.0.1"]["stdout"]), (Status::Succeeded, &spied(&sshd.user)), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_with_a_password() {
    let allowed = format!("{USER} ALL=(ALL) ALL");
    let Some(sshd) = Sshd::with("127.0.0.1", "", Some(&allowed)) else { return };
    let bed = bed(&sshd, |_| {}).await;
    let right = json!({"sudo": true, "sudo_password": PASSWORD});
    let (status, result) = bed.run("core.remote", given(&sshd, right)).await;
    let host = &result["127.0.0.1"];
    assert_eq!((status, &host["stdout"]), (Status::Succeeded, &spied("root")), "{result} {}", sshd.log());
    let wrong = json!({"sudo": true, "sudo_password": "wrong"});
    let requested = bed.request("core.remote", given(&sshd, wrong)).await;
    let done = bed.completed(requested.id).await;
    let result = bed.result(&done).await;
    let host = &result["127.0.0.1"];
    assert_eq!(
        (done.status, &host["return_code"], &host["stdout"]),
        (Status::Failed, &json!(1), &json!("")),
        "{result}"
    );
    assert!(host["stderr"].as_str().unwrap().contains("1 incorrect password attempt"), "{result}");
    assert_eq!(left_behind(requested.id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_without_a_password() {
    let allowed = format!("{USER} ALL=(ALL) NOPASSWD: ALL");
    let Some(sshd) = Sshd::with("127.0.0.1", "", Some(&allowed)) else { return };
    let bed = bed(&sshd, |_| {}).await;
    let (status, result) = bed.run("core.remote", given(&sshd, json!({"sudo": true}))).await;
    let host = &result["127.0.0.1"];
    assert_eq!((status, &host["stdout"]), (Status::Succeeded, &spied("root")), "{result} {}", sshd.log());
    // On a terminal, errors are part of the output.
    let both = json!({"sudo": true, "cmd": "echo out; echo err >&2; exit 3"});
    let (status, result) = bed.run("core.remote", given(&sshd, both)).await;
    let host = &result["127.0.0.1"];
    assert_eq!((status, &host["stdout"], &host["stderr"]), (Status::Failed, &json!("out\nerr"), &json!("")));
    // What sudo asks nobody answers.
    let asking = format!("{USER} ALL=(ALL) ALL");
    let Some(sshd) = Sshd::with("127.0.0.1", "", Some(&asking)) else { return };
    let bed = crate::bed(&sshd, |_| {}).await;
    let requested = bed.request("core.remote", given(&sshd, json!({"sudo": true, "timeout": 2}))).await;
    assert_eq!(bed.completed(requested.id).await.status, Status::Timeout);
    assert_eq!(left_behind(requested.id), None);
}
