//! Buses on the shared broker or on one of a test's own.

#![allow(dead_code, reason = "each test binary uses a part")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

pub mod work;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, BusError, Consumer, DeadLetters, Delivery, Event, Job, Queue, Received, Subscription, Topic};
use bus_rabbitmq::{RabbitBus, RabbitOptions};
use model::Id;
use tokio::time::{Instant, sleep, timeout};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the bus logs, for `RUST_LOG`.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub fn id(n: u64) -> Id {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    Id::from_bytes(bytes)
}

pub fn number(id: Id) -> u64 {
    let bytes = id.as_bytes();
    u64::from_be_bytes(bytes[4..].try_into().unwrap())
}

pub fn job(n: u64) -> Job {
    Job::Execution { id: id(n), hint: None }
}

pub fn cancel(n: u64) -> Arc<Event> {
    Arc::new(Event::Cancel { execution: id(n) })
}

pub fn fresh_cluster() -> String {
    format!("test-{:016x}", rand::random::<u64>())
}

/// As the node would, with shorter times.
pub fn options(urls: Vec<String>, cluster: &str) -> RabbitOptions {
    let mut options = RabbitOptions::new(urls, cluster, "node");
    options.connect_timeout = Duration::from_secs(3);
    options
}

pub async fn next(consumer: &mut dyn Consumer) -> Delivery {
    timeout(PATIENCE, consumer.next()).await.expect("a job").expect("the bus is open")
}

pub async fn received(subscription: &mut dyn Subscription) -> Received {
    timeout(PATIENCE, subscription.next()).await.expect("an event").expect("the bus is open")
}

/// Until it holds, or `PATIENCE` is over.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A bus that takes away what it made on the broker.
#[derive(Debug)]
pub struct TestBus {
    bus: RabbitBus,
}

impl TestBus {
    /// On the shared broker, under a name of its own.
    pub async fn shared(local_first: bool) -> Option<Self> {
        let url = servers::shared::address(servers::shared::RABBITMQ)?;
        let cluster = fresh_cluster();
        let mut options = options(vec![url.clone()], &cluster);
        options.local_first = local_first;
        Some(Self::open(options).await)
    }

    pub async fn open(options: RabbitOptions) -> Self {
        let bus = RabbitBus::open(options).unwrap();
        bus.ready(PATIENCE).await.unwrap();
        Self { bus }
    }

    pub fn handle(&self) -> RabbitBus {
        self.bus.clone()
    }
}

impl Deref for TestBus {
    type Target = RabbitBus;

    fn deref(&self) -> &RabbitBus {
        &self.bus
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        // A broker that is gone took everything along. Consumers that other tasks still hold must not make it anew.
        let bus = self.bus.clone();
        let removing = async move {
            let _ = bus.remove().await;
            bus.close().await;
        };
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(removing));
    }
}

#[async_trait]
impl Bus for TestBus {
    fn announce(&self, event: Arc<Event>) {
        self.bus.announce(event);
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        self.bus.subscribe(topics)
    }

    async fn enqueue(&self, queue: Queue, job: Job) -> Result<(), BusError> {
        self.bus.enqueue(queue, job).await
    }

    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Box<dyn Consumer>, BusError> {
        self.bus.consume(queue, prefetch).await
    }

    async fn waiting(&self, queue: Queue) -> Result<usize, BusError> {
        self.bus.waiting(queue).await
    }

    async fn check(&self) -> Result<(), BusError> {
        self.bus.check().await
    }

    fn dead_letters(&self) -> Option<Box<dyn DeadLetters>> {
        self.bus.dead_letters()
    }
}
