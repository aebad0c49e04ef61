//! Actions of the system packs, run by a real node.

use std::time::Duration;

use anyhow::Result;
use e2e::Node;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn system_actions_run() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    for (action, parameters, path, expected) in [
        ("examples.isprime", json!({"value": 97}), "/result/result", json!(true)),
        ("examples.object_return", json!({}), "/result/result/a", json!("b")),
        ("examples.json_string_to_object", json!({"json_str": "{\"x\": [1]}"}), "/result/result/x/0", json!(1)),
        (
            "examples.local_script_runner_print_to_stdout_and_stderr",
            json!({"count": 2, "sleep_delay": 0.0}),
            "/result/stdout",
            json!("stdout line 2"),
        ),
        (
            "examples.python_runner_print_to_stdout_and_stderr",
            json!({"count": 2, "sleep_delay": 0}),
            "/result/stdout",
            json!("stdout line 2\n"),
        ),
        ("core.pause", json!({"max_pause": 0}), "/result/result", json!(0)),
        ("packs.load", json!({"packs": ["examples"], "register": "actions"}), "/result/result/runners", json!(14)),
        ("packs.get", json!({"pack": "core"}), "/result/result/pack/ref", json!("core")),
        ("packs.get_config", json!({}), "/result/result/no_proxy", json!("localhost, 127.0.0.1")),
        (
            "core.inject_trigger",
            json!({"trigger_name": "examples.sample_trigger",
            "payload": {"value": "v", "executed_at": "2026-01-01"}}),
            "/result/result/trigger",
            json!("examples.sample_trigger"),
        ),
        ("chatops.post_message", json!({"message": "hi", "channel": "c"}), "/result/output/message", json!("hi")),
    ] {
        let id = api.run(action, parameters).await?;
        let execution = api.finished(&id, Duration::from_secs(60)).await;
        assert_eq!(execution["status"], "succeeded", "{action}: {}", execution["result"]);
        assert_eq!(execution.pointer(path), Some(&expected), "{action}: {}", execution["result"]);
    }
    let instances = api.get("/v1/triggerinstances?trigger=examples.sample_trigger").await?;
    assert_eq!(instances.as_array().map(Vec::len), Some(1));
    Ok(())
}
