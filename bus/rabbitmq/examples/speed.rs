//! Jobs per second, and how long one takes from `enqueue` to a consumer: local first, and through the broker.
//!
//! `cargo run --release -p bus-rabbitmq --example speed -- amqp://guest:guest@127.0.0.1:5672/%2f`

use std::error::Error;
use std::time::{Duration, Instant};

use bus::{Bus, Event, Job, Queue, Received, Topic};
use bus_rabbitmq::{RabbitBus, RabbitOptions};
use model::Id;

const JOBS: u64 = 20_000;
const SINGLE: u64 = 2_000;
const SENDERS: u64 = 64;

fn job(n: u64) -> Job {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    Job::Execution { id: Id::from_bytes(bytes), hint: None }
}

fn shown(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("{what}: p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), times.last().copied().unwrap_or_default());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("the broker's URL is missing")?;
    for local_first in [true, false] {
        let mut options = RabbitOptions::new(vec![url.clone()], "speed", "speed");
        options.local_first = local_first;
        let bus = RabbitBus::open(options)?;
        bus.ready(Duration::from_secs(20)).await?;
        println!("{}:", if local_first { "local first" } else { "through the broker" });
        one_by_one(&bus).await?;
        many(&bus).await?;
        events(&bus).await?;
        bus.remove().await?;
        bus.close().await;
    }
    Ok(())
}

async fn one_by_one(bus: &RabbitBus) -> Result<(), Box<dyn Error>> {
    let mut consumer = bus.consume(Queue::Run, 16).await?;
    let (mut taken, mut confirmed) = (Vec::new(), Vec::new());
    for n in 0..SINGLE {
        let began = Instant::now();
        let (sent, delivery) = tokio::join!(
            async {
                let sent = bus.enqueue(Queue::Run, job(n)).await;
                sent.map(|()| began.elapsed())
            },
            consumer.next()
        );
        confirmed.push(sent?);
        taken.push(began.elapsed());
        delivery.ok_or("closed")?.ack();
    }
    shown("  one job at a time, to its consumer", taken);
    shown("  one job at a time, until accepted ", confirmed);
    Ok(())
}

async fn many(bus: &RabbitBus) -> Result<(), Box<dyn Error>> {
    let mut consumer = bus.consume(Queue::Schedule, 256).await?;
    let began = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for n in 0..JOBS / SENDERS {
                    while bus.enqueue(Queue::Schedule, job(sender * JOBS + n)).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for _ in 0..JOBS / SENDERS * SENDERS {
        consumer.next().await.ok_or("closed")?.ack();
    }
    println!("  {SENDERS} senders, one consumer: {:.0} jobs/s", JOBS as f64 / began.elapsed().as_secs_f64());
    for sender in senders {
        sender.await?;
    }
    Ok(())
}

async fn events(bus: &RabbitBus) -> Result<(), Box<dyn Error>> {
    let mut heard = bus.subscribe(&[Topic::Cancel]);
    let mut times = Vec::new();
    for n in 0..SINGLE {
        let began = Instant::now();
        bus.announce(std::sync::Arc::new(Event::Cancel { execution: job(n).id() }));
        if let Some(Received::Event(_)) = heard.next().await {
            times.push(began.elapsed());
        }
    }
    shown("  an event, to this process", times);
    Ok(())
}
