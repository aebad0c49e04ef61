//! One subscription to the bus for all stream clients: each event is encoded once, then fanned out.

use std::collections::HashMap;
use std::sync::Arc;

use bus::{Change, Event, Received, Topic};
use bytes::Bytes;
use domain::view::{self, ViewOptions};
use model::{Execution, Id};
use parking_lot::RwLock;
use serde_json::{Value, json};
use store::StoreExt;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::gateway::Shared;
use crate::http::ApiError;

use super::filter::Filter;
use super::history::{EventId, History};
use super::{OUTPUT_CREATED, frame};

/// What kind of resource an encoded event is about, for filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Execution,
    Liveaction,
    Output,
    Other,
}

/// What filters see of an event.
#[derive(Debug, Clone)]
pub struct Meta {
    pub name: String,
    pub about: About,
    /// Absent on events without action.
    pub action: Option<String>,
    /// Id of the execution, or of the execution that output is of; a liveaction's own.
    pub id: Option<Id>,
    pub completed: bool,
    /// Whose execution it is about; none where it is about none, or that isn't known.
    pub user: Option<String>,
}

/// One event as the stream shows it.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub meta: Meta,
    pub frame: Bytes,
}

/// What stream clients receive.
#[derive(Debug, Clone)]
pub enum Announced {
    /// An event with those of its encodings that somebody wants, in the order in which they are sent.
    Event { id: EventId, event: Arc<Event>, encoded: Arc<[Encoded]> },
    /// Events were lost on the way: clients are cut off, so that they read anew what they follow.
    Lost,
}

/// Where clients subscribe.
#[derive(Debug)]
pub struct Hub {
    sender: broadcast::Sender<Announced>,
    /// Of the clients that take encoded events: what none of them wants is not encoded.
    filters: RwLock<Vec<Arc<Filter>>>,
    /// Execution → user, for output.
    owners: RwLock<HashMap<Id, String>>,
    pub(super) history: History,
    pub(super) stopping: CancellationToken,
}

/// Executions whose users are remembered.
const OWNERS: usize = 10_000;

impl Hub {
    pub fn new(backlog: usize) -> Self {
        Self {
            sender: broadcast::Sender::new(backlog.max(16)),
            filters: RwLock::default(),
            owners: RwLock::default(),
            history: History::default(),
            stopping: CancellationToken::new(),
        }
    }

    /// Events from now on.
    pub fn subscribe(&self, max_clients: usize) -> Result<broadcast::Receiver<Announced>, ApiError> {
        if self.sender.receiver_count() >= max_clients {
            return Err(ApiError::unavailable(format!("{max_clients} clients follow the stream already (the limit).")));
        }
        Ok(self.sender.subscribe())
    }

    /// Has what this filter lets through encoded, until [`Hub::unregister`].
    pub(super) fn register(&self, filter: &Arc<Filter>) {
        self.filters.write().push(filter.clone());
    }

    pub(super) fn unregister(&self, filter: &Arc<Filter>) {
        self.filters.write().retain(|other| !Arc::ptr_eq(other, filter));
    }

    /// The user of the execution that output is of; asked only while somebody sees no more than what is his own.
    async fn owner_of(&self, shared: &Shared, execution: Id) -> Option<String> {
        if !self.filters.read().iter().any(|filter| filter.is_isolated()) {
            return None;
        }
        if let Some(user) = self.owners.read().get(&execution) {
            return Some(user.clone());
        }
        // Unknown is nobody's: output is not shown then, and the next chunk asks again.
        let found = shared.services.store.read::<Execution>(execution).await.ok()??;
        let user = found.user().unwrap_or_default().to_owned();
        let mut owners = self.owners.write();
        if owners.len() >= OWNERS {
            owners.clear();
        }
        owners.insert(execution, user.clone());
        Some(user)
    }

    fn is_wanted(&self, meta: &Meta) -> bool {
        self.filters.read().iter().any(|filter| filter.wants(meta))
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
                shared.forget_roles();
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
        if matches!(collection.as_str(), "roles" | "role_assignments") {
            shared.forget_roles();
        }
        return;
    }
    if matches!(event.as_ref(), Event::Cancel { .. }) {
        return;
    }
    let id = shared.hub.history.push(&event, shared.services.now());
    if shared.hub.sender.receiver_count() == 0 {
        return;
    }
    let encoded = encode(shared, &event).await;
    // Nobody listening is fine.
    drop(shared.hub.sender.send(Announced::Event { id, event, encoded: encoded.into() }));
}

const fn suffix(change: Change) -> &'static str {
    match change {
        Change::Create => "create",
        Change::Update => "update",
        Change::Delete => "delete",
    }
}

/// The encodings that somebody wants.
pub(super) async fn encode(shared: &Shared, event: &Event) -> Vec<Encoded> {
    match event {
        Event::Execution(change, execution) => encode_execution(shared, *change, execution).await,
        Event::Output(chunk) => {
            let meta = Meta {
                name: OUTPUT_CREATED.to_owned(),
                about: About::Output,
                action: Some(chunk.action_ref.clone()),
                id: Some(chunk.execution_id),
                completed: false,
                user: shared.hub.owner_of(shared, chunk.execution_id).await,
            };
            wanted(shared, meta, || super::output::chunk_frame(chunk))
        }
        Event::Announcement { route, payload, trace_context } => other(
            shared,
            format!("st2.announcement__{route}"),
            || json!({"payload": payload, "trace_context": trace_context}),
        ),
        Event::Alias(change, alias) => {
            other(shared, format!("st2.actionalias__{}", suffix(*change)), || Value::Object(alias.to_api()))
        }
        Event::Content { .. } | Event::Cancel { .. } => Vec::new(),
    }
}

fn wanted(shared: &Shared, meta: Meta, frame: impl FnOnce() -> Bytes) -> Vec<Encoded> {
    if shared.hub.is_wanted(&meta) { vec![Encoded { meta, frame: frame() }] } else { Vec::new() }
}

fn other(shared: &Shared, name: String, body: impl FnOnce() -> Value) -> Vec<Encoded> {
    let meta = Meta { name: name.clone(), about: About::Other, action: None, id: None, completed: false, user: None };
    wanted(shared, meta, || frame(&name, &body().to_string()))
}

/// The liveaction's event, then the execution's.
async fn encode_execution(shared: &Shared, change: Change, execution: &Execution) -> Vec<Encoded> {
    let services = &shared.services;
    let options = ViewOptions { fresh: change == Change::Create, ..ViewOptions::default() };
    let mut encoded = Vec::new();
    for (kind, about, id) in
        [("liveaction", About::Liveaction, execution.liveaction_id), ("execution", About::Execution, execution.id)]
    {
        let name = format!("st2.{kind}__{}", suffix(change));
        let completed = execution.status.is_completed();
        let user = execution.user().map(str::to_owned);
        let meta = Meta { name, about, action: Some(execution.action.clone()), id: Some(id), completed, user };
        if !shared.hub.is_wanted(&meta) {
            continue;
        }
        let body = match about {
            About::Liveaction => view::liveaction(services, execution).await,
            _ => view::execution(services, execution, options).await,
        };
        match body {
            Ok(body) => {
                let frame = frame(&meta.name, &Value::Object(body).to_string());
                encoded.push(Encoded { meta, frame });
            }
            Err(error) => {
                tracing::warn!(execution = %execution.id, %error, "an event could not be shown on the stream");
            }
        }
    }
    encoded
}
