//! Many sensors on one node: what they take of memory, and how soon they run.

use std::time::Instant;

use serde_json::json;

use crate::bed::{Bed, LONG};

const COUNT: usize = 50;

/// Kilobytes of a process: resident, and its share of what is shared.
fn memory(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    (field("Rss:"), field("Pss:"))
}

/// At most 600 MB of the machine's memory, of which what processes share counts once. What `ps` shows summed counts it
/// for each, and with it the bare interpreter, which differs from machine to machine.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_idle_polling_sensors_fit() {
    let Some(bed) = Bed::new().await else { return };
    for n in 0..COUNT {
        let text = format!(
            "\nclass S{n}(Rest, PollingSensor):\n    def poll(self):\n        if not hasattr(self, 'was'):\n            \
             self.was = self.send(n={n})\n"
        );
        bed.add_sensor(&format!("S{n}"), &text, json!({"poll_interval": 5})).await;
    }
    let began = Instant::now();
    for n in 0..COUNT {
        bed.own(&format!("p.S{n}"), 1, LONG);
    }
    bed.events(COUNT).await;
    let took = began.elapsed();
    let (mut resident, mut share) = (0, 0);
    for n in 0..COUNT {
        let (rss, pss) = memory(bed.running(&format!("p.S{n}")).await.pid.unwrap());
        resident += rss;
        share += pss;
    }
    println!(
        "{COUNT} idle polling sensors: {} MB resident summed, {} MB of their own and their shares; all ran after {took:?}",
        resident / 1024,
        share / 1024
    );
    assert!(share / 1024 <= 600);
}
