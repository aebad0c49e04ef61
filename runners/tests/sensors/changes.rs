//! Changes of sensors restart exactly what changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use bus::Change;
use model::{Pack, SensorType};
use parking_lot::Mutex;
use runners::sensors::{SensorState, follow_wanted, wanted_sensors};
use serde_json::json;
use store::{Query, StoreExt};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, LONG};

fn waiting(name: &str) -> String {
    format!("\nclass {name}(Rest, Sensor):\n    def run(self): threading.Event().wait()\n")
}

async fn two() -> Option<(Bed, i32, i32)> {
    let bed = Bed::new().await?;
    for name in ["One", "Two"] {
        bed.add_sensor(name, &waiting(name), json!({})).await;
        bed.own(&format!("p.{name}"), 1, LONG);
    }
    let (one, two) = (bed.running("p.One").await.pid?, bed.running("p.Two").await.pid?);
    Some((bed, one, two))
}

async fn restarted(bed: &Bed, reference: &str, old: i32) -> i32 {
    let is_new = |status: &runners::sensors::SensorStatus| {
        status.state == SensorState::Running && status.pid.is_some_and(|pid| pid != old)
    };
    bed.status(reference, "it was restarted", is_new).await.pid.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_stops_and_enabling_starts() {
    let Some((bed, one, two)) = two().await else { return };
    bed.change_row("p.One", |row| row.enabled = false).await;
    bed.gone(one).await;
    bed.status("p.One", "idle", |status| status.state == SensorState::Idle).await;
    bed.change_row("p.One", |row| row.enabled = true).await;
    assert_ne!(bed.running("p.One").await.pid, Some(one));
    let row = bed.services.store.first::<SensorType>(&Query::eq("ref", "p.Two")).await.unwrap().unwrap();
    // Deleted, and nobody tells.
    bed.services.store.remove::<SensorType>(row.id).await.unwrap();
    bed.gone(two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_code_restarts_its_sensor_alone() {
    let Some((bed, one, two)) = two().await else { return };
    // A module that the sensor imports later counts from then on.
    let helper = bed.pack("p").join("sensors/helper.py");
    std::fs::write(&helper, "A = 1\n").unwrap();
    bed.write_sensor("One", &format!("import helper\n{}", waiting("One")));
    let one = restarted(&bed, "p.One", one).await;
    // Written again as it was.
    bed.write_sensor("One", &format!("import helper\n{}", waiting("One")));
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    assert_eq!(bed.running("p.One").await.pid, Some(one));
    std::fs::write(&helper, "A = 2\n").unwrap();
    restarted(&bed, "p.One", one).await;
    assert_eq!(bed.running("p.Two").await.pid, Some(two));
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_of_the_same_changes_nothing_and_a_config_changes_all_of_its_pack() {
    let Some((bed, one, two)) = two().await else { return };
    bed.change_row("p.One", |row| row.description = Some("another text".to_owned())).await;
    bed.announce::<SensorType>(Change::Update, model::Id::of_content(b"x"), "p.Two");
    bed.announce::<Pack>(Change::Update, model::Id::of_content(b"x"), "p");
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!((bed.running("p.One").await.pid, bed.running("p.Two").await.pid), (Some(one), Some(two)));
    bed.change_row("p.One", |row| row.trigger_types.clear()).await;
    let one = restarted(&bed, "p.One", one).await;
    assert_eq!(bed.running("p.Two").await.pid, Some(two));
    bed.set_config("p", json!({"a": 1})).await;
    restarted(&bed, "p.One", one).await;
    restarted(&bed, "p.Two", two).await;
    assert_eq!(bed.running("p.Two").await.restarts, 0, "these are no failures");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_told_which_sensors_are_enabled() {
    let Some(bed) = Bed::new().await else { return };
    bed.add_row("p", "One", "one.py", json!({})).await;
    bed.add_row("p", "Off", "off.py", json!({"enabled": false})).await;
    let told: Arc<Mutex<Vec<BTreeSet<String>>>> = Arc::default();
    let failures = Arc::new(Mutex::new(1));
    let cancel = CancellationToken::new();
    let follower = tokio::spawn({
        let (services, told, failures, cancel) = (bed.services.clone(), told.clone(), failures, cancel.clone());
        async move {
            let want = |sensors: BTreeSet<String>| {
                let mut failures = failures.lock();
                let fails = *failures > 0;
                *failures -= i32::from(fails);
                if !fails {
                    told.lock().push(sensors);
                }
                std::future::ready(if fails { Err("no leader") } else { Ok(()) })
            };
            follow_wanted(services.store.as_ref(), services.bus.as_ref(), want, cancel).await;
        }
    });
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    bed.until("told", async || told.lock().last().filter(|last| **last == set(&["p.One"])).map(drop)).await;
    bed.change_row("p.Off", |row| row.enabled = true).await;
    bed.until("told", async || told.lock().last().filter(|last| **last == set(&["p.Off", "p.One"])).map(drop)).await;
    assert_eq!(wanted_sensors(bed.services.store.as_ref()).await.unwrap(), set(&["p.Off", "p.One"]));
    cancel.cancel();
    follower.await.unwrap();
}
