//! Processes that die.

use std::time::{Duration, Instant};

use runners::sensors::{RespawnOptions, SensorState};
use serde_json::json;

use crate::bed::{Bed, LONG, exists};

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_backs_off_and_says_why() {
    let Some(bed) = Bed::new().await else { return };
    bed.add_type("core.st2.sensor.process_spawn", json!({})).await;
    bed.add_type("core.st2.sensor.process_exit", json!({})).await;
    let text = "
class Crashing(Rest, Sensor):
    def run(self):
        raise ValueError('no luck')
";
    bed.add_sensor("Crashing", text, json!({})).await;
    let began = Instant::now();
    bed.own("p.Crashing", 1, LONG);
    let status = bed.status("p.Crashing", "it failed five times", |status| status.restarts >= 5).await;
    // 100, 200, 400, 400 ms lie between the five starts.
    assert!(began.elapsed() > Duration::from_millis(1100));
    assert_eq!(status.last_error.as_deref(), Some("the process ended with exit code 1: ValueError: no luck"));
    bed.status("p.Crashing", "it backs off", |status| status.state == SensorState::BackingOff).await;
    let exits = bed.payloads_once("core.st2.sensor.process_exit", 5).await;
    assert_eq!((&exits[0]["id"], &exits[0]["exit_code"]), (&json!("Crashing"), &json!(1)));
    let spawns = bed.payloads_once("core.st2.sensor.process_spawn", 5).await;
    assert!(spawns[0]["pid"].is_i64() && spawns[0]["timestamp"].is_i64());
    // What was wrong is put right: no pause is waited for.
    bed.write_sensor("Crashing", "\nclass Crashing(Rest, Sensor):\n    def run(self): threading.Event().wait()\n");
    bed.running("p.Crashing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_loaded_is_told_and_tried_again() {
    let Some(bed) = Bed::new().await else { return };
    let texts = [
        ("Broken", "\nimport no_such_module\n", "No module named 'no_such_module'"),
        ("Absent", "\nclass Other: pass\n", "it has no class Absent"),
        ("Partial", "\nclass Partial(Sensor):\n    def run(self): pass\n", "lacks the methods: add_trigger, cleanup"),
    ];
    for (name, text, reason) in texts {
        bed.add_sensor(name, text, json!({})).await;
        let reference = format!("p.{name}");
        bed.own(&reference, 1, LONG);
        let status = bed.status(&reference, "it failed", |status| status.restarts >= 2).await;
        let error = status.last_error.unwrap();
        assert!(error.contains("Failed to load sensor class from file") && error.contains(reason), "{error}");
    }
    bed.add_row("p", "Gone", "gone.py", json!({})).await;
    bed.own("p.Gone", 1, LONG);
    let status = bed.status("p.Gone", "it failed", |status| status.restarts >= 2).await;
    assert!(status.last_error.unwrap().contains("gone.py is not on this node"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_comes_back_and_one_that_returned_rests() {
    let Some(bed) = Bed::new().await else { return };
    bed.add_sensor(
        "Waiting",
        "\nclass Waiting(Rest, Sensor):\n    def run(self): threading.Event().wait()\n",
        json!({}),
    )
    .await;
    bed.add_sensor("Done", "\nclass Done(Rest, Sensor):\n    def run(self): self.send(done=True)\n", json!({})).await;
    bed.own("p.Waiting", 1, LONG);
    bed.own("p.Done", 1, LONG);
    let first = bed.running("p.Waiting").await;
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(first.pid.unwrap()), nix::sys::signal::Signal::SIGKILL);
    let again = bed
        .status("p.Waiting", "it runs again", |status| status.state == SensorState::Running && status.pid != first.pid)
        .await;
    assert_eq!((again.restarts, again.last_error.as_deref()), (1, Some("the process was killed by signal 9")));
    bed.status("p.Done", "it rests", |status| status.state == SensorState::Exited).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(bed.events(1).await.len(), 1);
    // Only a change ends its rest.
    bed.change_row("p.Done", |row| row.poll_interval = Some(5)).await;
    bed.events(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_gives_no_sign_of_life_is_replaced() {
    let adjust = |options: &mut runners::SensorOptions| {
        options.heartbeat_limit = Duration::from_millis(500);
        options.respawn = RespawnOptions { first: Duration::from_millis(10), ..options.respawn };
    };
    let Some(bed) = Bed::with(|store| store, adjust).await else { return };
    bed.add_sensor(
        "Waiting",
        "\nclass Waiting(Rest, Sensor):\n    def run(self): threading.Event().wait()\n",
        json!({}),
    )
    .await;
    bed.own("p.Waiting", 1, LONG);
    let first = bed.running("p.Waiting").await.pid.unwrap();
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGSTOP).unwrap();
    let status = bed.status("p.Waiting", "it is replaced", |status| {
        status.state == SensorState::Running && status.pid != Some(first)
    });
    let status = status.await;
    assert!(status.last_error.unwrap().contains("no sign of life"));
    assert!(!exists(first));
}
