//! The only connection that writes, and the task that owns it.
//!
//! Group commit: what waits in the queue goes into one transaction, and one sync to disk serves all. If one of a group
//! fails, the group is rolled back and each is carried out by itself.

use std::sync::Arc;
use std::time::Duration;

use model::{Id, Timestamp};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::apply::Writing;
use super::boxes;
use super::claims::Guard;
use super::failure::Failed;
use super::lock::ProcessLock;
use super::readers::closed;
use crate::changes::Prepared;
use crate::error::StateError;
use crate::failpoint;
use crate::port::{Deletion, Delivered};
use crate::rows::{Message, TakenLaunch};
use crate::stats::Counters;

/// Most requests in one transaction.
const MAX_GROUP: usize = 128;

/// One request.
#[derive(Debug)]
pub(super) enum Work {
    Create {
        workflow: Id,
        engine: String,
        prepared: Prepared,
        held: Timestamp,
    },
    /// Of a workflow that is held until it is done, even if the caller goes away.
    Commit {
        workflow: Id,
        rev: u64,
        events: u64,
        prepared: Prepared,
        held: Timestamp,
        guard: Guard,
    },
    Deliver {
        workflow: Id,
        messages: Vec<Message>,
    },
    Take {
        now: Timestamp,
        hold: Duration,
        limit: u32,
    },
    Mark {
        workflow: Id,
        launches: Vec<Id>,
    },
    Delete {
        workflow: Id,
        rows: u32,
        _guard: Guard,
    },
    /// Proves that writes are possible.
    Probe,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// Created, or committed: whether it is new, or whether there is more.
    Yes(bool),
    Delivered(Delivered),
    Taken(Vec<TakenLaunch>),
    Deleted(Deletion),
}

/// A request and who waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub work: Work,
    pub reply: oneshot::Sender<Result<Done, StateError>>,
}

/// State of the writer task.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    requests: mpsc::Receiver<Pending>,
    /// None after a failure that may have left it in an unknown state; the next request opens another.
    connection: Option<SqliteConnection>,
    counters: Arc<Counters>,
    /// Let go last.
    _lock: ProcessLock,
}

impl Writer {
    pub const fn new(
        options: SqliteConnectOptions,
        requests: mpsc::Receiver<Pending>,
        connection: SqliteConnection,
        counters: Arc<Counters>,
        lock: ProcessLock,
    ) -> Self {
        Self { options, requests, connection: Some(connection), counters, _lock: lock }
    }

    /// Serves requests until every sender is gone, then closes the database.
    pub async fn run(mut self) {
        let mut group = Vec::with_capacity(MAX_GROUP);
        while self.requests.recv_many(&mut group, MAX_GROUP).await > 0 {
            self.serve(&mut group).await;
        }
        if let Some(mut connection) = self.connection.take() {
            let _ = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "closing the workflow state");
            }
        }
    }

    async fn serve(&mut self, group: &mut Vec<Pending>) {
        let works: Vec<&Work> = group.iter().map(|pending| &pending.work).collect();
        match self.transact(&works).await {
            Ok(done) => {
                for (pending, done) in group.drain(..).zip(done) {
                    finish(pending, Ok(done));
                }
            }
            Err(error) if group.len() == 1 => {
                for pending in group.drain(..) {
                    finish(pending, Err(error.clone()));
                }
            }
            Err(_) => {
                for pending in group.drain(..) {
                    let done = self.transact(&[&pending.work]).await;
                    finish(pending, done.and_then(|mut done| done.pop().ok_or_else(closed)));
                }
            }
        }
    }

    /// Carries requests out in one transaction.
    async fn transact(&mut self, works: &[&Work]) -> Result<Vec<Done>, StateError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(|error| StateError::from(Failed::Sql(error)))?,
        };
        let outcome = carry_out(&mut connection, &self.counters, works).await;
        let reusable = match &outcome {
            Ok(_) => true,
            // SQLite may have rolled back by itself; then this fails, harmlessly.
            Err(Failed::State(_)) => sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.is_ok(),
            Err(Failed::Sql(error)) => {
                let rolled_back = sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.is_ok();
                let full = matches!(super::failure::failure(error), StateError::Full(_));
                if full {
                    // What is in the log can be moved to the database, and the log's own space be used again.
                    let _ = sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await;
                }
                rolled_back
            }
        };
        if reusable {
            self.connection = Some(connection);
        } else if let Err(error) = connection.close().await {
            tracing::debug!(%error, "closing a connection after a failure");
        }
        outcome.map_err(StateError::from)
    }
}

async fn carry_out(
    connection: &mut SqliteConnection,
    counters: &Counters,
    works: &[&Work],
) -> Result<Vec<Done>, Failed> {
    counters.statement();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let mut done = Vec::with_capacity(works.len());
    let mut commits = false;
    for work in works {
        commits |= matches!(work, Work::Commit { .. });
        done.push(one(connection, counters, work).await?);
    }
    if commits {
        failpoint::hit(failpoint::BEFORE_COMMIT);
    }
    counters.statement();
    sqlx::query("COMMIT").execute(connection).await?;
    if commits {
        failpoint::hit(failpoint::COMMITTED);
    }
    Ok(done)
}

async fn one(connection: &mut SqliteConnection, counters: &Counters, work: &Work) -> Result<Done, Failed> {
    match work {
        Work::Create { workflow, engine, prepared, held } => {
            let mut writing = Writing { connection, counters, workflow: *workflow };
            let new = writing.insert_head(engine, &prepared.changes).await?;
            if new {
                writing.rows(prepared, 1, 0, *held).await?;
            }
            Ok(Done::Yes(new))
        }
        Work::Commit { workflow, rev, events, prepared, held, .. } => {
            let mut writing = Writing { connection: &mut *connection, counters, workflow: *workflow };
            writing.update_head(*rev, &prepared.changes).await?;
            writing.rows(prepared, rev + 1, *events, *held).await?;
            Ok(Done::Yes(true))
        }
        Work::Deliver { workflow, messages } => {
            boxes::deliver(connection, counters, *workflow, messages).await.map(Done::Delivered)
        }
        Work::Take { now, hold, limit } => {
            boxes::take_launches(connection, counters, *now, *hold, *limit).await.map(Done::Taken)
        }
        Work::Mark { workflow, launches } => {
            boxes::mark_launched(connection, counters, *workflow, launches).await.map(|()| Done::Yes(true))
        }
        Work::Delete { workflow, rows, .. } => {
            boxes::delete(connection, counters, *workflow, *rows).await.map(Done::Deleted)
        }
        Work::Probe => {
            counters.statement();
            sqlx::query("UPDATE workflow_format SET format = format").execute(connection).await?;
            Ok(Done::Yes(true))
        }
    }
}

/// Lets the workflow go, then answers. A caller that went away doesn't want to know.
fn finish(pending: Pending, done: Result<Done, StateError>) {
    let Pending { work, reply } = pending;
    match work {
        Work::Commit { mut guard, .. } => guard.quiet = done.is_ok(),
        Work::Delete { mut _guard, .. } => _guard.quiet = true,
        _ => {}
    }
    let _ = reply.send(done);
}
