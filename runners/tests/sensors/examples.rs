//! The examples of docs/sensor-protocol.md run as they stand there.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::bed::{Bed, LONG};

const PAGE: &str = include_str!("../../../docs/sensor-protocol.md");

#[allow(unsafe_code)] // it takes up a descriptor that it is given, and says why it may
mod rust_sensor {
    include!("rust_sensor.rs");

    pub fn run() {
        main().unwrap();
    }
}

/// The block of the page that begins so.
fn block(kind: &str, begins: &str) -> &'static str {
    let fence = format!("```{kind}\n");
    let mut blocks = PAGE.match_indices(&fence).map(|(at, _)| &PAGE[at + fence.len()..]);
    let found = blocks.find(|text| text.starts_with(begins)).expect("the page has it");
    &found[..found.find("```").unwrap()]
}

/// A bed with the executable as the sensor `p.Plain`, which this node owns.
async fn running(executable: &str) -> Option<Bed> {
    let bed = Bed::new().await?;
    bed.add_type("my.minute", json!({})).await;
    let path = bed.pack("p").join("sensors/plain");
    std::fs::write(&path, executable).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    bed.add_row("p", "Plain", "plain", json!({"poll_interval": 1})).await;
    bed.own("p.Plain", 1, LONG);
    Some(bed)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shell() {
    // A minute is long.
    let script = block("bash", "#!/bin/bash").replace("sleep 60", "sleep 0.2");
    let Some(bed) = running(&script).await else { return };
    let events = bed.payloads_once("my.minute", 3).await;
    assert!(events.iter().all(|event| event["load"].as_str().unwrap().parse::<f64>().is_ok()), "{events:?}");
    assert_eq!(bed.running("p.Plain").await.restarts, 0);
    bed.disown("p.Plain");
    bed.until("it was released", async || (!bed.released.lock().is_empty()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_rust() {
    assert_eq!(block("rust", "use std::io"), include_str!("rust_sensor.rs"), "the page shows what is run here");
    let program = std::env::current_exe().unwrap();
    let script = format!("#!/bin/sh\nexec '{}' --exact examples::itself --ignored\n", program.display());
    let Some(bed) = running(&script).await else { return };
    let events = bed.payloads_once("my.minute", 2).await;
    assert_eq!(events[..2], [json!({"n": 1}), json!({"n": 2})]);
    assert_eq!(bed.running("p.Plain").await.restarts, 0);
}

/// The sensor's process, begun by the one above.
#[test]
#[ignore = "runs as a part of another test"]
fn itself() {
    if std::env::var_os("SQUALL_SENSOR_FD").is_some() {
        rust_sensor::run();
    }
}
