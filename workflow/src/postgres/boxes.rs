//! The inbox's near end, the outbox's far end, and deletion: what happens outside of drains.

use std::collections::HashSet;
use std::time::Duration;

use model::{Id, Timestamp};
use sqlx::{PgConnection, Row as _};

use super::failure::Failed;
use super::select::{Reading, page, taken_of, text};
use crate::port::{Deletion, Delivered};
use crate::rows::{Message, TakenLaunch};
use crate::stats::Counters;

/// One statement, hence one transaction: the head is locked against deletion only.
pub(super) async fn deliver(
    connection: &mut PgConnection,
    counters: &Counters,
    workflow: Id,
    messages: &[Message],
) -> Result<Delivered, Failed> {
    const SQL: &str = "
        WITH head AS (SELECT id FROM workflows WHERE id = $1 AND NOT doomed FOR KEY SHARE),
        added AS (
            INSERT INTO inbox (workflow, source, attempt, kind, at, body)
            SELECT head.id, m.source, m.attempt, m.kind, m.at, m.body
            FROM head, unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[])
                WITH ORDINALITY AS m (source, attempt, kind, at, body, place)
            ORDER BY m.place
            ON CONFLICT (workflow, source, attempt, kind) DO NOTHING
            RETURNING source, attempt, kind
        )
        SELECT added.source, added.attempt, added.kind FROM head LEFT JOIN added ON true";
    counters.statement();
    let rows = sqlx::query(SQL)
        .bind(text(workflow))
        .bind(messages.iter().map(|message| text(message.source)).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| i64::from(message.attempt)).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| message.kind.clone()).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| message.at.micros()).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| message.body.clone()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    if rows.is_empty() {
        return Ok(Delivered::Unknown);
    }
    let mut added = HashSet::new();
    for row in &rows {
        let source: Option<String> = row.try_get(0)?;
        let attempt: Option<i64> = row.try_get(1)?;
        let kind: Option<String> = row.try_get(2)?;
        if let (Some(source), Some(attempt), Some(kind)) = (source, attempt, kind) {
            added.insert((source, attempt, kind));
        }
    }
    counters.wrote(messages.iter().map(|message| message.body.len() + message.kind.len()).sum());
    // Of equal messages in one call, the first is the new one.
    let is_new =
        |message: &Message| added.remove(&(text(message.source), i64::from(message.attempt), message.kind.clone()));
    Ok(Delivered::Known(messages.iter().map(is_new).collect()))
}

pub(super) async fn take_launches(
    connection: &mut PgConnection,
    counters: &Counters,
    now: Timestamp,
    hold: Duration,
    limit: u32,
) -> Result<Vec<TakenLaunch>, Failed> {
    const SQL: &str = "
        UPDATE outbox SET at = $2, tries = outbox.tries + 1
        FROM (
            SELECT o.workflow, o.id FROM outbox o
            WHERE o.at <= $1 AND NOT EXISTS (SELECT 1 FROM workflows w WHERE w.id = o.workflow AND w.doomed)
            ORDER BY o.at LIMIT $3 FOR UPDATE OF o SKIP LOCKED
        ) taken
        WHERE outbox.workflow = taken.workflow AND outbox.id = taken.id
        RETURNING outbox.workflow, outbox.id, outbox.kind, outbox.due, outbox.tries, outbox.body";
    let query = sqlx::query(SQL).bind(now.micros()).bind(now.plus(hold).micros()).bind(page(limit));
    let mut taken =
        Reading { connection, counters }.all(query, taken_of, |taken: &TakenLaunch| taken.launch.body.len()).await?;
    taken.sort_by_key(|taken| (taken.launch.due, taken.launch.id));
    Ok(taken)
}

pub(super) async fn mark_launched(
    connection: &mut PgConnection,
    counters: &Counters,
    workflow: Id,
    launches: &[Id],
) -> Result<(), Failed> {
    const SQL: &str = "DELETE FROM outbox WHERE workflow = $1 AND id = ANY($2)";
    counters.statement();
    let ids: Vec<String> = launches.iter().map(|id| text(*id)).collect();
    sqlx::query(SQL).bind(text(workflow)).bind(ids).execute(connection).await?;
    Ok(())
}

/// Each table's rows of a workflow, at most `$2` of them; launches first, so that none is made after the first call.
const DELETES: &[&str] = &[
    "DELETE FROM outbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM outbox WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM timers WHERE ctid = ANY(ARRAY(SELECT ctid FROM timers WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM inbox WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM chunks WHERE ctid = ANY(ARRAY(SELECT ctid FROM chunks WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM documents WHERE ctid = ANY(ARRAY(SELECT ctid FROM documents WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM items WHERE ctid = ANY(ARRAY(SELECT ctid FROM items WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM cells WHERE ctid = ANY(ARRAY(SELECT ctid FROM cells WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM tasks WHERE ctid = ANY(ARRAY(SELECT ctid FROM tasks WHERE workflow = $1 LIMIT $2))",
    "DELETE FROM events WHERE ctid = ANY(ARRAY(SELECT ctid FROM events WHERE workflow = $1 LIMIT $2))",
];

/// In a transaction.
pub(super) async fn delete(
    connection: &mut PgConnection,
    counters: &Counters,
    workflow: Id,
    rows: u32,
) -> Result<Deletion, Failed> {
    let id = text(workflow);
    counters.statement();
    // Not `NO KEY`: it keeps deliveries out as well.
    let locked = sqlx::query("SELECT doomed FROM workflows WHERE id = $1 FOR UPDATE SKIP LOCKED")
        .bind(&id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(head) = locked else {
        counters.statement();
        let there = sqlx::query("SELECT 1 FROM workflows WHERE id = $1").bind(&id).fetch_optional(connection).await?;
        return Ok(if there.is_some() { Deletion::Busy } else { Deletion::Done });
    };
    if !head.try_get::<bool, _>(0)? {
        counters.statement();
        let doom = "UPDATE workflows SET doomed = true, due = NULL WHERE id = $1";
        sqlx::query(doom).bind(&id).execute(&mut *connection).await?;
    }
    let mut left = i64::from(rows.max(1));
    for sql in DELETES {
        counters.statement();
        let deleted = sqlx::query(*sql).bind(&id).bind(left).execute(&mut *connection).await?.rows_affected();
        left -= i64::try_from(deleted).unwrap_or(left);
        if left <= 0 {
            return Ok(Deletion::More);
        }
    }
    counters.statement();
    sqlx::query("DELETE FROM workflows WHERE id = $1").bind(&id).execute(connection).await?;
    Ok(Deletion::Done)
}
