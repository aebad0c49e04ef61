//! `GET /stream`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::HEARTBEAT;
use super::filter::Filter;
use super::hub::{Announced, Encoded};
use crate::context::Ctx;
use crate::http::{ApiError, Reply};

/// One client.
struct Client {
    events: Receiver<Announced>,
    filter: Filter,
    heartbeat: Duration,
    stopping: CancellationToken,
    greeted: bool,
    ended: bool,
}

pub async fn follow(ctx: Ctx) -> Result<Reply, ApiError> {
    let shared = &ctx.gateway;
    let client = Client {
        events: shared.hub.subscribe(shared.limits.max_streams)?,
        filter: Filter::parse(&ctx.query),
        heartbeat: shared.limits.heartbeat,
        stopping: shared.hub.stopping.clone(),
        greeted: false,
        ended: false,
    };
    Ok(super::reply(futures::stream::unfold(client, |mut client| async {
        let frame = client.next().await?;
        Some((frame, client))
    })))
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
        loop {
            let received = tokio::select! {
                () = self.stopping.cancelled() => return None,
                received = tokio::time::timeout(self.heartbeat, self.events.recv()) => received,
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
            if !self.filter.wants(event) {
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
            if self.filter.ends(event) {
                self.ended = true;
                break;
            }
        }
        all.map(BytesMut::freeze).or(one)
    }
}
