//! Connections: few, opened when needed, given out one per call or drain.
//!
//! A connection comes back only after it did all that it was asked; one whose call failed or was abandoned is closed,
//! by which the server ends its transaction. sqlx's own pool would send a ping for each return.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::failure::{Failed, failure, is_conflict, is_lost};
use super::options::PostgresOptions;
use super::select::Reading;
use crate::error::StateError;
use crate::stats::Counters;

/// First pause before a call is repeated; it doubles, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Pool {
    options: PgConnectOptions,
    session: String,
    timeout: Duration,
    idle_timeout: Duration,
    size: u32,
    free: Arc<Semaphore>,
    /// How many of them drains may have: the others are for calls that end by themselves.
    drains: Arc<Semaphore>,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
    pub counters: Arc<Counters>,
}

impl Pool {
    pub fn new(options: &PostgresOptions, connect: PgConnectOptions) -> Arc<Self> {
        Arc::new(Self {
            options: connect,
            session: options.session(),
            timeout: options.timeout,
            idle_timeout: options.idle_timeout,
            size: options.max_connections,
            free: Arc::new(Semaphore::new(options.max_connections as usize)),
            drains: Arc::new(Semaphore::new(options.max_connections as usize - 2)),
            idle: Mutex::new(Vec::new()),
            counters: Arc::new(Counters::default()),
        })
    }

    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A second more for each megabyte to write.
    pub fn deadline_for(&self, bytes: usize) -> Instant {
        self.deadline() + Duration::from_micros(bytes as u64)
    }

    pub fn late(&self) -> StateError {
        StateError::Unavailable(format!("PostgreSQL: no answer within {:?}", self.timeout))
    }

    /// A new connection outside the pool.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(self.session.clone())).execute(&mut connection).await?;
        Ok(connection)
    }

    async fn take(self: &Arc<Self>) -> Result<Lease, Failed> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| closed())?;
        let idle = {
            let mut idle = self.idle.lock();
            idle.retain(|(_, since)| since.elapsed() < self.idle_timeout);
            idle.pop()
        };
        let connection = match idle {
            Some((connection, _)) => connection,
            None => self.connect().await?,
        };
        Ok(Lease { connection: Some(connection), whole: false, pool: Arc::clone(self), _permit: permit, drain: None })
    }

    /// Does a call that may be repeated: after conflicts and lost connections it is tried again, with jittered
    /// back-off, until the deadline. The step gives the connection back.
    pub async fn call<T, F, S>(self: &Arc<Self>, step: F) -> Result<T, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, T), Failed>> + Send,
    {
        let step = &step;
        let one = || async move {
            let (lease, done) = step(self.take().await?).await?;
            lease.give_back();
            Ok(done)
        };
        self.retried(self.deadline(), one).await
    }

    /// As [`Pool::call`], once, by a deadline of its own.
    pub async fn once<T, F, S>(self: &Arc<Self>, within: Duration, step: F) -> Result<T, StateError>
    where
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, T), Failed>> + Send,
    {
        let one = async {
            let (lease, done) = step(self.take().await?).await?;
            lease.give_back();
            Ok::<_, Failed>(done)
        };
        let late = || StateError::Unavailable(format!("PostgreSQL: no answer within {within:?}"));
        tokio::time::timeout(within, one).await.map_err(|_| late())?.map_err(StateError::from)
    }

    /// A connection in a transaction in which `step` succeeded. None if `step` found nothing to stay for.
    /// `bytes` to write give it more time.
    pub async fn begin<T, F, S>(self: &Arc<Self>, bytes: usize, step: F) -> Result<Option<(Lease, T)>, StateError>
    where
        T: Send,
        F: Fn(Lease) -> S + Sync,
        S: Future<Output = Result<(Lease, Option<T>), Failed>> + Send,
    {
        let step = &step;
        let one = || async move {
            let drain = Arc::clone(&self.drains).acquire_owned().await.map_err(|_| closed())?;
            let mut lease = self.take().await?;
            lease.drain = Some(drain);
            self.counters.statement();
            sqlx::raw_sql("BEGIN").execute(lease.connection()?).await?;
            let (mut lease, found) = step(lease).await?;
            let Some(found) = found else {
                self.counters.statement();
                sqlx::raw_sql("ROLLBACK").execute(lease.connection()?).await?;
                lease.give_back();
                return Ok(None);
            };
            Ok(Some((lease, found)))
        };
        self.retried(self.deadline_for(bytes), one).await
    }

    async fn retried<T, F, S>(&self, deadline: Instant, attempt: F) -> Result<T, StateError>
    where
        F: Fn() -> S + Sync,
        S: Future<Output = Result<T, Failed>> + Send,
    {
        let mut pause = FIRST_PAUSE;
        let mut last: Option<StateError> = None;
        loop {
            let error = match timeout_at(deadline, attempt()).await {
                // What went wrong before says more than that time is up.
                Err(_) => return Err(last.unwrap_or_else(|| self.late())),
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(Failed::State(error))) => return Err(error),
                Ok(Err(Failed::Sql(error))) => error,
            };
            let lost = is_lost(&error);
            if lost {
                // The others were opened to the same server.
                self.idle.lock().clear();
            } else if !is_conflict(&error) {
                return Err(failure(&error));
            }
            let first = last.replace(failure(&error)).is_none();
            self.counters.retry();
            // A connection that died while it was idle says nothing about the server.
            let wait = if first && lost { Duration::ZERO } else { jittered(pause) };
            if Instant::now() + wait >= deadline {
                return Err(failure(&error));
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for calls under way, then closes every connection.
    pub async fn close(&self) {
        self.drains.close();
        let all = timeout_at(self.deadline(), self.free.acquire_many(self.size)).await;
        self.free.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle.lock());
        for (connection, _) in idle {
            let _ = timeout_at(self.deadline(), connection.close()).await;
        }
    }
}

pub(super) fn closed() -> StateError {
    StateError::Unavailable("the workflow state is closed".to_owned())
}

/// Between half of `pause` and all of it.
pub(super) fn jittered(pause: Duration) -> Duration {
    // Randomly keyed per instance: enough to keep nodes from stepping together.
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(()) % 1_000;
    pause / 2 + pause.mul_f64(random as f64 / 2_000.0)
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Option<PgConnection>,
    /// It did what it was asked, and no transaction is open.
    whole: bool,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
    /// Held by drains, besides.
    drain: Option<OwnedSemaphorePermit>,
}

impl Lease {
    pub fn connection(&mut self) -> Result<&mut PgConnection, StateError> {
        self.connection.as_mut().ok_or_else(closed)
    }

    pub fn reading(&mut self) -> Result<Reading<'_>, StateError> {
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        Ok(Reading { connection, counters: &self.pool.counters })
    }

    /// Only between statements and outside of transactions.
    pub fn give_back(mut self) {
        self.whole = true;
        self.drain = None;
    }

    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.whole
        {
            self.pool.idle.lock().push((connection, Instant::now()));
        }
    }
}
