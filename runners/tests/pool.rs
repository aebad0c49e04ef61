//! The role on a real store: from the run queue to a stored outcome.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

mod common;

use std::time::{Duration, Instant};

use common::Bed;
use domain::executions::{Cancellation, cancel};
use futures::StreamExt;
use model::{Session, Status};
use serde_json::{Value, json};

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn noop_succeeds_with_every_status_in_the_log() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let requested = bed.request("core.noop", json!({})).await;
    let done = bed.completed(requested.id).await;
    let statuses: Vec<_> = done.log.iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [Status::Requested, Status::Scheduled, Status::Running, Status::Succeeded]);
    assert_eq!(bed.result(&done).await, json!({"failed": false, "succeeded": true, "return_code": 0}));
    assert_eq!((done.rev, done.attempt), (3, 1));
    assert_eq!(done.runner_info.as_ref().unwrap().pid, std::process::id());
}

#[tokio::test]
async fn a_runner_that_is_not_here_fails_clearly() {
    let bed = Bed::new().await;
    bed.add_action("p.flow", "orquesta", "workflows/flow.yaml", json!({})).await;
    let (status, result) = bed.run("p.flow", json!({})).await;
    assert_eq!(status, Status::Failed);
    assert_eq!(result["error"], "Runner \"orquesta\" of action \"p.flow\" is not available on node \"localhost\".");
}

#[tokio::test]
async fn output_is_streamed_in_order() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let cmd = "for i in 1 2 3; do echo out $i; sleep 0.15; done; echo err >&2";
    let requested = bed.request("core.local", json!({"cmd": cmd})).await;
    bed.wait(requested.id, "runs", |execution| execution.status == Status::Running).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while bed.output(requested.id).await.is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(bed.read(requested.id).await.status, Status::Running, "output is there before the end");
    let done = bed.completed(requested.id).await;
    assert_eq!(bed.output(requested.id).await, "out 1\nout 2\nout 3\nerr\n");
    assert_eq!(bed.result(&done).await["stdout"], "out 1\nout 2\nout 3");
}

#[tokio::test]
async fn exit_codes_and_environment() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let run = async |parameters: Value| bed.run("core.local", parameters).await;
    let (status, result) = run(json!({"cmd": "echo '{\"a\": 1}'; exit 7"})).await;
    assert_eq!(status, Status::Failed);
    let expected = json!({"failed": true, "succeeded": false, "return_code": 7, "stdout": {"a": 1}, "stderr": ""});
    assert_eq!(result, expected);
    assert_eq!(run(json!({"cmd": "kill -TERM $$"})).await.0, Status::Abandoned);
    let (status, result) = run(json!({"cmd": "kill -KILL $$"})).await;
    assert_eq!((status, &result["error"]), (Status::Timeout, &json!("Action failed to complete in 60 seconds")));
    let directory = bed.directory.path().to_string_lossy().into_owned();
    let cmd = "pwd; echo $FOO $ST2_ACTION_PACK_NAME $ST2_ACTION_DEBUG $ST2_ACTION_API_URL";
    let (_, result) = run(json!({"cmd": cmd, "cwd": directory, "env": {"FOO": "b a r"}})).await;
    assert_eq!(result["stdout"], format!("{directory}\nb a r core False http://127.0.0.1:9101/v1"));
    let (status, result) = run(json!({"cmd": "true", "cwd": "/nonexistent"})).await;
    assert_eq!(
        (status, &result["error"]),
        (Status::Failed, &json!("[Errno 2] No such file or directory: '/nonexistent'"))
    );
    let (status, result) = run(json!({"cmd": "true", "env": {"N": 5}})).await;
    assert_eq!(status, Status::Failed);
    assert!(result["error"].as_str().unwrap().contains("expected str, bytes or os.PathLike object, not int"));
}

#[tokio::test]
async fn the_token_names_execution_and_user() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let requested = bed.request("core.local", json!({"cmd": "echo $ST2_ACTION_AUTH_TOKEN"})).await;
    let done = bed.completed(requested.id).await;
    let result = bed.result(&done).await;
    let token = bed.tokens.verify(result["stdout"].as_str().unwrap(), bed.services.now()).unwrap();
    assert_eq!((token.execution, token.user.as_str()), (done.id, "ana"));
}

#[tokio::test]
async fn a_canceled_execution_is_killed_and_keeps_the_message() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let file = bed.directory.path().join("pid");
    let cmd = format!("trap '' TERM; echo $$ > {}; while :; do sleep 0.05; done", file.display());
    let requested = bed.request("core.local", json!({"cmd": cmd})).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let pid: i32 = loop {
        if let Ok(Ok(pid)) = std::fs::read_to_string(&file).map(|text| text.trim().parse()) {
            break pid;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert!(matches!(cancel(&bed.services, requested.id, "bob").await.unwrap(), Cancellation::Accepted(_)));
    let done = bed.completed(requested.id).await;
    assert_eq!(done.status, Status::Canceled);
    assert_eq!(bed.result(&done).await, json!({"message": "Action canceled by user.", "user": "bob"}));
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_time_out_keeps_what_was_written() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let (status, result) = bed.run("core.local", json!({"cmd": "echo begun; sleep 10", "timeout": 1})).await;
    assert_eq!(status, Status::Timeout);
    let expected = json!({
        "failed": true, "succeeded": false, "return_code": -9, "stdout": "begun", "stderr": "",
        "error": "Action failed to complete in 1 seconds",
    });
    assert_eq!(result, expected);
}

#[tokio::test]
async fn large_output_is_cut_and_the_node_stays_small() {
    let bed = Bed::with(domain::Settings::default(), |options| options.output_limit = 1 << 20).await;
    bed.add_core().await;
    let (status, result) = bed.run("core.local", json!({"cmd": "head -c 104857600 /dev/zero | tr '\\0' x"})).await;
    assert_eq!(status, Status::Succeeded);
    let text = result["stdout"].as_str().unwrap();
    assert!(text.ends_with("[truncated: the limit output_limit is 1048576 bytes, 104857600 were written]"));
}

#[tokio::test]
async fn a_lost_session_kills_and_leaves_the_execution_to_recovery() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let file = bed.directory.path().join("pid");
    let cmd = format!("echo $$ > {}; sleep 100", file.display());
    let requested = bed.request("core.local", json!({"cmd": cmd})).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let pid: i32 = loop {
        if let Ok(Ok(pid)) = std::fs::read_to_string(&file).map(|text| text.trim().parse()) {
            break pid;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    bed.session.send_replace(None);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "it is killed");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Without a session nothing is claimed; with the next one it goes on.
    let waiting = bed.request("core.noop", json!({})).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bed.read(waiting.id).await.status, Status::Requested);
    bed.session.send_replace(Some(Session { node: "n1".to_owned(), epoch: 2 }));
    let done = bed.completed(waiting.id).await;
    assert_eq!(done.claim.as_ref().unwrap().session, 2);
    assert_eq!(bed.read(requested.id).await.status, Status::Running, "recovery decides");
}

#[tokio::test]
async fn a_stop_waits_and_then_abandons() {
    let mut bed = Bed::new().await;
    bed.add_core().await;
    let short = bed.request("core.local", json!({"cmd": "sleep 0.2"})).await;
    let long = bed.request("core.local", json!({"cmd": "sleep 100"})).await;
    for id in [short.id, long.id] {
        bed.wait(id, "runs", |execution| execution.status != Status::Requested).await;
    }
    bed.stop_pool().await;
    assert_eq!(bed.read(short.id).await.status, Status::Succeeded);
    assert_eq!(bed.read(long.id).await.status, Status::Abandoned);
}

#[tokio::test]
async fn python_results() {
    let bed = Bed::new().await;
    let base = "from st2common.runners.base_action import Action\nclass A(Action):\n    def run(self, n):\n        ";
    for (name, body, status, result) in [
        ("keys", "return {1: 2}", Status::Succeeded, json!("{1: 2}, 'status': None}")),
        ("keys_ok", "return (True, {1: 2})", Status::Succeeded, json!("{1: 2}")),
        ("set_failed", "return (False, {1})", Status::Failed, json!("{1}")),
        ("big", "return 2**70", Status::Succeeded, json!("1180591620717411303424, 'status': None}")),
        ("nan", "return float('nan')", Status::Succeeded, json!(null)),
        ("three", "return (True, 1, 2)", Status::Succeeded, json!([true, 1, 2])),
        ("leave", "raise SystemExit(0)", Status::Succeeded, json!("None")),
        ("leave3", "raise SystemExit(3)", Status::Failed, json!("None")),
    ] {
        bed.add_python(name, &format!("{base}{body}\n")).await;
        let (ended, value) = bed.run(&format!("test.{name}"), json!({})).await;
        assert_eq!((ended, &value["result"]), (status, &result), "{name}: {value}");
    }
    bed.add_python("pair", &format!("{base}return (1, 'b')\n")).await;
    let (status, value) = bed.run("test.pair", json!({})).await;
    assert_eq!(status, Status::Failed);
    let text = "Status returned from the action run() method must either be True or False, got: 1\n";
    assert!(value["error"].as_str().unwrap().starts_with(text), "{value}");
    bed.add_python("slow", &format!("{base}import time; print('begun'); time.sleep(100)\n")).await;
    let (status, value) = bed.run("test.slow", json!({"timeout": 1})).await;
    assert_eq!(status, Status::Timeout);
    let expected = json!({
        "stdout": "begun\n", "stderr": "", "exit_code": -9, "result": "None",
        "error": "Action failed to complete in 1 seconds",
    });
    assert_eq!(value, expected);
}

#[tokio::test]
async fn a_pack_that_wants_packages_needs_its_virtualenv() {
    let bed = Bed::new().await;
    let text = "from st2actions.runners.pythonrunner import Action\nclass A(Action):\n    def run(self, n):\n        return n\n";
    bed.add_python("a", text).await;
    assert_eq!(bed.run("test.a", json!({"n": 5})).await.1["result"], 5);
    std::fs::write(bed.directory.path().join("test/requirements.txt"), "requests\n").unwrap();
    let (status, result) = bed.run("test.a", json!({})).await;
    assert_eq!(status, Status::Failed);
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("for pack \"test\" does not exist. Normally this is created when you install"), "{error}");
}

#[tokio::test]
async fn many_python_runs_at_a_time() {
    let bed = Bed::new().await;
    let text =
        "from st2common.runners.base_action import Action\nclass A(Action):\n    def run(self, n):\n        return n\n";
    bed.add_python("a", text).await;
    let runs = (0..40).map(|n| {
        let bed = &bed;
        async move { bed.run("test.a", json!({"n": n})).await.1["result"].as_i64() }
    });
    let values = futures::future::join_all(runs).await;
    assert_eq!(values, (0..40).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn announcements_reach_the_stream() {
    let bed = Bed::new().await;
    bed.add_action("p.tell", "announcement", "", json!({"a": {"type": "integer"}, "b": {"type": "string"}})).await;
    let mut events = bed.services.bus.subscribe(&[bus::Topic::Announcement]);
    let (status, result) = bed.run("p.tell", json!({"experimental": true, "route": "r", "a": 5})).await;
    assert_eq!((status, &result["a"]), (Status::Succeeded, &json!(5)));
    assert_eq!(result["output"], json!({"a": 5, "b": null}));
    let Some(bus::Received::Event(event)) = events.next().await else { panic!("an event") };
    let bus::Event::Announcement { route, payload, .. } = event.as_ref() else { panic!("{event:?}") };
    assert_eq!((route.as_str(), payload), ("r", &json!({"a": 5, "b": null})));
    let (status, result) = bed.run("p.tell", json!({})).await;
    assert_eq!((status, &result["error"]), (Status::Failed, &json!("Experimental flag is missing for action p.tell")));
}

/// Figures for `cargo nextest run --release -p runners --run-ignored only --no-capture figures`: request to stored
/// outcome, with durable writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    let bed = Bed::new().await;
    bed.add_core().await;
    let text =
        "from st2common.runners.base_action import Action\nclass A(Action):\n    def run(self, n):\n        return n\n";
    bed.add_python("a", text).await;
    for (name, parameters, count) in
        [("core.noop", json!({}), 3000), ("core.local", json!({"cmd": "true"}), 1000), ("test.a", json!({}), 1000)]
    {
        bed.run(name, parameters.clone()).await;
        let mut took = Vec::new();
        for _ in 0..200 {
            let begun = Instant::now();
            bed.finished(name, parameters.clone()).await;
            took.push(begun.elapsed());
        }
        took.sort();
        let begun = Instant::now();
        let runs = futures::stream::iter(0..count).map(|_| bed.finished(name, parameters.clone()));
        runs.buffer_unordered(32).count().await;
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        println!("{name}: p50 {:?}, p99 {:?}, 32 at a time {rate:.0}/s", took[100], took[197]);
    }
}
