//! The inbox's near end, the outbox's far end, and deletion, within the writer's transaction.

use std::collections::HashSet;
use std::time::Duration;

use model::{Id, Timestamp};
use serde_json::{Value, json};
use sqlx::{Row as _, SqliteConnection};

use super::failure::Failed;
use super::select::{Reading, page, taken_of, text};
use crate::port::{Deletion, Delivered};
use crate::rows::{Message, TakenLaunch};
use crate::stats::Counters;

pub(super) async fn deliver(
    connection: &mut SqliteConnection,
    counters: &Counters,
    workflow: Id,
    messages: &[Message],
) -> Result<Delivered, Failed> {
    const SQL: &str = "INSERT INTO inbox (workflow, source, attempt, kind, at, body)
        SELECT $1, m.value ->> 0, m.value ->> 1, m.value ->> 2, m.value ->> 3, m.value ->> 4
        FROM json_each($2) AS m WHERE true ORDER BY m.key
        ON CONFLICT (workflow, source, attempt, kind) DO NOTHING
        RETURNING source, attempt, kind";
    counters.statement();
    let there = sqlx::query("SELECT 1 FROM workflows WHERE id = $1 AND NOT doomed")
        .bind(text(workflow))
        .fetch_optional(&mut *connection)
        .await?;
    if there.is_none() {
        return Ok(Delivered::Unknown);
    }
    let rows: Vec<_> = messages
        .iter()
        .map(|message| json!([message.source, message.attempt, message.kind, message.at.micros(), message.body]))
        .collect();
    counters.statement();
    let rows = sqlx::query(SQL).bind(text(workflow)).bind(Value::Array(rows).to_string()).fetch_all(connection).await?;
    let mut added: HashSet<(String, i64, String)> = HashSet::new();
    for row in &rows {
        added.insert((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    counters.wrote(messages.iter().map(|message| message.body.len() + message.kind.len()).sum());
    // Of equal messages in one call, the first is the new one.
    let is_new =
        |message: &Message| added.remove(&(text(message.source), i64::from(message.attempt), message.kind.clone()));
    Ok(Delivered::Known(messages.iter().map(is_new).collect()))
}

pub(super) async fn take_launches(
    connection: &mut SqliteConnection,
    counters: &Counters,
    now: Timestamp,
    hold: Duration,
    limit: u32,
) -> Result<Vec<TakenLaunch>, Failed> {
    const SQL: &str = "UPDATE outbox SET at = $2, tries = tries + 1
        WHERE (workflow, id) IN (
            SELECT o.workflow, o.id FROM outbox o
            WHERE o.at <= $1 AND NOT EXISTS (SELECT 1 FROM workflows w WHERE w.id = o.workflow AND w.doomed)
            ORDER BY o.at LIMIT $3
        )
        RETURNING workflow, id, kind, due, tries, body";
    let query = sqlx::query(SQL).bind(now.micros()).bind(now.plus(hold).micros()).bind(page(limit));
    let mut taken =
        Reading { connection, counters }.all(query, taken_of, |taken: &TakenLaunch| taken.launch.body.len()).await?;
    taken.sort_by_key(|taken| (taken.launch.due, taken.launch.id));
    Ok(taken)
}

pub(super) async fn mark_launched(
    connection: &mut SqliteConnection,
    counters: &Counters,
    workflow: Id,
    launches: &[Id],
) -> Result<(), Failed> {
    const SQL: &str = "DELETE FROM outbox WHERE workflow = $1 AND id IN (SELECT value FROM json_each($2))";
    counters.statement();
    let ids = Value::Array(launches.iter().map(|id| json!(id)).collect()).to_string();
    sqlx::query(SQL).bind(text(workflow)).bind(ids).execute(connection).await?;
    Ok(())
}

/// Each table's rows of a workflow, at most `$2` of them; launches first, so that none is made after the first call.
const DELETES: &[&str] = &[
    "DELETE FROM outbox WHERE workflow = $1 AND id IN (SELECT id FROM outbox WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM timers WHERE workflow = $1 AND key IN (SELECT key FROM timers WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM inbox WHERE seq IN (SELECT seq FROM inbox WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM chunks WHERE rowid IN (SELECT rowid FROM chunks WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM documents WHERE workflow = $1 AND key IN (SELECT key FROM documents WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM items WHERE workflow = $1
        AND (task, item) IN (SELECT task, item FROM items WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM cells WHERE workflow = $1
        AND (space, key) IN (SELECT space, key FROM cells WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM tasks WHERE workflow = $1 AND seq IN (SELECT seq FROM tasks WHERE workflow = $1 LIMIT $2)",
    "DELETE FROM events WHERE workflow = $1 AND seq IN (SELECT seq FROM events WHERE workflow = $1 LIMIT $2)",
];

/// Of a workflow that the caller holds.
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    counters: &Counters,
    workflow: Id,
    rows: u32,
) -> Result<Deletion, Failed> {
    let id = text(workflow);
    counters.statement();
    let doom = "UPDATE workflows SET doomed = 1, due = NULL WHERE id = $1 AND NOT doomed";
    sqlx::query(doom).bind(&id).execute(&mut *connection).await?;
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
