//! `GET /stream`.
//!
//! StackStorm's events have no ids. A client that asks for them (`ids=true`), or comes back with one (`Last-Event-ID`),
//! gets them, and with that what it missed since; if something is forgotten by then, an event `st2.stream__lost` first.

use std::sync::Arc;

use bus::Event;
use bytes::{Bytes, BytesMut};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::HEARTBEAT;
use super::filter::Filter;
use super::history::EventId;
use super::hub::{Announced, Encoded, encode};
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
    with_ids: bool,
    /// What it missed, the next one last.
    missed: Vec<(EventId, Arc<Event>)>,
    /// It has not all that it missed.
    lost: bool,
    /// Events with lower numbers are among those that it missed.
    from: u64,
}

/// Sent to who missed events that nobody knows any more.
const LOST: Bytes = Bytes::from_static(b"event: st2.stream__lost\ndata: {}\n\n");

pub async fn follow(ctx: Ctx) -> Result<Reply, ApiError> {
    let shared = &ctx.gateway;
    let events = shared.hub.subscribe(shared.limits.max_streams)?;
    let filter = Arc::new(Filter::parse(&ctx.query, ctx.only_user()));
    shared.hub.register(&filter);
    let mut client = Client {
        shared: shared.clone(),
        events,
        filter,
        greeted: false,
        ended: false,
        with_ids: ctx.query.flag("ids")?,
        missed: Vec::new(),
        lost: false,
        from: 0,
    };
    if let Some(seen) = ctx.header("last-event-id").or(ctx.query.text("last_event_id")) {
        client.go_on(seen);
    }
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
    /// Goes on after the event that the client saw last.
    fn go_on(&mut self, seen: &str) {
        self.with_ids = true;
        let history = &self.shared.hub.history;
        // What comes from now on is received; what came before is told of here.
        self.from = history.next();
        match seen.parse() {
            Ok(seen) => {
                let missed = history.after(seen);
                self.lost = !missed.complete;
                self.missed = missed.events;
                self.missed.retain(|(id, _)| id.number < self.from);
                self.missed.reverse();
            }
            Err(()) => self.lost = true,
        }
    }

    /// Bytes to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if !self.greeted {
            self.greeted = true;
            return Some(HEARTBEAT);
        }
        if std::mem::take(&mut self.lost) {
            return Some(LOST);
        }
        while let Some((id, event)) = self.missed.pop() {
            let encoded = encode(&self.shared, &event).await;
            if let Some(bytes) = self.take(id, &encoded) {
                return Some(bytes);
            }
        }
        let heartbeat = self.shared.limits.heartbeat;
        loop {
            let received = tokio::select! {
                () = self.shared.hub.stopping.cancelled() => return None,
                received = tokio::time::timeout(heartbeat, self.events.recv()) => received,
            };
            match received {
                Err(_) => return Some(HEARTBEAT),
                Ok(Ok(Announced::Event { id, .. })) if id.number < self.from => {}
                Ok(Ok(Announced::Event { id, encoded, .. })) => {
                    if let Some(bytes) = self.take(id, &encoded) {
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

    /// The frames of an event that this client wants. The id stands at the last one: who was cut off before it gets the
    /// event again as a whole.
    fn take(&mut self, id: EventId, encoded: &[Encoded]) -> Option<Bytes> {
        let mut wanted: Vec<&Bytes> = Vec::new();
        for event in encoded.iter().filter(|event| self.filter.wants(&event.meta)) {
            wanted.push(&event.frame);
            if self.filter.ends(&event.meta) {
                self.ended = true;
                break;
            }
        }
        match wanted.as_slice() {
            [] => None,
            [one] if !self.with_ids => Some((*one).clone()),
            [first @ .., last] => {
                let mut all = BytesMut::new();
                first.iter().for_each(|frame| all.extend_from_slice(frame));
                if self.with_ids {
                    all.extend_from_slice(format!("id: {id}\n").as_bytes());
                }
                all.extend_from_slice(last);
                Some(all.freeze())
            }
        }
    }
}
