//! Consumers: from the broker's queue and from this process, across reconnects.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{Consumer, Delivery};
use futures::StreamExt;
use lapin::Channel;
use lapin::message::Delivery as Arrived;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use rand::Rng;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::counts::Count;
use crate::desk::Desk;
use crate::link::{Link, Live};
use crate::wire::decode_job;

/// Messages may wait this long without a slot before they are given back.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between looks at the window.
const LOOK: Duration = Duration::from_millis(100);
/// After this long without a message the broker is asked whether any wait; twice, and something is wrong.
const IDLE: Duration = Duration::from_secs(1);
/// For the broker's answer to the end of a consumer.
const FAREWELL: Duration = Duration::from_secs(2);

/// The consumer that callers hold. The task that feeds it ends with it.
#[derive(Debug)]
pub(crate) struct RabbitConsumer {
    desk: Arc<Desk>,
    _feeding: DropGuard,
}

impl RabbitConsumer {
    pub fn new(desk: Arc<Desk>, feeding: CancellationToken) -> Self {
        Self { desk, _feeding: feeding.drop_guard() }
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        let mut permit = Some(self.desk.permits.clone().acquire_owned().await.ok()?);
        loop {
            // Made before looking, so that a close in between is not missed.
            let ready = self.desk.queue.ready.notified();
            if self.desk.queue.is_closed() {
                return None;
            }
            if let Some(delivery) = self.desk.take(&mut permit) {
                return Some(delivery);
            }
            tokio::select! {
                () = ready => {}
                () = self.desk.arrived.notified() => {}
            }
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.desk.leave();
        self.desk.queue.leave(&self.desk);
    }
}

/// Why feeding from one connection ended.
enum Ended {
    /// The consumer is gone.
    Canceled,
    /// The connection or the channel is.
    Lost(String),
    /// Another window is better.
    Window,
}

/// Brings messages from the broker to the desk until `cancel`, which is when the consumer is gone or the bus closed.
pub(crate) async fn feed(desk: Arc<Desk>, count: Arc<Count>, link: Link, cancel: CancellationToken) {
    bring(&desk, &count, &link, &cancel).await;
    desk.queue.left();
}

async fn bring(desk: &Desk, count: &Count, link: &Link, cancel: &CancellationToken) {
    let name = count.queue();
    loop {
        let live = tokio::select! {
            () = cancel.cancelled() => return,
            live = link.up() => match live {
                Some(live) => live,
                None => return,
            },
        };
        let ended = tokio::select! {
            ended = attend(desk, count, &live, cancel) => ended,
            () = link.lost(&live) => Ok(Ended::Lost("the connection was lost".to_owned())),
        };
        // What lies there is dead: the broker delivers it again.
        desk.clear();
        match ended {
            Ok(Ended::Canceled) => return,
            Ok(Ended::Lost(reason)) => tracing::debug!(queue = name, reason, "the consumer begins anew"),
            Ok(Ended::Window) => {}
            Err(error) => {
                tracing::warn!(queue = name, %error, "the queue can't be consumed; trying again");
                live.redeclare();
            }
        }
        let pause = Duration::from_millis(rand::rng().random_range(50..150));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Serves one connection, window after window.
async fn attend(desk: &Desk, count: &Count, live: &Live, cancel: &CancellationToken) -> lapin::Result<Ended> {
    let channel = Arc::new(live.connection.create_channel().await?);
    let mut window = desk.limit();
    loop {
        desk.open_window(window);
        let Ok(width) = u16::try_from(window.min(usize::from(u16::MAX))) else { return Ok(Ended::Canceled) };
        let ended = if width == 0 {
            pump(desk, None, count, &channel, cancel).await?
        } else {
            channel.basic_qos(width, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let mut stream =
                channel.basic_consume(count.queue().into(), "".into(), options, FieldTable::default()).await?;
            let ended = pump(desk, Some(&mut stream), count, &channel, cancel).await?;
            if !matches!(ended, Ended::Lost(_)) {
                give_back(desk, stream, &channel).await?;
            }
            ended
        };
        match ended {
            Ended::Window => {
                desk.pay();
                window = desk.free();
            }
            ended => return Ok(ended),
        }
    }
}

/// Puts messages on the desk until something has to change.
async fn pump(
    desk: &Desk,
    mut stream: Option<&mut lapin::Consumer>,
    count: &Count,
    channel: &Arc<Channel>,
    cancel: &CancellationToken,
) -> lapin::Result<Ended> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stalled: Option<Instant> = None;
    let mut watch = Watch::new();
    loop {
        let consumes = stream.is_some();
        let next = async {
            match &mut stream {
                Some(stream) => stream.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Ended::Canceled),
            arrived = next => match arrived {
                Some(arrived) => {
                    watch = Watch::new();
                    put(desk, arrived?, channel).await?;
                }
                // The queue was deleted.
                None => return Ok(Ended::Lost("the broker ended the consumer".to_owned())),
            },
            _ = look.tick() => {
                stalled = desk.is_stalled().then(|| stalled.unwrap_or_else(Instant::now));
                let too_long = stalled.is_some_and(|since| since.elapsed() >= PATIENCE);
                if desk.better_window(too_long) || desk.owes() {
                    return Ok(Ended::Window);
                }
                if !channel.status().connected() {
                    return Ok(Ended::Lost("the channel was closed".to_owned()));
                }
                if consumes && desk.is_idle() && watch.is_forgotten(count).await {
                    // What the broker believes to be under way comes again once the channel is gone.
                    channel.close(200, "nothing comes".into()).await?;
                    return Ok(Ended::Lost("nothing came though jobs wait".to_owned()));
                }
            }
        }
    }
}

/// Notices that the broker has forgotten a consumer: jobs wait, the window is open and empty, and nothing comes. A
/// guard against brokers that lose track of a consumer when the queue's leader changes.
struct Watch {
    since: Instant,
    suspicions: u32,
}

impl Watch {
    fn new() -> Self {
        Self { since: Instant::now(), suspicions: 0 }
    }

    async fn is_forgotten(&mut self, count: &Count) -> bool {
        if self.since.elapsed() < IDLE {
            return false;
        }
        self.since = Instant::now();
        self.suspicions = if count.get().await.is_ok_and(|waiting| waiting > 0) { self.suspicions + 1 } else { 0 };
        self.suspicions >= 2
    }
}

async fn put(desk: &Desk, arrived: Arrived, channel: &Arc<Channel>) -> lapin::Result<()> {
    if arrived.redelivered {
        metrics::counter!("squall_bus_redelivered_total", "queue" => desk.queue.queue.as_str()).increment(1);
    }
    match decode_job(&arrived.data) {
        Ok(job) => desk.put(job, arrived, channel.clone()),
        Err(error) => {
            tracing::error!(queue = desk.queue.queue.as_str(), %error, "a job goes to the dead letters");
            arrived.acker.reject(BasicRejectOptions { requeue: false }).await?;
        }
    }
    Ok(())
}

/// Ends the consumer at the broker; what it sent and nobody took up goes to others.
async fn give_back(desk: &Desk, mut stream: lapin::Consumer, channel: &Channel) -> lapin::Result<()> {
    let tag = stream.tag();
    let ending = async {
        channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
        let mut ackers: Vec<_> = desk.clear().into_iter().map(|message| message.arrived.acker).collect();
        while let Some(arrived) = stream.next().await {
            ackers.push(arrived?.acker);
        }
        for acker in ackers {
            acker.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
        }
        Ok(())
    };
    // Without an answer the channel is given up, and everything on it comes again.
    timeout(FAREWELL, ending).await.unwrap_or(Ok(()))
}
