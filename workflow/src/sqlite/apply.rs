//! Writing, within the writer's transaction: one statement per kind of row, the rows as JSON.

use model::{Id, Timestamp};
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::failure::Failed;
use super::select::text;
use crate::changes::{Changes, Prepared};
use crate::document::Packed;
use crate::error::StateError;
use crate::stats::Counters;

pub(super) struct Writing<'a> {
    pub connection: &'a mut SqliteConnection,
    pub counters: &'a Counters,
    pub workflow: Id,
}

type Sql<'q> = Query<'q, Sqlite, SqliteArguments>;

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Rows as one parameter for `json_each`.
fn rows<T>(all: &[T], row: impl Fn(&T) -> Value) -> String {
    Value::Array(all.iter().map(row).collect()).to_string()
}

impl Writing<'_> {
    async fn run(&mut self, query: Sql<'_>) -> Result<u64, Failed> {
        self.counters.statement();
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }

    /// A statement whose first parameter is the workflow.
    fn query(&self, sql: &'static str) -> Sql<'static> {
        sqlx::query(sql).bind(text(self.workflow))
    }

    /// The same with rows as the second.
    async fn put(&mut self, sql: &'static str, rows: String) -> Result<(), Failed> {
        self.run(self.query(sql).bind(rows)).await.map(drop)
    }

    /// The head of a new workflow; false if there is one.
    pub async fn insert_head(&mut self, engine: &str, changes: &Changes) -> Result<bool, Failed> {
        const SQL: &str = "INSERT INTO workflows
            (id, engine, execution, status, rev, events, created, updated, finished, body)
            VALUES ($1, $2, $3, $4, 1, $5, $6, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
        let head = &changes.head;
        let query = self
            .query(SQL)
            .bind(engine.to_owned())
            .bind(text(head.execution))
            .bind(head.status.clone())
            .bind(number(changes.events.len() as u64))
            .bind(changes.at.micros())
            .bind(head.finished.map(Timestamp::micros))
            .bind(head.body.clone());
        Ok(self.run(query).await? == 1)
    }

    /// The compare-and-set: without the expected revision nothing else may be written.
    pub async fn update_head(&mut self, rev: u64, changes: &Changes) -> Result<(), Failed> {
        const SQL: &str = "UPDATE workflows SET execution = $3, status = $4, rev = rev + 1, events = events + $5,
            updated = $6, finished = $7, body = $8 WHERE id = $1 AND rev = $2 AND NOT doomed";
        let head = &changes.head;
        let query = self
            .query(SQL)
            .bind(number(rev))
            .bind(text(head.execution))
            .bind(head.status.clone())
            .bind(number(changes.events.len() as u64))
            .bind(changes.at.micros())
            .bind(head.finished.map(Timestamp::micros))
            .bind(head.body.clone());
        if self.run(query).await? != 1 {
            return Err(StateError::Stale { workflow: self.workflow, expected: rev }.into());
        }
        Ok(())
    }

    /// Everything but the head, which has got revision `rev` and had `events` events before.
    pub async fn rows(&mut self, prepared: &Prepared, rev: u64, events: u64, held: Timestamp) -> Result<(), Failed> {
        let changes = &prepared.changes;
        self.use_messages(&changes.used, rev).await?;
        self.events(changes, events).await?;
        self.tasks_and_items(changes).await?;
        self.cells(changes).await?;
        self.launches(changes, held).await?;
        self.timers(changes).await?;
        self.documents(&prepared.documents, &changes.removed_documents).await?;
        self.counters.wrote(prepared.bytes);
        Ok(())
    }

    async fn use_messages(&mut self, used: &[u64], rev: u64) -> Result<(), Failed> {
        const SQL: &str = "UPDATE inbox SET used = $2, body = ''
            WHERE workflow = $1 AND seq IN (SELECT value FROM json_each($3)) AND used IS NULL";
        if used.is_empty() {
            return Ok(());
        }
        let query = self.query(SQL).bind(number(rev)).bind(rows(used, |seq| json!(seq)));
        if self.run(query).await? != used.len() as u64 {
            let text = format!("a message that workflow {} has used or never had can't be used", self.workflow);
            return Err(StateError::Misuse(text).into());
        }
        Ok(())
    }

    async fn events(&mut self, changes: &Changes, from: u64) -> Result<(), Failed> {
        const SQL: &str = "INSERT INTO events (workflow, seq, at, kind, body)
            SELECT $1, $2 + e.key, $3, e.value ->> 0, e.value ->> 1 FROM json_each($4) AS e";
        if changes.events.is_empty() {
            return Ok(());
        }
        let query = self.query(SQL).bind(number(from)).bind(changes.at.micros());
        self.run(query.bind(rows(&changes.events, |(kind, body)| json!([kind, body])))).await.map(drop)
    }

    async fn tasks_and_items(&mut self, changes: &Changes) -> Result<(), Failed> {
        const TASKS: &str = "INSERT INTO tasks (workflow, seq, id, task, route, status, created, updated, body)
            SELECT $1, t.value ->> 0, t.value ->> 1, t.value ->> 2, t.value ->> 3, t.value ->> 4, t.value ->> 5,
                t.value ->> 6, t.value ->> 7 FROM json_each($2) AS t WHERE true
            ON CONFLICT (workflow, seq) DO UPDATE SET id = excluded.id, task = excluded.task, route = excluded.route,
                status = excluded.status, created = excluded.created, updated = excluded.updated,
                body = excluded.body";
        const ITEMS: &str = "INSERT INTO items (workflow, task, item, status, body)
            SELECT $1, i.value ->> 0, i.value ->> 1, i.value ->> 2, i.value ->> 3 FROM json_each($2) AS i WHERE true
            ON CONFLICT (workflow, task, item) DO UPDATE SET status = excluded.status, body = excluded.body";
        if !changes.tasks.is_empty() {
            let tasks = rows(&changes.tasks, |task| {
                json!([
                    task.seq,
                    task.id,
                    task.task,
                    task.route,
                    task.status,
                    task.created.micros(),
                    task.updated.micros(),
                    task.body
                ])
            });
            self.put(TASKS, tasks).await?;
        }
        if !changes.items.is_empty() {
            let items = rows(&changes.items, |item| json!([item.task, item.item, item.status, item.body]));
            self.put(ITEMS, items).await?;
        }
        Ok(())
    }

    async fn cells(&mut self, changes: &Changes) -> Result<(), Failed> {
        const PUT: &str = "INSERT INTO cells (workflow, space, key, body)
            SELECT $1, c.value ->> 0, c.value ->> 1, c.value ->> 2 FROM json_each($2) AS c WHERE true
            ON CONFLICT (workflow, space, key) DO UPDATE SET body = excluded.body";
        const REMOVE: &str = "DELETE FROM cells WHERE workflow = $1
            AND (space, key) IN (SELECT c.value ->> 0, c.value ->> 1 FROM json_each($2) AS c)";
        if !changes.removed_cells.is_empty() {
            self.put(REMOVE, rows(&changes.removed_cells, |(space, key)| json!([space, key]))).await?;
        }
        if !changes.cells.is_empty() {
            self.put(PUT, rows(&changes.cells, |cell| json!([cell.space, cell.key, cell.body]))).await?;
        }
        Ok(())
    }

    /// Those that are due are held for the caller; the others are free to be taken at their time.
    async fn launches(&mut self, changes: &Changes, held: Timestamp) -> Result<(), Failed> {
        const SQL: &str = "INSERT INTO outbox (workflow, id, kind, due, at, tries, body)
            SELECT $1, l.value ->> 0, l.value ->> 1, l.value ->> 2,
                CASE WHEN l.value ->> 2 <= $3 THEN $4 ELSE l.value ->> 2 END, 0, l.value ->> 3
            FROM json_each($2) AS l WHERE true ON CONFLICT (workflow, id) DO NOTHING";
        if changes.launches.is_empty() {
            return Ok(());
        }
        let launches =
            rows(&changes.launches, |launch| json!([launch.id, launch.kind, launch.due.micros(), launch.body]));
        let query = self.query(SQL).bind(launches).bind(changes.at.micros()).bind(held.micros());
        self.run(query).await.map(drop)
    }

    async fn timers(&mut self, changes: &Changes) -> Result<(), Failed> {
        const SET: &str = "INSERT INTO timers (workflow, key, due, body)
            SELECT $1, t.value ->> 0, t.value ->> 1, t.value ->> 2 FROM json_each($2) AS t WHERE true
            ON CONFLICT (workflow, key) DO UPDATE SET due = excluded.due, body = excluded.body";
        const CLEAR: &str = "DELETE FROM timers WHERE workflow = $1 AND key IN (SELECT value FROM json_each($2))";
        const EARLIEST: &str = "UPDATE workflows SET due = (SELECT min(due) FROM timers WHERE workflow = $1)
            WHERE id = $1";
        if changes.timers.is_empty() && changes.cleared_timers.is_empty() {
            return Ok(());
        }
        if !changes.cleared_timers.is_empty() {
            self.put(CLEAR, rows(&changes.cleared_timers, |key| json!(key))).await?;
        }
        if !changes.timers.is_empty() {
            let timers = rows(&changes.timers, |timer| json!([timer.key, timer.due.micros(), timer.body]));
            self.put(SET, timers).await?;
        }
        self.run(self.query(EARLIEST)).await.map(drop)
    }

    async fn documents(&mut self, documents: &[Packed], removed: &[String]) -> Result<(), Failed> {
        const DROP_CHUNKS: &str = "DELETE FROM chunks WHERE workflow = $1 AND key IN (SELECT value FROM json_each($2))";
        const DROP: &str = "DELETE FROM documents WHERE workflow = $1 AND key IN (SELECT value FROM json_each($2))";
        const PUT: &str = "INSERT INTO documents (workflow, key, size, hash) VALUES ($1, $2, $3, $4)
            ON CONFLICT (workflow, key) DO UPDATE SET size = excluded.size, hash = excluded.hash";
        const CHUNK: &str = "INSERT INTO chunks (workflow, key, chunk, data) VALUES ($1, $2, $3, $4)";
        let mut keys: Vec<String> = removed.to_vec();
        keys.extend(documents.iter().map(|document| document.key.clone()));
        if keys.is_empty() {
            return Ok(());
        }
        self.put(DROP_CHUNKS, rows(&keys, |key| json!(key))).await?;
        if !removed.is_empty() {
            self.put(DROP, rows(removed, |key| json!(key))).await?;
        }
        for document in documents {
            let put = self.query(PUT).bind(document.key.clone()).bind(number(document.size));
            self.run(put.bind(text(document.hash))).await?;
            for (place, chunk) in document.chunks.iter().enumerate() {
                let query = self.query(CHUNK).bind(document.key.clone()).bind(number(place as u64));
                self.run(query.bind(chunk.clone())).await?;
            }
        }
        Ok(())
    }
}
