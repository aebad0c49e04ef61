//! Finding a workflow that has something to do, and locking it.

use model::Id;
use sqlx::{PgConnection, Row as _};

use super::failure::Failed;
use super::select::{Reading, head_of, text};
use crate::port::Claim;
use crate::rows::{Head, Received, Timer};
use crate::stats::Counters;

/// A workflow that this transaction holds.
#[derive(Debug)]
pub(super) struct Locked {
    pub head: Head,
    pub messages: Vec<Received>,
    pub due: Vec<Timer>,
}

// `NO KEY`: deliveries, which lock the head against its deletion only, go on meanwhile.
const ONE: &str = "SELECT id, engine, execution, status, rev, events, created, updated, finished, body
    FROM workflows WHERE id = $1 AND NOT doomed FOR NO KEY UPDATE SKIP LOCKED";

// Goes from one workflow with messages to the next by the index, and no further than the first that can be locked,
// however many messages each one has.
const WITH_MESSAGES: &str = "
    WITH RECURSIVE waiting (workflow) AS (
        (SELECT workflow FROM inbox WHERE used IS NULL AND workflow > $1 ORDER BY workflow LIMIT 1)
        UNION ALL
        SELECT (SELECT i.workflow FROM inbox i WHERE i.used IS NULL AND i.workflow > waiting.workflow
                ORDER BY i.workflow LIMIT 1)
        FROM waiting WHERE waiting.workflow IS NOT NULL
    )
    SELECT w.* FROM waiting CROSS JOIN LATERAL (
        SELECT id, engine, execution, status, rev, events, created, updated, finished, body
        FROM workflows WHERE id = waiting.workflow AND NOT doomed FOR NO KEY UPDATE SKIP LOCKED
    ) w LIMIT 1";

const WITH_TIMERS: &str = "SELECT id, engine, execution, status, rev, events, created, updated, finished, body
    FROM workflows WHERE due <= $1 AND NOT doomed ORDER BY due LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED";

/// What a claim found.
#[derive(Debug)]
pub(super) enum Found {
    Locked(Box<Locked>),
    /// It was locked, and there was nothing to do. Whoever delivered to it in the meantime found it busy, and relies
    /// on another look after it is let go.
    Empty(Id),
    /// Nothing that could be locked.
    Nothing,
}

/// In a transaction: locks one, if it has something to do.
pub(super) async fn one(
    connection: &mut PgConnection,
    counters: &Counters,
    workflow: Id,
    claim: &Claim,
) -> Result<Found, Failed> {
    let mut reading = Reading { connection, counters };
    let query = sqlx::query(ONE).bind(text(workflow));
    match reading.all(query, head_of, |head| head.body.len()).await?.pop() {
        Some(head) => load(&mut reading, head, claim).await,
        None => Ok(Found::Nothing),
    }
}

/// Whether the search of [`next`] may find something: one cheap look, without a transaction.
pub(super) async fn anything(reading: &mut Reading<'_>, claim: &Claim) -> Result<bool, Failed> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM inbox WHERE used IS NULL AND workflow > '')
        OR EXISTS (SELECT 1 FROM workflows WHERE due <= $1)";
    let query = sqlx::query(SQL).bind(claim.now.micros());
    Ok(reading.all(query, |row| row.try_get(0), |_| 0).await?.pop().unwrap_or(false))
}

/// In a transaction: locks the next beyond `after` that has messages; or the first one that has; or the one whose
/// timer is due the longest.
pub(super) async fn next(
    connection: &mut PgConnection,
    counters: &Counters,
    after: &str,
    claim: &Claim,
) -> Result<Found, Failed> {
    let mut reading = Reading { connection, counters };
    let weigh = |head: &Head| head.body.len();
    let beyond = sqlx::query(WITH_MESSAGES).bind(after.to_owned());
    let mut found = reading.all(beyond, head_of, weigh).await?.pop();
    if found.is_none() && !after.is_empty() {
        let first = sqlx::query(WITH_MESSAGES).bind(String::new());
        found = reading.all(first, head_of, weigh).await?.pop();
    }
    if found.is_none() {
        let due = sqlx::query(WITH_TIMERS).bind(claim.now.micros());
        found = reading.all(due, head_of, weigh).await?.pop();
    }
    match found {
        Some(head) => load(&mut reading, head, claim).await,
        None => Ok(Found::Nothing),
    }
}

async fn load(reading: &mut Reading<'_>, head: Head, claim: &Claim) -> Result<Found, Failed> {
    let messages = reading.inbox(head.id, super::select::page(claim.messages)).await?;
    let due = reading.due_timers(head.id, claim.now, claim.timers.max(1)).await?;
    if messages.is_empty() && due.is_empty() {
        return Ok(Found::Empty(head.id));
    }
    Ok(Found::Locked(Box::new(Locked { head, messages, due })))
}
