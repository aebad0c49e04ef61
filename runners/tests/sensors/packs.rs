//! Sensors of the packs that come with the node, as they are.

use std::path::Path;

use serde_json::json;

use crate::bed::{Bed, LONG, exists};

fn copy_sensors(bed: &Bed, pack: &str) -> bool {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs").join(pack).join("sensors");
    let to = bed.pack(pack).join("sensors");
    let Ok(entries) = std::fs::read_dir(from) else { return false };
    for entry in entries {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sensors_of_the_examples_run() {
    let Some(mut bed) = Bed::new().await else { return };
    assert!(copy_sensors(&bed, "examples"));
    bed.add_type("examples.polling_event", json!({})).await;
    let sensors = [
        ("SamplePollingSensor", "sample_polling_sensor.py", json!({"poll_interval": 10})),
        ("SampleSensor", "sample_sensor.py", json!({})),
    ];
    let mut pids = Vec::new();
    for (name, file, more) in sensors {
        bed.add_row("examples", name, file, more).await;
        let reference = format!("examples.{name}");
        bed.own(&reference, 1, LONG);
        pids.push(bed.running(&reference).await.pid.unwrap());
    }
    bed.until("an event", async || {
        let found = bed.payloads("examples.polling_event").await;
        (found == [json!({"count": 1})]).then_some(())
    })
    .await;
    bed.stop().await;
    assert!(!pids.iter().any(|pid| exists(*pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_watch_sensor_watches_what_rules_ask_for() {
    let Some(bed) = Bed::new().await else { return };
    assert!(copy_sensors(&bed, "linux"));
    let file = bed.directory.path().join("watched.log");
    std::fs::write(&file, "old\n").unwrap();
    bed.add_type("linux.file_watch.line", json!({"type": "object", "properties": {"file_path": {}}})).await;
    bed.add_trigger("linux.watched", "linux.file_watch.line", json!({"file_path": file})).await;
    let row = json!({"trigger_types": ["linux.file_watch.line"]});
    bed.add_row("linux", "FileWatchSensor", "file_watch_sensor.py", row).await;
    bed.own("linux.FileWatchSensor", 1, LONG);
    bed.running("linux.FileWatchSensor").await;
    let lines = bed
        .until("lines", async || {
            use std::io::Write;
            writeln!(std::fs::OpenOptions::new().append(true).open(&file).unwrap(), "new").unwrap();
            let found = bed.payloads("linux.watched").await;
            (!found.is_empty()).then_some(found)
        })
        .await;
    assert_eq!((&lines[0]["line"], &lines[0]["file_name"]), (&json!("new"), &json!("watched.log")));
}
