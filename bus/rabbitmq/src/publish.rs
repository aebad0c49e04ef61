//! Messages with a confirm: one task and one channel for each destination.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use crate::link::{Link, Live};

/// Messages that may wait for their confirm; more than that wait to be sent.
const MAX_UNCONFIRMED: usize = 1_024;
const QUEUED: usize = 4_096;
/// A channel on which the broker refused everything for this long is replaced. One that was opened while the queue had
/// no leader goes on asking the dead one and refuses for ever (RabbitMQ 3.10).
const REFUSING: Duration = Duration::from_millis(300);
/// After a channel failed, and between looks at a blocked connection.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    /// The broker refused it: the queue is full, or can't be written now.
    #[error("the broker refused the message")]
    Refused,
    /// There was no queue for it; what is missing is being declared.
    #[error("there is no queue for the message")]
    Unroutable,
    /// It may have arrived or not.
    #[error("{0}")]
    Failed(String),
}

#[derive(Debug)]
struct Command {
    body: Vec<u8>,
    properties: BasicProperties,
    deadline: Instant,
    reply: oneshot::Sender<Result<(), PublishError>>,
}

/// The handle.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    commands: mpsc::Sender<Command>,
    link: Link,
    deadline: Duration,
}

/// Where messages go; an empty exchange means the queue named by `key`.
#[derive(Debug)]
pub(crate) struct Destination {
    pub exchange: String,
    pub key: String,
    /// What the metrics call it.
    pub label: &'static str,
}

impl Publisher {
    /// The handle, and what does its work until the link is closed.
    pub fn new(link: Link, to: Destination, deadline: Duration) -> (Self, impl Future<Output = ()> + Send) {
        let (commands, receiver) = mpsc::channel(QUEUED);
        let publisher = Self { commands, link: link.clone(), deadline };
        (publisher, run(link, to, receiver))
    }

    /// Why nothing can be published now.
    pub fn obstacle(&self) -> Option<String> {
        match self.link.now() {
            Err(reason) => Some(reason.to_string()),
            Ok(live) if live.is_blocked() => Some("the broker takes no messages (memory or disk alarm)".to_owned()),
            Ok(_) => None,
        }
    }

    /// Returns once the broker has the message for good, or after the deadline.
    pub async fn publish(&self, body: Vec<u8>, properties: BasicProperties) -> Result<(), PublishError> {
        if let Some(obstacle) = self.obstacle() {
            return Err(PublishError::Failed(obstacle));
        }
        let late = || PublishError::Failed("no confirm in time".to_owned());
        let deadline = Instant::now() + self.deadline;
        let (reply, replied) = oneshot::channel();
        let command = Command { body, properties, deadline, reply };
        match timeout_at(deadline, self.commands.send(command)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(PublishError::Failed("closed".to_owned())),
            Err(_) => return Err(late()),
        }
        match timeout_at(deadline, replied).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PublishError::Failed("the connection was lost".to_owned())),
            Err(_) => Err(late()),
        }
    }
}

async fn run(link: Link, to: Destination, mut commands: mpsc::Receiver<Command>) {
    while let Some(live) = link.up().await {
        if live.is_blocked() {
            sleep(PAUSE).await;
            continue;
        }
        match serve(&link, &live, &to, &mut commands).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!(to = to.label, %error, "the publisher begins anew"),
        }
        sleep(PAUSE).await;
    }
}

/// Serves one channel; true when all handles are gone. What is unconfirmed then is answered as lost.
async fn serve(
    link: &Link,
    live: &Live,
    to: &Destination,
    commands: &mut mpsc::Receiver<Command>,
) -> lapin::Result<bool> {
    let channel = live.connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut lost = pin!(link.lost(live));
    // In order of sending: should the broker return a message, then the library may hand it to the confirm of an
    // earlier one; taking them in order keeps later ones from being believed.
    let mut unconfirmed = FuturesOrdered::new();
    let mut refusing: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut lost => return Ok(false),
            Some((reply, confirmed)) = unconfirmed.next(), if !unconfirmed.is_empty() => {
                let result = judge(confirmed, live, to.label);
                refusing = match result {
                    Err(PublishError::Refused) => Some(refusing.unwrap_or_else(Instant::now)),
                    _ => None,
                };
                let ends = matches!(result, Err(PublishError::Unroutable | PublishError::Failed(_)))
                    || refusing.is_some_and(|since| since.elapsed() >= REFUSING);
                // Whoever asked may have stopped waiting.
                let _ = oneshot::Sender::send(reply, result);
                if ends {
                    return Ok(false);
                }
            }
            command = commands.recv(), if unconfirmed.len() < MAX_UNCONFIRMED => {
                let Some(Command { body, properties, deadline, reply }) = command else { return Ok(true) };
                if reply.is_closed() {
                    continue;
                }
                let confirm = match timeout_at(deadline, send(&channel, to, &body, properties)).await {
                    Ok(sent) => sent?,
                    // Not even sent: the connection is blocked or dead.
                    Err(_) => return Ok(false),
                };
                metrics::counter!("squall_bus_published_total", "to" => to.label).increment(1);
                unconfirmed.push_back(async move { (reply, timeout_at(deadline, confirm).await) });
            }
        }
    }
}

async fn send(
    channel: &Channel,
    to: &Destination,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<lapin::PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(to.exchange.as_str().into(), to.key.as_str().into(), options, body, properties).await
}

fn judge(
    confirmed: Result<lapin::Result<Confirmation>, tokio::time::error::Elapsed>,
    live: &Live,
    label: &'static str,
) -> Result<(), PublishError> {
    match confirmed {
        Ok(Ok(Confirmation::Ack(None))) => {
            metrics::counter!("squall_bus_confirmed_total", "to" => label).increment(1);
            Ok(())
        }
        Ok(Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)))) => {
            live.redeclare();
            Err(PublishError::Unroutable)
        }
        Ok(Ok(Confirmation::Nack(None))) => {
            metrics::counter!("squall_bus_nacked_total", "to" => label).increment(1);
            Err(PublishError::Refused)
        }
        Ok(Ok(Confirmation::NotRequested)) => Err(PublishError::Failed("the channel gives no confirms".to_owned())),
        Ok(Err(error)) => Err(PublishError::Failed(error.to_string())),
        Err(_) => {
            if !live.is_blocked() {
                live.give_up("no confirm in time");
            }
            Err(PublishError::Failed("no confirm in time".to_owned()))
        }
    }
}

/// Names of what a message is about go with it, readable without its body.
pub(crate) fn properties(process: &str, kind: &str, id: String) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_app_id(process.into())
        .with_type(kind.into())
        .with_message_id(id.into())
}

/// Shared by what publishes jobs.
#[derive(Debug, Clone)]
pub(crate) struct JobSender {
    pub publisher: Publisher,
    pub process: Arc<str>,
    pub hint_limit: usize,
}

impl JobSender {
    /// Tries once more if what was missing could be declared.
    pub async fn send(&self, job: &bus::Job) -> Result<(), PublishError> {
        match self.send_once(job).await {
            Err(PublishError::Unroutable) => {
                sleep(PAUSE * 2).await;
                self.send_once(job).await
            }
            result => result,
        }
    }

    async fn send_once(&self, job: &bus::Job) -> Result<(), PublishError> {
        let body = crate::wire::encode_job(job, self.hint_limit).map_err(|e| PublishError::Failed(e.to_string()))?;
        let properties = properties(&self.process, crate::wire::kind_of(job), job.id().to_string());
        self.publisher.publish(body, properties).await
    }
}
