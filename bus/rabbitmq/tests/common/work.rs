//! A workload that goes on through faults, and what must hold afterwards: every job that was accepted is delivered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, Queue};
use bus_rabbitmq::RabbitBus;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{job, number};

/// One sends, others take; each job is done after a moment.
pub struct Work {
    seen: Arc<Mutex<BTreeSet<u64>>>,
    stop: Arc<AtomicBool>,
    sending: JoinHandle<Sent>,
    taking: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default, Clone)]
pub struct Sent {
    pub accepted: BTreeSet<u64>,
    pub refused: u64,
    pub longest: Duration,
}

impl Work {
    pub fn start(sender: RabbitBus, takers: &[RabbitBus], queue: Queue) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let sending = tokio::spawn(send(sender, queue, stop.clone()));
        let taking = takers.iter().map(|bus| tokio::spawn(take(bus.clone(), queue, seen.clone()))).collect();
        Self { seen, stop, sending, taking }
    }

    pub fn done(&self) -> usize {
        self.seen.lock().len()
    }

    /// Waits until more is done.
    pub async fn goes_on(&self, within: Duration) -> Duration {
        let (began, before) = (Instant::now(), self.done());
        while self.done() <= before + 5 {
            assert!(began.elapsed() < within, "nothing goes on ({} done)", self.done());
            sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    /// Stops sending and waits for all that was accepted.
    pub async fn finish(self, within: Duration) -> Sent {
        self.stop.store(true, Ordering::Release);
        let sent = timeout(within, self.sending).await.expect("the sender ends").expect("it doesn't panic");
        let deadline = Instant::now() + within;
        loop {
            let missing: Vec<u64> = sent.accepted.difference(&self.seen.lock()).copied().collect();
            if missing.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{} of {} never came: {missing:?}", missing.len(), sent.accepted.len());
            sleep(Duration::from_millis(20)).await;
        }
        for taker in self.taking {
            taker.abort();
        }
        sent
    }
}

async fn send(bus: RabbitBus, queue: Queue, stop: Arc<AtomicBool>) -> Sent {
    let mut sent = Sent::default();
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            return sent;
        }
        let began = Instant::now();
        match bus.enqueue(queue, job(n)).await {
            Ok(()) => {
                sent.accepted.insert(n);
            }
            Err(_) => sent.refused += 1,
        }
        sent.longest = sent.longest.max(began.elapsed());
        sleep(Duration::from_millis(3)).await;
    }
    sent
}

async fn take(bus: RabbitBus, queue: Queue, seen: Arc<Mutex<BTreeSet<u64>>>) {
    let Ok(mut consumer) = bus.consume(queue, 4).await else { return };
    while let Some(delivery) = consumer.next().await {
        let seen = seen.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(1)).await;
            seen.lock().insert(number(delivery.job.id()));
            delivery.ack();
        });
    }
}
