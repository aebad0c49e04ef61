//! `remote-shell-script`: a script and what lies beside it, on the host and gone again.

use std::os::unix::fs::PermissionsExt;

use model::Status;
use serde_json::json;

use crate::sshd::Sshd;
use crate::{bed, here};

#[tokio::test(flavor = "multi_thread")]
async fn a_script_with_its_lib() {
    let Some(sshd) = Sshd::start() else { return };
    let bed = bed(&sshd, |_| {}).await;
    let actions = bed.directory.path().join("test/actions");
    std::fs::create_dir_all(actions.join("lib/sub dir")).unwrap();
    bed.add_pack("test", &bed.directory.path().join("test")).await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(actions.join("lib/sub dir/data.bin"), &bytes).unwrap();
    std::fs::write(actions.join("lib/tool"), "#!/bin/sh\necho tool \"$@\"\n").unwrap();
    std::fs::set_permissions(actions.join("lib/tool"), PermissionsExt::from_mode(0o755)).unwrap();
    let script = "#!/bin/bash\nd=$(dirname \"$0\")\n\"$d/lib/tool\" \"$@\"\nstat -c '%a %s' \"$d\" \"$0\"\n\
                  cksum < \"$d/lib/sub dir/data.bin\"\npwd\necho $ST2_ACTION_PACK_NAME\necho \"$d\"\n";
    std::fs::write(actions.join("my script.sh"), script).unwrap();
    let parameters = json!({
        "name": {"type": "string"}, "n": {"type": "integer", "position": 1}, "on": {"type": "boolean"},
        "what": {"type": "string", "position": 0},
    });
    bed.add_action("test.script", "remote-shell-script", "my script.sh", parameters).await;
    let given = json!({
        "hosts": here(&sshd), "name": "it's", "n": 5, "on": true, "what": "a b", "cwd": "/usr/bin",
    });
    let requested = bed.request("test.script", given).await;
    let done = bed.completed(requested.id).await;
    let result = bed.result(&done).await;
    assert_eq!(done.status, Status::Succeeded, "{result}");
    let text = result["127.0.0.1"]["stdout"].as_str().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "tool --name=it's --on a b 5");
    assert!(lines[1].starts_with("700 "), "{text}");
    assert_eq!(lines[2], format!("744 {}", script.len()));
    assert!(lines[3].ends_with(" 1000000"), "{text}");
    assert_eq!(lines[4..6], ["/usr/bin", "test"]);
    assert_eq!(lines[6], format!("/tmp/{}", requested.id));
    assert!(!std::path::Path::new(lines[6]).exists(), "{} is left on the host", lines[6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_told() {
    let Some(sshd) = Sshd::with("127.0.0.1", "ForceCommand echo full >&2; false", None) else { return };
    let bed = bed(&sshd, |_| {}).await;
    let actions = bed.directory.path().join("test/actions");
    std::fs::create_dir_all(&actions).unwrap();
    bed.add_pack("test", &bed.directory.path().join("test")).await;
    std::fs::write(actions.join("s.sh"), "echo hi").unwrap();
    bed.add_action("test.s", "remote-shell-script", "s.sh", json!({})).await;
    let (status, result) = bed.run("test.s", json!({"hosts": here(&sshd)})).await;
    assert_eq!(status, Status::Failed);
    let host = &result["127.0.0.1"];
    let error = host["error"].as_str().unwrap();
    assert_eq!(error, "Failed copying content to remote boxes. exit code 1: full", "{result}");
    assert_eq!((&host["return_code"], &host["timeout"]), (&json!(255), &json!(false)));
}
