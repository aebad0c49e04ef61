//! `GET /stream`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::HEARTBEAT;
use super::filter::Filter;
use super::hub::{Announced, Encoded};
use crate::context::Ctx;
use crate::gateway::Shared;
use crate::http::{ApiError, Reply};

/// One client.
struct Client {
    shared: Arc<Shared>,
    events: Receiver<Announced>,
    filter: Arc<Filter>,
    greeted: bool,
    ended: bool,
}

pub async fn follow(ctx: Ctx) -> Result<Reply, ApiError> {
    let shared = &ctx.gateway;
    let events = shared.hub.subscribe(shared.limits.max_streams)?;
    let filter = Arc::new(Filter::parse(&ctx.query, ctx.only_user()));
    shared.hub.register(&filter);
    let client = Client { shared: shared.clone(), events, filter, greeted: false, ended: false };
    Ok(super::reply(futures::stream::unfold(client, |mut client| async {
        let frame = client.next().await?;
        Some((frame, client))
    })))
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.hub.unregister(&self.filter);
    }
}

impl Client {
    /// Bytes to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if !self.greeted {
            self.greeted = true;
            return Some(HEARTBEAT);
        }
        let heartbeat = self.shared.limits.heartbeat;
        loop {
            let received = tokio::select! {
                () = self.shared.hub.stopping.cancelled() => return None,
                received = tokio::time::timeout(heartbeat, self.events.recv()) => received,
            };
            match received {
                Err(_) => return Some(HEARTBEAT),
                Ok(Ok(Announced::Event { encoded, .. })) => {
                    if let Some(bytes) = self.take(&encoded) {
                        return Some(bytes);
                    }
                }
                Ok(Ok(Announced::Lost)) => return None,
                Ok(Err(RecvError::Lagged(count))) => {
                    tracing::info!(count, "a stream client that can't keep up is cut off");
                    return None;
                }
                Ok(Err(RecvError::Closed)) => return None,
            }
        }
    }

    /// The frames of an event that this client wants.
    fn take(&mut self, encoded: &[Encoded]) -> Option<Bytes> {
        let mut all: Option<BytesMut> = None;
        let mut one: Option<Bytes> = None;
        for event in encoded {
            if !self.filter.wants(&event.meta) {
                continue;
            }
            match (&mut all, one.take()) {
                (Some(all), _) => all.extend_from_slice(&event.frame),
                (None, Some(first)) => {
                    let mut both = BytesMut::from(&first[..]);
                    both.extend_from_slice(&event.frame);
                    all = Some(both);
                }
                (None, None) => one = Some(event.frame.clone()),
            }
            if self.filter.ends(&event.meta) {
                self.ended = true;
                break;
            }
        }
        all.map(BytesMut::freeze).or(one)
    }
}
