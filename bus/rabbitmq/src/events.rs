//! Events between processes. In the same process they go through [`bus::Fanout`] at once; here they are sent to the
//! others and heard from them, a few dozen to a message.
//!
//! Each event of a process has a number. Whoever finds a gap knows that some were lost, and tells its subscribers; a
//! process says how far it got whenever it has a new connection, and when somebody new asks.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bus::{Event, Fanout, Topic};
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery as Arrived;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, BasicProperties, Channel};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::link::{Link, Live};
use crate::peers::Peers;
use crate::topology::declare_inbox;
use crate::wire::{decode_batch, decode_event, encode_batch, encode_event};

/// Events in one message, and bytes after which it is full.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 512 * 1024;
/// Messages that the broker may send before they were taken in.
const PREFETCH: u16 = 64;
/// Messages that are acknowledged together.
const ACK_EVERY: u32 = 32;
const ALL_BEFORE: BasicAckOptions = BasicAckOptions { multiple: true };
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

// --- sending -----------------------------------------------------------------------------------------------------

/// Events that wait to be sent, the oldest dropped when there are too many.
#[derive(Debug)]
pub(crate) struct Outbox {
    bound: usize,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Somebody wants to know how far this process got.
    asked: AtomicBool,
    /// This process wants to know how far the others got.
    asks: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Number of the first in `events`.
    first: u64,
    events: VecDeque<Arc<Event>>,
}

impl Outbox {
    pub fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            waiting: Mutex::default(),
            wake: Notify::new(),
            asked: AtomicBool::new(false),
            asks: AtomicBool::new(false),
        }
    }

    pub fn push(&self, event: Arc<Event>) {
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= self.bound {
            waiting.events.pop_front();
            waiting.first += 1;
            metrics::counter!("squall_bus_events_dropped_total").increment(1);
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.wake.notify_one();
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.lock().events.is_empty()
    }

    fn answer(&self) {
        self.asked.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn ask(&self) {
        self.asks.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn next(&self) -> u64 {
        self.waiting.lock().first
    }

    fn take(&self) -> (u64, Vec<Arc<Event>>) {
        let mut waiting = self.waiting.lock();
        let count = waiting.events.len().min(BATCH);
        let first = waiting.first;
        waiting.first += count as u64;
        (first, waiting.events.drain(..count).collect())
    }

    fn put_back(&self, first: u64, events: impl DoubleEndedIterator<Item = Arc<Event>>) {
        let mut waiting = self.waiting.lock();
        // Unless newer ones pushed it out meanwhile, which leaves the gap that it is.
        for (at, event) in events.enumerate().collect::<Vec<_>>().into_iter().rev() {
            if waiting.first == first + at as u64 + 1 {
                waiting.events.push_front(event);
                waiting.first -= 1;
            }
        }
    }
}

/// Sends what is announced until the link is closed. What was under way when a connection ends is lost.
pub(crate) async fn send(outbox: Arc<Outbox>, link: Link, exchange: String, process: Arc<str>) {
    let to = Sender { outbox, exchange, process };
    while let Some(live) = link.up().await {
        if let Err(error) = to.serve(&link, &live).await {
            tracing::debug!(%error, "events can't be sent; beginning anew");
        }
        sleep(PAUSE).await;
    }
}

struct Sender {
    outbox: Arc<Outbox>,
    exchange: String,
    process: Arc<str>,
}

impl Sender {
    async fn serve(&self, link: &Link, live: &Live) -> lapin::Result<()> {
        let mut lost = pin!(link.lost(live));
        let sending = async {
            let channel = live.connection.create_channel().await?;
            self.publish(&channel, self.outbox.next(), true, &[]).await?;
            loop {
                self.outbox.wake.notified().await;
                let asks = self.outbox.asks.swap(false, Ordering::AcqRel);
                if self.outbox.asked.swap(false, Ordering::AcqRel) || asks {
                    self.publish(&channel, self.outbox.next(), asks, &[]).await?;
                }
                self.drain(&channel).await?;
            }
        };
        tokio::select! {
            () = &mut lost => Ok(()),
            ended = sending => ended,
        }
    }

    async fn drain(&self, channel: &Channel) -> lapin::Result<()> {
        loop {
            let (first, events) = self.outbox.take();
            if events.is_empty() {
                return Ok(());
            }
            let mut encoded = Vec::with_capacity(events.len());
            let mut bytes = 0;
            let mut events = events.into_iter();
            for event in events.by_ref() {
                let one = encode(&event);
                bytes += one.1.get().len();
                encoded.push(one);
                if bytes >= BATCH_BYTES {
                    break;
                }
            }
            self.outbox.put_back(first + encoded.len() as u64, events);
            self.publish(channel, first, false, &encoded).await?;
        }
    }

    async fn publish(
        &self,
        channel: &Channel,
        first: u64,
        asks: bool,
        events: &[(Topic, Box<RawValue>)],
    ) -> lapin::Result<()> {
        let body = match encode_batch(first, asks, events) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "events can't be encoded");
                return Ok(());
            }
        };
        let properties = BasicProperties::default().with_app_id((&*self.process).into());
        let options = BasicPublishOptions::default();
        channel.basic_publish(self.exchange.as_str().into(), "".into(), options, &body, properties).await?;
        Ok(())
    }
}

/// One that can't be encoded is sent as nothing: its readers count it as lost.
fn encode(event: &Event) -> (Topic, Box<RawValue>) {
    encode_event(event).unwrap_or_else(|error| {
        tracing::error!(%error, "an event can't be encoded");
        (event.topic(), RawValue::NULL.to_owned())
    })
}

// --- hearing -----------------------------------------------------------------------------------------------------

/// What hears the others.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub fanout: Arc<Fanout>,
    pub outbox: Arc<Outbox>,
    pub exchange: String,
    pub process: Arc<str>,
    /// Whether it hears them now.
    pub attached: watch::Sender<bool>,
}

impl Inbox {
    /// Hears the others until the link is closed.
    pub async fn run(self, link: Link) {
        while let Some(live) = link.up().await {
            let mut lost = pin!(link.lost(&live));
            let ended = tokio::select! {
                () = &mut lost => Ok(()),
                ended = self.serve(&live) => ended,
            };
            self.attached.send_replace(false);
            if let Err(error) = ended {
                tracing::warn!(%error, "the other nodes' events can't be heard; trying again");
                live.redeclare();
            }
            sleep(PAUSE).await;
        }
    }

    async fn serve(&self, live: &Live) -> lapin::Result<()> {
        let channel = live.connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let queue = declare_inbox(&channel, &self.exchange).await?;
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let mut stream = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        let mut peers = Peers::new(Instant::now());
        // Nobody knows what was said before.
        self.lose(1);
        self.attached.send_replace(true);
        self.outbox.ask();
        let mut last: Option<Acker> = None;
        let mut unacknowledged = 0;
        loop {
            let next = match stream.next().now_or_never() {
                Some(next) => next,
                None => {
                    // Nothing more for now.
                    if let Some(acker) = last.take() {
                        acker.ack(ALL_BEFORE).await?;
                        unacknowledged = 0;
                    }
                    stream.next().await
                }
            };
            let Some(arrived) = next else { return Ok(()) };
            let arrived = arrived?;
            self.hear(&arrived, &mut peers);
            unacknowledged += 1;
            if unacknowledged < ACK_EVERY {
                last = Some(arrived.acker);
            } else {
                arrived.acker.ack(ALL_BEFORE).await?;
                (last, unacknowledged) = (None, 0);
            }
        }
    }

    fn lose(&self, lost: u64) {
        for topic in Topic::ALL {
            self.fanout.lose(topic, lost);
        }
    }

    fn hear(&self, arrived: &Arrived, peers: &mut Peers) {
        let Some(from) = arrived.properties.app_id() else { return };
        if from.as_str() == &*self.process {
            return;
        }
        let batch = match decode_batch(&arrived.data) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, from = from.as_str(), "events of another node can't be read");
                return self.lose(1);
            }
        };
        let lost = peers.heard(from.as_str(), batch.first, batch.events.len() as u64, Instant::now());
        if lost > 0 {
            tracing::warn!(lost, from = from.as_str(), "events of another node were lost");
            metrics::counter!("squall_bus_events_lost_total").increment(lost);
            self.lose(lost);
        }
        if batch.asks {
            self.outbox.answer();
        }
        for (topic, raw) in batch.events {
            let Some(topic) = topic.filter(|topic| self.fanout.is_heard(*topic)) else { continue };
            match decode_event(raw) {
                Ok(event) => self.fanout.announce(&Arc::new(event)),
                Err(error) => {
                    tracing::warn!(%error, from = from.as_str(), "an event of another node can't be read");
                    self.fanout.lose(topic, 1);
                }
            }
        }
    }
}
