//! One subscription to the bus for all stream clients: each event is encoded once, then fanned out.

use std::sync::Arc;

use bus::{Change, Event, Received, Topic};
use bytes::Bytes;
use domain::view::{self, ViewOptions};
use model::{Execution, Id};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::gateway::Shared;
use crate::http::ApiError;

use super::frame;

/// What kind of resource an encoded event is about, for filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Execution,
    Liveaction,
    Output,
    Other,
}

/// One event as the stream shows it.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub name: String,
    pub about: About,
    /// Absent on events without action.
    pub action: Option<String>,
    /// Id of the execution, or of the execution that output is of; a liveaction's own.
    pub id: Option<Id>,
    pub completed: bool,
    pub frame: Bytes,
}

/// What stream clients receive.
#[derive(Debug, Clone)]
pub enum Announced {
    /// An event with its encodings, in the order in which they are sent.
    Event { event: Arc<Event>, encoded: Arc<[Encoded]> },
    /// Events were lost on the way: clients are cut off, so that they read anew what they follow.
    Lost,
}

/// Where clients subscribe.
#[derive(Debug)]
pub struct Hub {
    sender: broadcast::Sender<Announced>,
    pub(super) stopping: CancellationToken,
}

impl Hub {
    pub fn new(backlog: usize) -> Self {
        Self { sender: broadcast::Sender::new(backlog.max(16)), stopping: CancellationToken::new() }
    }

    /// Events from now on.
    pub fn subscribe(&self, max_clients: usize) -> Result<broadcast::Receiver<Announced>, ApiError> {
        if self.sender.receiver_count() >= max_clients {
            return Err(ApiError::unavailable(format!("{max_clients} clients follow the stream already (the limit).")));
        }
        Ok(self.sender.subscribe())
    }
}

/// Carries events from the bus to the clients until `cancel`.
pub async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let topics = [Topic::Execution, Topic::Output, Topic::Announcement, Topic::Alias, Topic::Content];
    let mut events = shared.services.bus.subscribe(&topics);
    loop {
        let received = tokio::select! {
            () = cancel.cancelled() => break,
            received = events.next() => received,
        };
        match received {
            None => break,
            Some(Received::Lost(count)) => {
                tracing::warn!(count, "the event stream lost events: its clients are cut off");
                shared.forget_credentials();
                // Nobody listening is fine.
                drop(shared.hub.sender.send(Announced::Lost));
            }
            Some(Received::Event(event)) => carry(&shared, event).await,
        }
    }
    shared.hub.stopping.cancel();
}

async fn carry(shared: &Shared, event: Arc<Event>) {
    if let Event::Content { collection, .. } = event.as_ref() {
        if matches!(collection.as_str(), "tokens" | "api_keys" | "users") {
            shared.forget_credentials();
        }
        return;
    }
    if shared.hub.sender.receiver_count() == 0 {
        return;
    }
    let encoded = encode(shared, &event).await;
    // Nobody listening is fine.
    drop(shared.hub.sender.send(Announced::Event { event, encoded: encoded.into() }));
}

const fn suffix(change: Change) -> &'static str {
    match change {
        Change::Create => "create",
        Change::Update => "update",
        Change::Delete => "delete",
    }
}

async fn encode(shared: &Shared, event: &Event) -> Vec<Encoded> {
    match event {
        Event::Execution(change, execution) => encode_execution(shared, *change, execution).await,
        Event::Output(chunk) => {
            let name = "st2.execution.output__create";
            vec![Encoded {
                name: name.to_owned(),
                about: About::Output,
                action: Some(chunk.action_ref.clone()),
                id: Some(chunk.execution_id),
                completed: false,
                frame: super::output::chunk_frame(chunk),
            }]
        }
        Event::Announcement { route, payload, trace_context } => {
            let body = json!({"payload": payload, "trace_context": trace_context});
            vec![other(format!("st2.announcement__{route}"), &body)]
        }
        Event::Alias(change, alias) => {
            let name = format!("st2.actionalias__{}", suffix(*change));
            vec![other(name, &Value::Object(alias.to_api()))]
        }
        Event::Content { .. } | Event::Cancel { .. } => Vec::new(),
    }
}

fn other(name: String, body: &Value) -> Encoded {
    let frame = frame(&name, &body.to_string());
    Encoded { name, about: About::Other, action: None, id: None, completed: false, frame }
}

/// The liveaction's event, then the execution's.
async fn encode_execution(shared: &Shared, change: Change, execution: &Execution) -> Vec<Encoded> {
    let services = &shared.services;
    let options = ViewOptions { fresh: change == Change::Create, ..ViewOptions::default() };
    let bodies = tokio::try_join!(view::liveaction(services, execution), view::execution(services, execution, options));
    let (live, full) = match bodies {
        Ok(bodies) => bodies,
        Err(error) => {
            tracing::warn!(execution = %execution.id, %error, "an event could not be shown on the stream");
            return Vec::new();
        }
    };
    let parts = [
        ("liveaction", About::Liveaction, execution.liveaction_id, live),
        ("execution", About::Execution, execution.id, full),
    ];
    parts
        .into_iter()
        .map(|(kind, about, id, body)| {
            let name = format!("st2.{kind}__{}", suffix(change));
            let frame = frame(&name, &Value::Object(body).to_string());
            let completed = execution.status.is_completed();
            Encoded { name, about, action: Some(execution.action.clone()), id: Some(id), completed, frame }
        })
        .collect()
}
