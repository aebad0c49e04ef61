//! Telling the broker what became of its messages, in order, by one task.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{Acker, Channel};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// For writing one acknowledgement; a dead connection is found out by others.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged.
    Done,
    /// To be delivered again, which the broker counts.
    Again,
}

#[derive(Debug)]
enum Command {
    Settle(Acker, Arc<Channel>, Fate),
    Flush(oneshot::Sender<()>),
}

/// The handle. Its queue is as long as there may be jobs in hand.
#[derive(Debug, Clone)]
pub(crate) struct Settler(mpsc::UnboundedSender<Command>);

impl Settler {
    /// The handle, and what does its work until all handles are gone.
    pub fn new() -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), run(receiver))
    }

    /// The channel stays open until it is done.
    pub fn settle(&self, acker: Acker, channel: Arc<Channel>, fate: Fate) {
        // Without a receiver the bus is closed and the connection with it: the message comes again.
        let _ = self.0.send(Command::Settle(acker, channel, fate));
    }

    /// Returns once everything before it was told.
    pub async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.0.send(Command::Flush(sender)).is_ok() {
            let _ = receiver.await;
        }
    }
}

async fn run(mut commands: mpsc::UnboundedReceiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Settle(acker, channel, fate) => {
                let telling = async {
                    match fate {
                        Fate::Done => acker.ack(BasicAckOptions::default()).await,
                        Fate::Again => acker.nack(BasicNackOptions { requeue: true, multiple: false }).await,
                    }
                };
                match timeout(LIMIT, telling).await {
                    Ok(Ok(_)) => {}
                    // On a dead channel: the broker delivers it again.
                    Ok(Err(error)) => tracing::debug!(%error, ?fate, "the broker could not be told"),
                    Err(_) => tracing::debug!(?fate, "the broker could not be told in time"),
                }
                drop(channel);
            }
            Command::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}
