//! What keeps a sensor from having two owners.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use runners::sensors::SensorState;
use serde_json::json;

use crate::bed::{Bed, LONG, exists};

/// Sends an event every 10 ms, and does not mind SIGTERM.
const STUBBORN: &str = "
import signal
class Stubborn(Rest, Sensor):
    def setup(self): signal.signal(signal.SIGTERM, signal.SIG_IGN)
    def run(self):
        while True:
            self.send(pid=os.getpid())
            time.sleep(0.01)
";

async fn stubborn(adjust: impl FnOnce(&mut runners::SensorOptions)) -> Option<Bed> {
    let bed = Bed::with(|store| store, adjust).await?;
    bed.add_sensor("Stubborn", STUBBORN, json!({})).await;
    Some(bed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_gone_before_its_lease_ends_even_if_it_was_stopped() {
    let Some(bed) = stubborn(|_| {}).await else { return };
    for (epoch, pause) in [(1, false), (2, true)] {
        bed.own("p.Stubborn", epoch, LONG);
        let pid = bed.running("p.Stubborn").await.pid.unwrap();
        bed.events(1).await;
        if pause {
            killpg(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        }
        let until = Instant::now() + Duration::from_millis(800);
        bed.own("p.Stubborn", epoch, Duration::from_millis(800));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(exists(pid), "the lease lasts");
        bed.gone(pid).await;
        assert!(Instant::now() < until, "late by {:?}", until.elapsed());
        let status = bed.status("p.Stubborn", "it waits", |status| status.state == SensorState::Idle).await;
        assert_eq!((status.pid, status.restarts), (None, 0));
        assert!(bed.released.lock().len() < usize::try_from(epoch).unwrap(), "the lease is still this node's");
        // Renewed at last: it starts again under the same epoch.
        bed.own("p.Stubborn", epoch, LONG);
        assert_ne!(bed.running("p.Stubborn").await.pid, Some(pid));
        bed.disown("p.Stubborn");
        bed.until("released", async || (bed.released.lock().len() as u64 == epoch).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_reach_the_process() {
    let Some(bed) = stubborn(|_| {}).await else { return };
    bed.own("p.Stubborn", 1, Duration::from_millis(1500));
    let mut pid = None;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bed.own("p.Stubborn", 1, Duration::from_millis(1500));
        let now = bed.states.get("p.Stubborn").and_then(|status| status.pid);
        assert!(pid.is_none() || pid == now, "the process was replaced");
        pid = pid.or(now);
    }
    assert!(pid.is_some());
    assert_eq!(bed.running("p.Stubborn").await.restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_given_up_ends_and_is_then_released() {
    let Some(bed) = stubborn(|_| {}).await else { return };
    bed.own("p.Stubborn", 4, LONG);
    let pid = bed.running("p.Stubborn").await.pid.unwrap();
    bed.disown("p.Stubborn");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(exists(pid) && bed.released.lock().is_empty(), "it has its time to end");
    bed.until("released", async || (!bed.released.lock().is_empty()).then_some(())).await;
    assert!(!exists(pid));
    assert_eq!(*bed.released.lock(), [("p.Stubborn".to_owned(), 4)]);
    assert_eq!(bed.states.get("p.Stubborn"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_the_past_is_refused_and_ends() {
    let Some(bed) = stubborn(|_| {}).await else { return };
    bed.own("p.Stubborn", 5, LONG);
    let pid = bed.running("p.Stubborn").await.pid.unwrap();
    bed.events(1).await;
    bed.depose("p.Stubborn", 6).await;
    let stored = bed.payloads("p.event").await.len();
    bed.gone(pid).await;
    let status = bed.status("p.Stubborn", "deposed", |status| status.state == SensorState::Deposed).await;
    assert_eq!(status.pid, None);
    assert_eq!(bed.payloads("p.event").await.len(), stored, "no event of the old owner was taken");
    // It does not start again under that epoch, and does under a newer one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bed.states.get("p.Stubborn").unwrap().state, SensorState::Deposed);
    bed.own("p.Stubborn", 7, LONG);
    assert_eq!(bed.status("p.Stubborn", "it runs", |s| s.state == SensorState::Running).await.epoch, 7);
    assert!(bed.released.lock().is_empty(), "the group knows that the old epoch is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_raises_the_fence_before_the_process_runs() {
    let Some(bed) = stubborn(|_| {}).await else { return };
    bed.depose("p.Stubborn", 9).await;
    bed.own("p.Stubborn", 8, LONG);
    let status = bed.status("p.Stubborn", "refused", |status| status.state == SensorState::Deposed).await;
    assert_eq!((status.pid, status.restarts), (None, 0));
    assert!(bed.payloads("p.event").await.is_empty());
}

/// It runs, its lease is not renewed, it ends.
async fn lapse(bed: &Bed) {
    bed.own("p.Stubborn", 3, LONG);
    let pid = bed.running("p.Stubborn").await.pid.unwrap();
    let left = Duration::from_millis(400);
    bed.own("p.Stubborn", 3, left);
    tokio::time::sleep(left).await;
    bed.gone(pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_lapsed_may_come_back_and_is_released_when_it_does_not() {
    let Some(bed) = stubborn(|_| {}).await else { return };
    lapse(&bed).await;
    // The group takes it out of the watch when it is over.
    bed.disown("p.Stubborn");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(bed.released.lock().is_empty(), "it may come back");
    lapse(&bed).await;
    bed.disown("p.Stubborn");
    bed.until("released", async || (!bed.released.lock().is_empty()).then_some(())).await;
    // The group has not heard of it yet: another process might begin elsewhere at any moment.
    bed.own("p.Stubborn", 3, LONG);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.states.get("p.Stubborn"), None);
    // It never will: the sensor is still this node's.
    bed.running("p.Stubborn").await;
    assert_eq!(*bed.released.lock(), [("p.Stubborn".to_owned(), 3)]);
}

/// What a seed makes of a hand-over.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// S1: two nodes that get, lose and give back the sensor in every way never have accepted events at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn owners_follow_each_other_whatever_becomes_of_them() {
    let seed = std::env::var("SQUALL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SQUALL_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let adjust = |options: &mut runners::SensorOptions| options.stop_grace = Duration::from_millis(200);
    let Some(bed) = stubborn(adjust).await else { return };
    let other = bed.another_node();
    let nodes = [&bed.node, &other];
    let rounds = 14;
    for epoch in 1..=rounds {
        let node = nodes[usize::try_from(epoch % 2).unwrap()];
        node.own("p.Stubborn", epoch, LONG);
        let is_up = |status: &runners::sensors::SensorStatus| status.epoch == epoch && status.dispatched > 0;
        let pid = bed.until("events", async || node.states.get("p.Stubborn").filter(is_up)).await.pid.unwrap();
        match dice.roll(4) {
            // It is given back in order.
            0 => {
                node.disown("p.Stubborn");
                bed.until("released", async || node.released.lock().last().filter(|l| l.1 == epoch).map(drop)).await;
            }
            // Its lease ends.
            1 => {
                let left = Duration::from_millis(200 + dice.roll(200));
                node.own("p.Stubborn", epoch, left);
                tokio::time::sleep(left).await;
                assert!(!exists(pid), "it outlived its lease (seed {seed})");
                node.disown("p.Stubborn");
            }
            // Its process stands still, and goes on when there is another owner.
            2 => killpg(Pid::from_raw(pid), Signal::SIGSTOP).unwrap(),
            // The node does not know yet that it is no longer the owner.
            _ => {}
        }
    }
    for node in nodes {
        for status in node.states.all() {
            if let Some(pid) = status.pid {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGCONT);
            }
        }
    }
    // Each process's events are together: none of an older owner lies among or after those of a newer one.
    let pids: Vec<i64> = bed.payloads("p.event").await.iter().map(|event| event["pid"].as_i64().unwrap()).collect();
    let mut order = pids.clone();
    order.dedup();
    let mut distinct = order.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(order.len(), distinct.len(), "owners overlapped (seed {seed}): {order:?}");
    assert!(distinct.len() as u64 >= rounds);
}
