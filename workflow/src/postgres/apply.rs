//! Writing a change: one statement per kind of row, however many rows.

use model::{Id, Timestamp};
use sqlx::PgConnection;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::failure::Failed;
use super::select::text;
use crate::changes::{Changes, Prepared};
use crate::document::Packed;
use crate::error::StateError;
use crate::rows::{Item, Launch, Task, Timer};
use crate::stats::Counters;

/// A workflow in a transaction that holds its lock.
pub(super) struct Writing<'a> {
    pub connection: &'a mut PgConnection,
    pub counters: &'a Counters,
    pub workflow: Id,
}

type Sql<'q> = Query<'q, sqlx::Postgres, PgArguments>;

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
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
        self.tasks(&changes.tasks).await?;
        self.items(&changes.items).await?;
        self.cells(changes).await?;
        self.launches(changes, held).await?;
        self.timers(changes).await?;
        self.documents(&prepared.documents, &changes.removed_documents).await?;
        self.counters.wrote(prepared.bytes);
        Ok(())
    }

    async fn use_messages(&mut self, used: &[u64], rev: u64) -> Result<(), Failed> {
        const SQL: &str = "UPDATE inbox SET used = $2, body = ''
            WHERE workflow = $1 AND seq = ANY($3) AND used IS NULL";
        if used.is_empty() {
            return Ok(());
        }
        let seqs: Vec<i64> = used.iter().map(|seq| number(*seq)).collect();
        let query = self.query(SQL).bind(number(rev)).bind(seqs);
        if self.run(query).await? != used.len() as u64 {
            let text = format!("a message that workflow {} has used or never had can't be used", self.workflow);
            return Err(StateError::Misuse(text).into());
        }
        Ok(())
    }

    async fn events(&mut self, changes: &Changes, from: u64) -> Result<(), Failed> {
        const SQL: &str = "INSERT INTO events (workflow, seq, at, kind, body)
            SELECT $1, $2 + e.place - 1, $3, e.kind, e.body
            FROM unnest($4::text[], $5::text[]) WITH ORDINALITY AS e (kind, body, place)";
        if changes.events.is_empty() {
            return Ok(());
        }
        let (kinds, bodies): (Vec<String>, Vec<String>) = changes.events.iter().cloned().unzip();
        let query = self.query(SQL).bind(number(from)).bind(changes.at.micros()).bind(kinds).bind(bodies);
        self.run(query).await.map(drop)
    }

    async fn tasks(&mut self, tasks: &[Task]) -> Result<(), Failed> {
        const SQL: &str = "INSERT INTO tasks (workflow, seq, id, task, route, status, created, updated, body)
            SELECT $1, t.* FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
                $8::bigint[], $9::text[]) AS t
            ON CONFLICT (workflow, seq) DO UPDATE SET id = excluded.id, task = excluded.task, route = excluded.route,
                status = excluded.status, created = excluded.created, updated = excluded.updated,
                body = excluded.body";
        if tasks.is_empty() {
            return Ok(());
        }
        let query = self
            .query(SQL)
            .bind(tasks.iter().map(|task| i64::from(task.seq)).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| text(task.id)).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| task.task.clone()).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| i64::from(task.route)).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| task.status.clone()).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| task.created.micros()).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| task.updated.micros()).collect::<Vec<_>>())
            .bind(tasks.iter().map(|task| task.body.clone()).collect::<Vec<_>>());
        self.run(query).await.map(drop)
    }

    async fn items(&mut self, items: &[Item]) -> Result<(), Failed> {
        const SQL: &str = "INSERT INTO items (workflow, task, item, status, body)
            SELECT $1, i.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[]) AS i
            ON CONFLICT (workflow, task, item) DO UPDATE SET status = excluded.status, body = excluded.body";
        if items.is_empty() {
            return Ok(());
        }
        let query = self
            .query(SQL)
            .bind(items.iter().map(|item| i64::from(item.task)).collect::<Vec<_>>())
            .bind(items.iter().map(|item| i64::from(item.item)).collect::<Vec<_>>())
            .bind(items.iter().map(|item| item.status.clone()).collect::<Vec<_>>())
            .bind(items.iter().map(|item| item.body.clone()).collect::<Vec<_>>());
        self.run(query).await.map(drop)
    }

    async fn cells(&mut self, changes: &Changes) -> Result<(), Failed> {
        const PUT: &str = "INSERT INTO cells (workflow, space, key, body)
            SELECT $1, c.* FROM unnest($2::text[], $3::text[], $4::text[]) AS c
            ON CONFLICT (workflow, space, key) DO UPDATE SET body = excluded.body";
        const REMOVE: &str = "DELETE FROM cells WHERE workflow = $1
            AND (space, key) IN (SELECT * FROM unnest($2::text[], $3::text[]))";
        if !changes.removed_cells.is_empty() {
            let (spaces, keys): (Vec<String>, Vec<String>) = changes.removed_cells.iter().cloned().unzip();
            self.run(self.query(REMOVE).bind(spaces).bind(keys)).await?;
        }
        if changes.cells.is_empty() {
            return Ok(());
        }
        let query = self
            .query(PUT)
            .bind(changes.cells.iter().map(|cell| cell.space.clone()).collect::<Vec<_>>())
            .bind(changes.cells.iter().map(|cell| cell.key.clone()).collect::<Vec<_>>())
            .bind(changes.cells.iter().map(|cell| cell.body.clone()).collect::<Vec<_>>());
        self.run(query).await.map(drop)
    }

    /// Those that are due are held for the caller; the others are free to be taken at their time.
    async fn launches(&mut self, changes: &Changes, held: Timestamp) -> Result<(), Failed> {
        const SQL: &str = "INSERT INTO outbox (workflow, id, kind, due, at, tries, body)
            SELECT $1, l.id, l.kind, l.due, CASE WHEN l.due <= $7 THEN $6 ELSE l.due END, 0, l.body
            FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) AS l (id, kind, due, body)
            ON CONFLICT (workflow, id) DO NOTHING";
        let launches: &[Launch] = &changes.launches;
        if launches.is_empty() {
            return Ok(());
        }
        let query = self
            .query(SQL)
            .bind(launches.iter().map(|launch| text(launch.id)).collect::<Vec<_>>())
            .bind(launches.iter().map(|launch| launch.kind.clone()).collect::<Vec<_>>())
            .bind(launches.iter().map(|launch| launch.due.micros()).collect::<Vec<_>>())
            .bind(launches.iter().map(|launch| launch.body.clone()).collect::<Vec<_>>())
            .bind(held.micros())
            .bind(changes.at.micros());
        self.run(query).await.map(drop)
    }

    async fn timers(&mut self, changes: &Changes) -> Result<(), Failed> {
        const SET: &str = "INSERT INTO timers (workflow, key, due, body)
            SELECT $1, t.* FROM unnest($2::text[], $3::bigint[], $4::text[]) AS t
            ON CONFLICT (workflow, key) DO UPDATE SET due = excluded.due, body = excluded.body";
        const CLEAR: &str = "DELETE FROM timers WHERE workflow = $1 AND key = ANY($2)";
        const EARLIEST: &str = "UPDATE workflows SET due = (SELECT min(due) FROM timers WHERE workflow = $1)
            WHERE id = $1";
        let timers: &[Timer] = &changes.timers;
        if timers.is_empty() && changes.cleared_timers.is_empty() {
            return Ok(());
        }
        if !changes.cleared_timers.is_empty() {
            self.run(self.query(CLEAR).bind(changes.cleared_timers.clone())).await?;
        }
        if !timers.is_empty() {
            let query = self
                .query(SET)
                .bind(timers.iter().map(|timer| timer.key.clone()).collect::<Vec<_>>())
                .bind(timers.iter().map(|timer| timer.due.micros()).collect::<Vec<_>>())
                .bind(timers.iter().map(|timer| timer.body.clone()).collect::<Vec<_>>());
            self.run(query).await?;
        }
        self.run(self.query(EARLIEST)).await.map(drop)
    }

    async fn documents(&mut self, documents: &[Packed], removed: &[String]) -> Result<(), Failed> {
        const DROP_CHUNKS: &str = "DELETE FROM chunks WHERE workflow = $1 AND key = ANY($2)";
        const DROP: &str = "DELETE FROM documents WHERE workflow = $1 AND key = ANY($2)";
        const PUT: &str = "INSERT INTO documents (workflow, key, size, hash) VALUES ($1, $2, $3, $4)
            ON CONFLICT (workflow, key) DO UPDATE SET size = excluded.size, hash = excluded.hash";
        const CHUNK: &str = "INSERT INTO chunks (workflow, key, chunk, data) VALUES ($1, $2, $3, $4)";
        let mut keys: Vec<String> = removed.to_vec();
        keys.extend(documents.iter().map(|document| document.key.clone()));
        if keys.is_empty() {
            return Ok(());
        }
        self.run(self.query(DROP_CHUNKS).bind(keys)).await?;
        if !removed.is_empty() {
            self.run(self.query(DROP).bind(removed.to_vec())).await?;
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
