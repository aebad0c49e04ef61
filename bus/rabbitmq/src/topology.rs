//! What lies on the broker: names, kinds, limits.
//!
//! ```text
//! exchange jobs (direct) ── <queue> ──▶ queue jobs.<queue>  quorum, bounded (a full one refuses)
//!                                            │ too many deliveries, rejected
//! exchange dead (fanout) ◀───────────────────┘ ──▶ queue dead  quorum
//! exchange events (fanout) ──▶ one queue per node  exclusive, transient, bounded (a full one drops its oldest)
//! queue probe  quorum, holds one message: whether the broker still confirms
//! ```

use bus::Queue;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

/// Bytes that may wait in one job queue.
const MAX_QUEUE_BYTES: i64 = 1 << 30;
/// What may wait for a node that is slow to take its events: messages (of up to some dozen events) and bytes.
const MAX_EVENT_MESSAGES: i32 = 10_000;
const MAX_EVENT_BYTES: i64 = 64 << 20;

/// Names and limits; see the module.
#[derive(Debug, Clone)]
pub(crate) struct Topology {
    prefix: String,
    max_queue_length: u32,
    delivery_limit: u32,
}

impl Topology {
    pub fn new(cluster: &str, max_queue_length: u32, delivery_limit: u32) -> Self {
        let prefix = format!("squall.{cluster}");
        Self { prefix, max_queue_length: max_queue_length.max(1), delivery_limit: delivery_limit.max(1) }
    }

    pub fn jobs_exchange(&self) -> String {
        format!("{}.jobs", self.prefix)
    }

    pub fn jobs_queue(&self, queue: Queue) -> String {
        format!("{}.jobs.{}", self.prefix, queue.as_str())
    }

    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    pub fn events_exchange(&self) -> String {
        format!("{}.events", self.prefix)
    }

    pub fn probe(&self) -> String {
        format!("{}.probe", self.prefix)
    }

    /// The queue that a dead letter came from.
    pub fn queue_of(&self, name: &str) -> Option<Queue> {
        Queue::ALL.into_iter().find(|queue| self.jobs_queue(*queue) == name)
    }

    /// Makes whatever is missing.
    pub async fn declare(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        for (name, kind) in [
            (self.jobs_exchange(), ExchangeKind::Direct),
            (self.dead(), ExchangeKind::Fanout),
            (self.events_exchange(), ExchangeKind::Fanout),
        ] {
            channel.exchange_declare(name.into(), kind, durable, FieldTable::default()).await?;
        }
        self.queue(connection, &self.dead(), self.dead_arguments()).await?;
        bind(&channel, &self.dead(), &self.dead(), "").await?;
        for queue in Queue::ALL {
            self.queue(connection, &self.jobs_queue(queue), self.jobs_arguments()).await?;
            bind(&channel, &self.jobs_queue(queue), &self.jobs_exchange(), queue.as_str()).await?;
        }
        self.queue(connection, &self.probe(), probe_arguments()).await?;
        close(&channel).await;
        Ok(())
    }

    /// Takes away what [`Self::declare`] made, with all that waits there.
    pub async fn remove(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let queues = Queue::ALL.map(|queue| self.jobs_queue(queue)).into_iter();
        for name in queues.chain([self.dead(), self.probe()]) {
            channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
        }
        for name in [self.jobs_exchange(), self.dead(), self.events_exchange()] {
            channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
        }
        close(&channel).await;
        Ok(())
    }

    /// A durable queue. One that exists with other limits stays as it is: it may hold jobs.
    async fn queue(&self, connection: &Connection, name: &str, arguments: FieldTable) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        match channel.queue_declare(name.into(), durable, arguments).await {
            Ok(_) => close(&channel).await,
            Err(error) if is_precondition(&error) => {
                tracing::warn!(queue = name, "the broker's queue has other limits than configured; used as it is");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn jobs_arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        put(&mut arguments, "x-max-length", AMQPValue::LongInt(limit(self.max_queue_length)));
        put(&mut arguments, "x-max-length-bytes", AMQPValue::LongLongInt(MAX_QUEUE_BYTES));
        put(&mut arguments, "x-overflow", text("reject-publish"));
        put(&mut arguments, "x-delivery-limit", AMQPValue::LongInt(limit(self.delivery_limit)));
        put(&mut arguments, "x-dead-letter-exchange", text(&self.dead()));
        // A dead letter leaves its queue only once the other queue has it.
        put(&mut arguments, "x-dead-letter-strategy", text("at-least-once"));
        arguments
    }

    /// Dead letters stay until somebody took them, however often that fails.
    fn dead_arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        put(&mut arguments, "x-max-length", AMQPValue::LongInt(limit(self.max_queue_length)));
        put(&mut arguments, "x-overflow", text("reject-publish"));
        arguments
    }
}

/// The queue through which this connection hears the other nodes' events; returns its name.
pub(crate) async fn declare_inbox(channel: &Channel, exchange: &str) -> lapin::Result<String> {
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    put(&mut arguments, "x-max-length", AMQPValue::LongInt(MAX_EVENT_MESSAGES));
    put(&mut arguments, "x-max-length-bytes", AMQPValue::LongLongInt(MAX_EVENT_BYTES));
    put(&mut arguments, "x-overflow", text("drop-head"));
    let queue = channel.queue_declare("".into(), own, arguments).await?;
    let name = queue.name().to_string();
    bind(channel, &name, exchange, "").await?;
    Ok(name)
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    put(&mut arguments, "x-queue-type", text("quorum"));
    arguments
}

fn probe_arguments() -> FieldTable {
    let mut arguments = quorum();
    put(&mut arguments, "x-max-length", AMQPValue::LongInt(1));
    put(&mut arguments, "x-overflow", text("drop-head"));
    arguments
}

fn put(table: &mut FieldTable, key: &str, value: AMQPValue) {
    table.insert(key.into(), value);
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn limit(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

async fn close(channel: &Channel) {
    // A channel that is gone already is as good.
    let _ = channel.close(200, "done".into()).await;
}

fn is_precondition(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 406)
}
