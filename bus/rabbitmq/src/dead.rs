//! Jobs that the broker gave up on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{Acknowledge, DeadLetter, DeadLetters};
use futures::StreamExt;
use lapin::message::Delivery as Arrived;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Channel};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::link::{Link, Live};
use crate::settle::{Fate, Settler};
use crate::topology::Topology;
use crate::wire::subject_of;

const PREFETCH: u16 = 16;
const PAUSE: Duration = Duration::from_millis(200);
/// Before a letter that nobody could deal with comes again.
const AGAIN: Duration = Duration::from_secs(1);

/// The stream that callers hold. The task that feeds it ends with it.
#[derive(Debug)]
pub(crate) struct Letters {
    letters: mpsc::Receiver<DeadLetter>,
    _feeding: DropGuard,
}

#[async_trait]
impl DeadLetters for Letters {
    async fn next(&mut self) -> Option<DeadLetter> {
        self.letters.recv().await
    }
}

/// What brings dead letters.
#[derive(Debug)]
pub(crate) struct Office {
    pub topology: Topology,
    pub link: Link,
    pub settler: Settler,
}

impl Office {
    /// The stream, and what feeds it until `cancel`.
    pub fn open(self, cancel: CancellationToken) -> (Letters, impl Future<Output = ()> + Send) {
        let (sender, letters) = mpsc::channel(usize::from(PREFETCH));
        let feeding = {
            let cancel = cancel.clone();
            async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = self.run(sender) => {}
                }
            }
        };
        (Letters { letters, _feeding: cancel.drop_guard() }, feeding)
    }

    async fn run(&self, sender: mpsc::Sender<DeadLetter>) {
        while let Some(live) = self.link.up().await {
            let ended = tokio::select! {
                () = self.link.lost(&live) => Ok(()),
                ended = self.serve(&live, &sender) => ended,
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "dead letters can't be consumed; trying again");
                live.redeclare();
            }
            sleep(PAUSE).await;
        }
    }

    async fn serve(&self, live: &Live, sender: &mpsc::Sender<DeadLetter>) -> lapin::Result<()> {
        let channel = Arc::new(live.connection.create_channel().await?);
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let name = self.topology.dead();
        let mut stream = channel.basic_consume(name.into(), "".into(), options, FieldTable::default()).await?;
        while let Some(arrived) = stream.next().await {
            if sender.send(self.letter(arrived?, channel.clone())).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn letter(&self, arrived: Arrived, channel: Arc<Channel>) -> DeadLetter {
        let properties = &arrived.properties;
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(|s| s.as_str().to_owned());
        let (kind, id) = (text(properties.kind()), text(properties.message_id()));
        let subject = kind.zip(id).and_then(|(kind, id)| subject_of(&kind, &id));
        let death = properties.headers().as_ref().map(Death::of).unwrap_or_default();
        let queue = death.queue.as_deref().and_then(|name| self.topology.queue_of(name));
        metrics::counter!("squall_bus_dead_letters_total", "queue" => queue.map_or("?", bus::Queue::as_str))
            .increment(1);
        let pending = Pending { settler: self.settler.clone(), acker: arrived.acker, channel };
        DeadLetter::new(queue, subject, death.reason(), Box::new(pending))
    }
}

/// What the broker says about the first death of a message.
#[derive(Debug, Default, PartialEq, Eq)]
struct Death {
    queue: Option<String>,
    cause: Option<String>,
}

impl Death {
    fn of(headers: &FieldTable) -> Self {
        let text = |key: &str| headers.inner().get(key).and_then(string);
        let first = Self { queue: text("x-first-death-queue"), cause: text("x-first-death-reason") };
        if first.queue.is_some() {
            return first;
        }
        let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return Self::default() };
        let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().last() else { return Self::default() };
        let text = |key: &str| death.inner().get(key).and_then(string);
        Self { queue: text("queue"), cause: text("reason") }
    }

    fn reason(&self) -> String {
        match self.cause.as_deref() {
            Some("delivery_limit") => "it was delivered too often without being done".to_owned(),
            Some("rejected") => "the message could not be read".to_owned(),
            Some("expired") => "it waited for too long".to_owned(),
            Some("maxlen") => "the queue was full".to_owned(),
            Some(other) => format!("the message broker gave it up: {other}"),
            None => "the message broker gave it up".to_owned(),
        }
    }
}

fn string(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

#[derive(Debug)]
struct Pending {
    settler: Settler,
    acker: Acker,
    channel: Arc<Channel>,
}

impl Acknowledge for Pending {
    fn settle(self: Box<Self>, done: bool) {
        let Self { settler, acker, channel } = *self;
        if done {
            return settler.settle(acker, channel, Fate::Done);
        }
        // Not at once: whatever hindered it may last.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sleep(AGAIN).await;
                settler.settle(acker, channel, Fate::Again);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_understood() {
        let mut headers = FieldTable::default();
        assert_eq!(Death::of(&headers).reason(), "the message broker gave it up");
        let mut death = FieldTable::default();
        death.insert("queue".into(), AMQPValue::LongString("squall.c.jobs.run".into()));
        death.insert("reason".into(), AMQPValue::LongString("delivery_limit".into()));
        headers.insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()));
        let expected = Death { queue: Some("squall.c.jobs.run".into()), cause: Some("delivery_limit".into()) };
        assert_eq!(Death::of(&headers), expected);
        headers.insert("x-first-death-queue".into(), AMQPValue::LongString("squall.c.jobs.rules".into()));
        headers.insert("x-first-death-reason".into(), AMQPValue::LongString("rejected".into()));
        assert_eq!(Death::of(&headers).queue.as_deref(), Some("squall.c.jobs.rules"));
        let topology = Topology::new("c", 1, 1);
        assert_eq!(topology.queue_of("squall.c.jobs.rules"), Some(bus::Queue::Rules));
        assert_eq!(topology.queue_of("squall.d.jobs.rules"), None);
    }
}
