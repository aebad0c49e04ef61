//! How many messages wait in the broker's queues: asked seldom, answered often.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::link::Link;

/// An answer this old is good enough.
const FRESH: Duration = Duration::from_millis(150);
const LIMIT: Duration = Duration::from_secs(1);

/// The count of one queue.
#[derive(Debug)]
pub(crate) struct Count {
    queue: String,
    link: Link,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last answer, or why there was none.
    known: Option<(Instant, Result<usize, Arc<str>>)>,
    channel: Option<(u64, Channel)>,
}

impl Count {
    pub fn new(queue: String, link: Link) -> Self {
        Self { queue, link, state: Mutex::default() }
    }

    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Messages that wait there; those that were sent to consumers don't.
    pub async fn get(&self) -> Result<usize, Arc<str>> {
        // Callers that come at the same time share one question.
        let mut state = self.state.lock().await;
        if let Some((at, answer)) = &state.known
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = self.ask(&mut state).await;
        state.known = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn ask(&self, state: &mut State) -> Result<usize, Arc<str>> {
        let live = self.link.now()?;
        let asking = async {
            let channel = match state.channel.take() {
                Some((number, channel)) if number == live.number && channel.status().connected() => channel,
                _ => live.connection.create_channel().await?,
            };
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = channel.queue_declare(self.queue.as_str().into(), passive, FieldTable::default()).await?;
            Ok::<_, lapin::Error>((channel, queue.message_count()))
        };
        match timeout(LIMIT, asking).await {
            Ok(Ok((channel, count))) => {
                state.channel = Some((live.number, channel));
                Ok(usize::try_from(count).unwrap_or(usize::MAX))
            }
            Ok(Err(error)) => {
                live.redeclare();
                Err(error.to_string().into())
            }
            Err(_) => Err("no answer".into()),
        }
    }
}
