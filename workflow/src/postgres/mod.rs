//! The adapter for a cluster: PostgreSQL through sqlx.
//!
//! * A [`Drain`](crate::Drain) is an open transaction that holds the head's row lock ([`claim`], [`drain`]): it ends
//!   with its connection, whatever becomes of the node.
//! * Rows are written by one statement per kind, however many ([`apply`]), and read one page at a time ([`select`]).
//! * Few connections, given out by [`pool`]; conflicts and lost connections are repeated within the call's deadline.
//! * Nodes wake each other by NOTIFY ([`listen`]).
//! * The tables lie in a schema of their own, made by [`migrate`].

mod apply;
mod boxes;
mod claim;
mod drain;
mod failure;
mod listen;
mod migrate;
mod options;
mod pool;
#[path = "../common/select.rs"]
mod select;

/// What the shared SQL runs on.
mod driver {
    pub use sqlx::PgConnection as Connection;
    pub use sqlx::Postgres as Database;
    pub use sqlx::postgres::{PgArguments as Arguments, PgRow as Row};

    /// Items by numbers, given as a JSON array.
    pub const SOME_ITEMS: &str = "SELECT task, item, status, body FROM items WHERE workflow = $1 AND task = $2
        AND item = ANY(ARRAY(SELECT value::bigint FROM json_array_elements_text($3::text::json))) ORDER BY item";
}

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{Id, Timestamp};
use parking_lot::Mutex;
use sqlx::Row as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::changes::Creation;
use crate::error::{OpenError, StateError};
use crate::failpoint;
use crate::limits;
use crate::port::{Claim, Claimed, Created, Deletion, Delivered, WorkflowState};
use crate::rows::{Head, HeadQuery, Message, Received, TakenLaunch, Task};
use crate::stats::Stats;
use crate::wake::Wakes;
use apply::Writing;
use claim::Found;
use drain::{Abandoned, PostgresDrain};
use failure::Failed;
use listen::Doorbell;
pub use migrate::FORMAT;
pub use options::{PostgresOptions, TlsOptions};
use pool::{Lease, Pool};

/// The [`WorkflowState`] on PostgreSQL. Stop it with [`WorkflowState::close`].
#[derive(Debug)]
pub struct PostgresState {
    pool: Arc<Pool>,
    bell: Arc<Doorbell>,
    abandoned: mpsc::UnboundedSender<Abandoned>,
    /// Where the search for workflows with messages goes on, so that none starves.
    cursor: Mutex<String>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl PostgresState {
    /// Connects, makes or extends the tables, and starts to listen on the current runtime.
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let connect = options.connect_options()?;
        let pool = Pool::new(&options, connect.clone());
        let late = || OpenError::State(pool.late());
        // Migrating may wait for another node that migrates, and may take its time.
        let patience = options.timeout * 3;
        let migrated = async {
            let mut connection = pool.connect().await.map_err(|error| StateError::from(Failed::Sql(error)))?;
            migrate::migrate(&mut connection, &options).await
        };
        timeout(patience, migrated).await.map_err(|_| late())??;
        let bell = Arc::new(Doorbell::default());
        let (abandoned, reaped) = mpsc::unbounded_channel();
        let node = Id::fresh(Timestamp::default()).to_string();
        let tasks = vec![
            tokio::spawn(Arc::clone(&bell).announce(Arc::clone(&pool), options.channel(), node.clone())),
            tokio::spawn(Arc::clone(&bell).hear(connect, options.channel(), node)),
            tokio::spawn(reap(reaped, Arc::clone(&bell))),
        ];
        Ok(Self { pool, bell, abandoned, cursor: Mutex::new(String::new()), tasks: Mutex::new(tasks) })
    }

    async fn read<T, F, S>(&self, step: F) -> Result<T, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, T), Failed>> + Send,
    {
        self.pool.call(step).await
    }

    /// Runs a search in a transaction, which stays open if it locked something.
    async fn search<F, S>(&self, step: F) -> Result<Result<Claimed, Found>, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, Found), Failed>> + Send,
    {
        let other = Mutex::new(Found::Nothing);
        let (step, note) = (&step, &other);
        let locked = self
            .pool
            .begin(0, |lease| async move {
                let (lease, found) = step(lease).await?;
                match found {
                    Found::Locked(locked) => Ok((lease, Some(locked))),
                    found => {
                        *note.lock() = found;
                        Ok((lease, None))
                    }
                }
            })
            .await?;
        let Some((lease, locked)) = locked else { return Ok(Err(other.into_inner())) };
        failpoint::hit(failpoint::DRAIN_LOADED);
        let drain = PostgresDrain::new(*locked, lease, Arc::clone(&self.bell), self.abandoned.clone());
        Ok(Ok(Claimed::Drain(Box::new(drain))))
    }

    async fn claim_one(&self, workflow: Id, claim: &Claim) -> Result<Claimed, StateError> {
        let counters = &self.pool.counters;
        loop {
            let found = self
                .search(|mut lease| async move {
                    let found = claim::one(lease.connection()?, counters, workflow, claim).await?;
                    Ok((lease, found))
                })
                .await?;
            let found = match found {
                Ok(drain) => return Ok(drain),
                Err(found) => found,
            };
            let idle = self.inbox(workflow, 1).await?.is_empty() && {
                let (now, limit) = (claim.now, 1);
                read!(self, due_timers(workflow, now, limit))?.is_empty()
            };
            match found {
                _ if idle => return Ok(Claimed::Idle),
                // It came just now.
                Found::Empty(_) => {}
                _ => return Ok(Claimed::Busy),
            }
        }
    }

    async fn claim_next(&self, claim: &Claim) -> Result<Claimed, StateError> {
        let counters = &self.pool.counters;
        loop {
            let anything = self
                .read(|mut lease: Lease| async move {
                    let anything = claim::anything(&mut lease.reading()?, claim).await?;
                    Ok((lease, anything))
                })
                .await?;
            if !anything {
                return Ok(Claimed::Idle);
            }
            let after = &self.cursor.lock().clone();
            let found = self
                .search(|mut lease| async move {
                    let found = claim::next(lease.connection()?, counters, after, claim).await?;
                    Ok((lease, found))
                })
                .await?;
            match found {
                Ok(Claimed::Drain(drain)) => {
                    *self.cursor.lock() = drain.state().id.to_string();
                    return Ok(Claimed::Drain(drain));
                }
                // Others were quicker; there may be more, further on.
                Err(Found::Empty(workflow)) => {
                    self.look_again(workflow).await?;
                    *self.cursor.lock() = workflow.to_string();
                }
                _ => return Ok(Claimed::Idle),
            }
        }
    }

    /// Rings for messages that came to a workflow while it was locked in vain.
    async fn look_again(&self, workflow: Id) -> Result<(), StateError> {
        if !self.inbox(workflow, 1).await?.is_empty() {
            self.bell.ring();
        }
        Ok(())
    }
}

/// Ends the transactions of drains that were dropped, and tells that their workflows are free.
async fn reap(mut abandoned: mpsc::UnboundedReceiver<Abandoned>, bell: Arc<Doorbell>) {
    while let Some(one) = abandoned.recv().await {
        one.let_go().await;
        bell.ring();
    }
}

impl Drop for PostgresState {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

#[async_trait]
impl WorkflowState for PostgresState {
    async fn create(&self, creation: Creation, hold: Duration) -> Result<Created, StateError> {
        limits::name("the name of an engine", &creation.engine)?;
        let Creation { id, engine, changes } = creation;
        if !changes.used.is_empty() {
            return Err(StateError::Misuse("a new workflow has no messages to use".to_owned()));
        }
        let held = changes.at.plus(hold);
        let (engine, prepared) = (&engine, &changes.prepare().await?);
        let counters = &self.pool.counters;
        let done = self
            .pool
            .begin(prepared.bytes, |mut lease| async move {
                let mut writing = Writing { connection: lease.connection()?, counters, workflow: id };
                if !writing.insert_head(engine, &prepared.changes).await? {
                    return Ok((lease, None));
                }
                writing.rows(prepared, 1, 0, held).await?;
                counters.statement();
                sqlx::raw_sql("COMMIT").execute(&mut *writing.connection).await?;
                Ok((lease, Some(())))
            })
            .await?;
        let Some((lease, ())) = done else { return Ok(Created::Present) };
        lease.give_back();
        self.bell.ring();
        Ok(Created::New)
    }

    async fn deliver(&self, workflow: Id, messages: &[Message]) -> Result<Delivered, StateError> {
        limits::check("a delivery", messages.len(), limits::MAX_COMMIT_ROWS, "messages")?;
        for message in messages {
            limits::name("the kind of a message", &message.kind)?;
            limits::body("the body of a message", &message.body)?;
            limits::no_nul("the body of a message", &message.body)?;
        }
        let counters = &self.pool.counters;
        let delivered = self
            .pool
            .call(|mut lease| async move {
                let done = boxes::deliver(lease.connection()?, counters, workflow, messages).await?;
                Ok((lease, done))
            })
            .await?;
        failpoint::hit(failpoint::INBOX_INSERTED);
        if matches!(&delivered, Delivered::Known(new) if new.contains(&true)) {
            self.bell.ring();
        }
        Ok(delivered)
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, StateError> {
        match claim.workflow {
            Some(workflow) => self.claim_one(workflow, claim).await,
            None => self.claim_next(claim).await,
        }
    }

    async fn take_launches(&self, now: Timestamp, hold: Duration, limit: u32) -> Result<Vec<TakenLaunch>, StateError> {
        let counters = &self.pool.counters;
        self.pool
            .call(|mut lease| async move {
                let done = boxes::take_launches(lease.connection()?, counters, now, hold, limit).await?;
                Ok((lease, done))
            })
            .await
    }

    async fn mark_launched(&self, workflow: Id, launches: &[Id]) -> Result<(), StateError> {
        if launches.is_empty() {
            return Ok(());
        }
        failpoint::hit(failpoint::LAUNCHED);
        let counters = &self.pool.counters;
        self.pool
            .call(|mut lease| async move {
                let done = boxes::mark_launched(lease.connection()?, counters, workflow, launches).await?;
                Ok((lease, done))
            })
            .await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StateError> {
        read!(self, next_due())
    }

    async fn heads(&self, query: &HeadQuery) -> Result<Vec<Head>, StateError> {
        read!(self, heads(query))
    }

    async fn head_of_execution(&self, execution: Id) -> Result<Option<Head>, StateError> {
        read!(self, head_of_execution(execution))
    }

    async fn task_by_id(&self, id: Id) -> Result<Option<(Id, Task)>, StateError> {
        read!(self, task_by_id(id))
    }

    async fn inbox(&self, workflow: Id, limit: u32) -> Result<Vec<Received>, StateError> {
        read!(self, inbox(workflow, select::page(limit)))
    }

    async fn outbox(&self, workflow: Id, limit: u32) -> Result<Vec<TakenLaunch>, StateError> {
        read!(self, outbox(workflow, limit))
    }

    async fn delete(&self, workflow: Id, rows: u32) -> Result<Deletion, StateError> {
        let counters = &self.pool.counters;
        self.pool
            .call(|mut lease| async move {
                let connection = lease.connection()?;
                sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
                let deletion = boxes::delete(connection, counters, workflow, rows).await?;
                sqlx::raw_sql("COMMIT").execute(connection).await?;
                Ok((lease, deletion))
            })
            .await
    }

    async fn time(&self) -> Result<Timestamp, StateError> {
        self.pool
            .call(|mut lease| async move {
                let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
                let row = sqlx::query(sql).fetch_one(lease.connection()?).await?;
                Ok((lease, Timestamp::from_micros(row.try_get(0)?)))
            })
            .await
    }

    fn wakes(&self) -> Wakes {
        self.bell.listen()
    }

    async fn check(&self) -> Result<(), StateError> {
        self.pool
            .once(Duration::from_millis(900), |mut lease| async move {
                let sql = "SELECT current_setting('transaction_read_only') = 'on', format FROM workflow_format";
                let row = sqlx::query(sql).fetch_one(lease.connection()?).await?;
                if row.try_get::<bool, _>(0)? {
                    let reason = "PostgreSQL takes no writes (a standby, or read-only)";
                    return Err(Failed::State(StateError::Unavailable(reason.to_owned())));
                }
                Ok((lease, ()))
            })
            .await
    }

    fn stats(&self) -> Stats {
        self.pool.counters.snapshot()
    }

    async fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            let _ = task.await;
        }
        self.pool.close().await;
    }
}

reader!(PostgresState);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Changes;
    use crate::rows::HeadState;

    /// Behind the lock, which a commit can't be without here, stands the compare-and-set.
    #[tokio::test]
    async fn a_stale_revision_is_refused() {
        let Some(url) = servers::shared::address(servers::shared::POSTGRES) else { return };
        let mut options = PostgresOptions::new(url);
        let workflow = Id::fresh(Timestamp::default());
        options.schema = format!("t_{workflow}");
        let schema = options.schema.clone();
        let state = PostgresState::open(options).await.unwrap();
        let head = HeadState { execution: workflow, status: String::new(), finished: None, body: String::new() };
        let changes = Changes::new(head, Timestamp::default());
        let creation = Creation { id: workflow, engine: String::new(), changes: changes.clone() };
        state.create(creation, Duration::ZERO).await.unwrap();
        for (rev, good) in [(1, true), (1, false), (0, false), (3, false), (2, true)] {
            let (changes, counters) = (&changes, &state.pool.counters);
            let outcome: Result<(), StateError> = state
                .pool
                .call(|mut lease| async move {
                    let mut writing = Writing { connection: lease.connection()?, counters, workflow };
                    writing.update_head(rev, changes).await?;
                    Ok((lease, ()))
                })
                .await;
            let stale = Err(StateError::Stale { workflow, expected: rev });
            assert_eq!(outcome, if good { Ok(()) } else { stale });
        }
        let drop = format!("SET client_min_messages = error; DROP SCHEMA {schema} CASCADE");
        let mut connection = state.pool.connect().await.unwrap();
        state.close().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
    }
}
