//! `GET /executions/{id}/output` of the stream service: stored output, then live output, without gap or repetition.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bus::Event;
use bytes::Bytes;
use model::{Execution, Id, OutputChunk, Status};
use store::{Cond, Order, Query as Find, StoreExt};
use tokio::sync::broadcast::Receiver;

use super::hub::Announced;
use super::{HEARTBEAT, OUTPUT_CREATED, frame};
use crate::api::executions;
use crate::context::Ctx;
use crate::gateway::Shared;
use crate::http::{ApiError, Reply};

/// Chunks that are read at a time.
const PAGE: u64 = 200;

/// A chunk's frame.
pub fn chunk_frame(chunk: &OutputChunk) -> Bytes {
    let mut body = model::resource::to_object(chunk);
    body.remove("seq");
    frame(OUTPUT_CREATED, &serde_json::Value::Object(body).to_string())
}

/// No more output comes: completed, or a workflow that pauses.
const fn is_over(status: Status) -> bool {
    status.is_completed() || matches!(status, Status::Paused | Status::Pausing | Status::Resuming)
}

enum Phase {
    /// Reading what is stored; `last` when the execution was over before this began.
    Replay {
        offset: u64,
        last: bool,
    },
    Live,
    End,
    Done,
}

/// One client.
struct Follower {
    shared: Arc<Shared>,
    execution: Id,
    output_type: Option<String>,
    events: Receiver<Announced>,
    sent: HashSet<Id>,
    pending: VecDeque<Bytes>,
    phase: Phase,
}

pub async fn follow(ctx: Ctx) -> Result<Reply, ApiError> {
    // Subscribed before anything is read: what happens meanwhile is heard of twice, not missed.
    let events = ctx.gateway.hub.subscribe(ctx.gateway.limits.max_streams)?;
    let execution = executions::find(&ctx, ctx.params.get("id")).await?;
    ctx.require_execution("execution_view", &execution)?;
    let follower = Follower {
        shared: ctx.gateway.clone(),
        execution: execution.id,
        output_type: ctx.query.text("output_type").filter(|kind| *kind != "all").map(str::to_owned),
        events,
        sent: HashSet::new(),
        pending: VecDeque::new(),
        phase: Phase::Replay { offset: 0, last: is_over(execution.status) },
    };
    Ok(super::reply(futures::stream::unfold(follower, |mut follower| async {
        let frame = follower.next().await?;
        Some((frame, follower))
    })))
}

impl Follower {
    /// Bytes to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            match self.phase {
                Phase::Replay { offset, last } => self.replay(offset, last).await?,
                Phase::Live => self.live().await?,
                Phase::End => {
                    self.pending.push_back(frame("EOF", "''"));
                    self.phase = Phase::Done;
                }
                Phase::Done => return None,
            }
        }
    }

    /// The next page of stored chunks. `None` when the store failed: the client asks again.
    async fn replay(&mut self, offset: u64, last: bool) -> Option<()> {
        let find = stored(self.execution, self.output_type.as_deref()).limit(PAGE).offset(offset);
        let chunks = match self.shared.services.store.search::<OutputChunk>(&find).await {
            Ok(chunks) => chunks,
            Err(error) => {
                tracing::warn!(execution = %self.execution, %error, "output can't be read");
                return None;
            }
        };
        for chunk in &chunks {
            self.take(chunk);
        }
        self.phase = if chunks.len() as u64 == PAGE {
            Phase::Replay { offset: offset + PAGE, last }
        } else if last {
            Phase::End
        } else {
            Phase::Live
        };
        Some(())
    }

    fn take(&mut self, chunk: &OutputChunk) {
        if self.sent.insert(chunk.id) {
            self.pending.push_back(chunk_frame(chunk));
        }
    }

    async fn live(&mut self) -> Option<()> {
        let heartbeat = self.shared.limits.heartbeat;
        let received = tokio::select! {
            () = self.shared.hub.stopping.cancelled() => return None,
            received = tokio::time::timeout(heartbeat, self.events.recv()) => received,
        };
        match received {
            Ok(Ok(Announced::Event { event, .. })) => match event.as_ref() {
                Event::Output(chunk) if chunk.execution_id == self.execution => {
                    let wanted = self.output_type.as_deref().is_none_or(|kind| kind == chunk.output_type.as_str());
                    if wanted {
                        self.take(chunk);
                    }
                }
                Event::Execution(_, execution) if execution.id == self.execution && is_over(execution.status) => {
                    self.phase = Phase::Replay { offset: 0, last: true };
                }
                _ => {}
            },
            // Whatever was not heard of is in the store.
            Ok(Ok(Announced::Lost) | Err(_)) => self.look_again().await?,
            Err(_) => {
                self.pending.push_back(HEARTBEAT);
                self.look_again().await?;
            }
        }
        Some(())
    }

    /// Reads the execution and its output anew.
    async fn look_again(&mut self) -> Option<()> {
        let found = self.shared.services.store.read::<Execution>(self.execution).await.ok()?;
        let last = found.is_none_or(|execution| is_over(execution.status));
        self.phase = Phase::Replay { offset: 0, last };
        Some(())
    }
}

/// Stored chunks of an execution in their order.
pub fn stored(execution: Id, output_type: Option<&str>) -> Find {
    let find = Find::eq("execution_id", execution).order(Order::Asc("seq"));
    match output_type {
        Some(kind) => find.and(Cond::Eq("output_type", kind.into())),
        None => find,
    }
}
