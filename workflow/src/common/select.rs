//! Reading rows. The SQL is the same for both databases: each adapter has this file as its own module `select`, with
//! its driver's types in `super::driver`.

use model::{Id, Timestamp};
use sqlx::Row as _;
use sqlx::query::Query;

use super::driver::{Arguments, Connection, Database, Row, SOME_ITEMS};
use super::failure::Failed;
use crate::document::unpack;
use crate::error::StateError;
use crate::limits::MAX_PAGE;
use crate::rows::{
    Cell, DocumentInfo, Event, Head, HeadQuery, Item, ItemQuery, Launch, Message, Received, TakenLaunch, Task,
    TaskQuery, Timer,
};
use crate::stats::Counters;

/// Columns of a head, in the order of [`head_of`].
pub(super) const HEAD: &str = "id, engine, execution, status, rev, events, created, updated, finished, body";

/// A connection to read by, and where to count.
pub(super) struct Reading<'a> {
    pub connection: &'a mut Connection,
    pub counters: &'a Counters,
}

/// A page size within the limits.
pub(super) fn page(limit: u32) -> i64 {
    i64::from(limit.clamp(1, MAX_PAGE))
}

pub(super) fn text(id: Id) -> String {
    id.to_string()
}

fn id(row: &Row, column: usize) -> Result<Id, sqlx::Error> {
    row.try_get::<&str, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn time(row: &Row, column: usize) -> Result<Timestamp, sqlx::Error> {
    row.try_get(column).map(Timestamp::from_micros)
}

fn small(row: &Row, column: usize) -> Result<u32, sqlx::Error> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn big(row: &Row, column: usize) -> Result<u64, sqlx::Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

pub(super) fn head_of(row: &Row) -> Result<Head, sqlx::Error> {
    Ok(Head {
        id: id(row, 0)?,
        engine: row.try_get(1)?,
        execution: id(row, 2)?,
        status: row.try_get(3)?,
        rev: big(row, 4)?,
        events: big(row, 5)?,
        created: time(row, 6)?,
        updated: time(row, 7)?,
        finished: row.try_get::<Option<i64>, _>(8)?.map(Timestamp::from_micros),
        body: row.try_get(9)?,
    })
}

fn task_of(row: &Row) -> Result<Task, sqlx::Error> {
    Ok(Task {
        seq: small(row, 0)?,
        id: id(row, 1)?,
        task: row.try_get(2)?,
        route: small(row, 3)?,
        status: row.try_get(4)?,
        created: time(row, 5)?,
        updated: time(row, 6)?,
        body: row.try_get(7)?,
    })
}

fn item_of(row: &Row) -> Result<Item, sqlx::Error> {
    Ok(Item { task: small(row, 0)?, item: small(row, 1)?, status: row.try_get(2)?, body: row.try_get(3)? })
}

fn received_of(row: &Row) -> Result<Received, sqlx::Error> {
    let message = Message {
        source: id(row, 1)?,
        attempt: small(row, 2)?,
        kind: row.try_get(3)?,
        at: time(row, 4)?,
        body: row.try_get(5)?,
    };
    Ok(Received { seq: big(row, 0)?, message })
}

fn timer_of(row: &Row) -> Result<Timer, sqlx::Error> {
    Ok(Timer { key: row.try_get(0)?, due: time(row, 1)?, body: row.try_get(2)? })
}

pub(super) fn taken_of(row: &Row) -> Result<TakenLaunch, sqlx::Error> {
    let launch = Launch { id: id(row, 1)?, kind: row.try_get(2)?, due: time(row, 3)?, body: row.try_get(5)? };
    Ok(TakenLaunch { workflow: id(row, 0)?, launch, tries: small(row, 4)? })
}

fn info_of(row: &Row) -> Result<DocumentInfo, sqlx::Error> {
    Ok(DocumentInfo { key: row.try_get(0)?, size: big(row, 1)?, hash: id(row, 2)? })
}

impl Reading<'_> {
    /// Runs a query and reads its rows; `weigh` gives the bytes of one.
    pub async fn all<'q, T>(
        &mut self,
        query: Query<'q, Database, Arguments>,
        read: fn(&Row) -> Result<T, sqlx::Error>,
        weigh: fn(&T) -> usize,
    ) -> Result<Vec<T>, Failed> {
        self.counters.statement();
        let rows = query.fetch_all(&mut *self.connection).await?;
        let found = rows.iter().map(read).collect::<Result<Vec<T>, _>>()?;
        self.counters.read(found.len(), found.iter().map(weigh).sum());
        Ok(found)
    }

    pub async fn head(&mut self, workflow: Id) -> Result<Option<Head>, Failed> {
        const SQL: &str = "SELECT id, engine, execution, status, rev, events, created, updated, finished, body
            FROM workflows WHERE id = $1 AND NOT doomed";
        let query = sqlx::query(SQL).bind(text(workflow));
        Ok(self.all(query, head_of, |head| head.body.len()).await?.pop())
    }

    pub async fn head_of_execution(&mut self, execution: Id) -> Result<Option<Head>, Failed> {
        const SQL: &str = "SELECT id, engine, execution, status, rev, events, created, updated, finished, body
            FROM workflows WHERE execution = $1 AND NOT doomed ORDER BY id DESC LIMIT 1";
        let query = sqlx::query(SQL).bind(text(execution));
        Ok(self.all(query, head_of, |head| head.body.len()).await?.pop())
    }

    pub async fn heads(&mut self, wanted: &HeadQuery) -> Result<Vec<Head>, Failed> {
        let mut sql = format!("SELECT {HEAD} FROM workflows WHERE NOT doomed AND id > $1");
        let mut next = 2;
        let mut condition = |given: bool, text: &str| {
            if given {
                sql.push_str(&text.replace('?', &format!("${next}")));
                next += 1;
            }
        };
        condition(wanted.status.is_some(), " AND status = ?");
        condition(wanted.finished_before.is_some(), " AND finished IS NOT NULL AND finished < ?");
        condition(wanted.idle_since.is_some(), " AND updated < ?");
        condition(true, " ORDER BY id LIMIT ?");
        if wanted.live {
            sql = sql.replace(" ORDER BY", " AND finished IS NULL ORDER BY");
        }
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(wanted.after.map_or_else(String::new, text));
        if let Some(status) = &wanted.status {
            query = query.bind(status);
        }
        for time in [wanted.finished_before, wanted.idle_since].into_iter().flatten() {
            query = query.bind(time.micros());
        }
        self.all(query.bind(page(wanted.limit)), head_of, |head| head.body.len()).await
    }

    pub async fn task(&mut self, workflow: Id, seq: u32) -> Result<Option<Task>, Failed> {
        const SQL: &str = "SELECT seq, id, task, route, status, created, updated, body
            FROM tasks WHERE workflow = $1 AND seq = $2";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(i64::from(seq));
        Ok(self.all(query, task_of, |task| task.body.len()).await?.pop())
    }

    pub async fn task_by_id(&mut self, task: Id) -> Result<Option<(Id, Task)>, Failed> {
        const SQL: &str = "SELECT seq, id, task, route, status, created, updated, body, workflow
            FROM tasks WHERE id = $1 LIMIT 1";
        let query = sqlx::query(SQL).bind(text(task));
        Ok(self.all(query, |row| Ok((id(row, 8)?, task_of(row)?)), |(_, task)| task.body.len()).await?.pop())
    }

    pub async fn tasks(&mut self, workflow: Id, wanted: &TaskQuery) -> Result<Vec<Task>, Failed> {
        let mut sql =
            "SELECT seq, id, task, route, status, created, updated, body FROM tasks WHERE workflow = $1".to_owned();
        let mut next = 2;
        let mut condition = |given: bool, text: &str| {
            if given {
                sql.push_str(&text.replace('?', &format!("${next}")));
                next += 1;
            }
        };
        let (beyond, order) = if wanted.descending { ("<", "DESC") } else { (">", "ASC") };
        condition(wanted.status.is_some(), " AND status = ?");
        condition(wanted.task.is_some(), " AND task = ?");
        condition(wanted.route.is_some(), " AND route = ?");
        condition(wanted.after.is_some(), &format!(" AND seq {beyond} ?"));
        condition(true, &format!(" ORDER BY seq {order} LIMIT ?"));
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(text(workflow));
        for name in [&wanted.status, &wanted.task].into_iter().flatten() {
            query = query.bind(name);
        }
        for number in [wanted.route, wanted.after].into_iter().flatten() {
            query = query.bind(i64::from(number));
        }
        self.all(query.bind(page(wanted.limit)), task_of, |task| task.body.len()).await
    }

    pub async fn items(&mut self, workflow: Id, task: u32, wanted: &ItemQuery) -> Result<Vec<Item>, Failed> {
        const ALL: &str = "SELECT task, item, status, body FROM items
            WHERE workflow = $1 AND task = $2 AND item > $3 ORDER BY item LIMIT $4";
        const OF_STATUS: &str = "SELECT task, item, status, body FROM items
            WHERE workflow = $1 AND task = $2 AND item > $3 AND status = $5 ORDER BY item LIMIT $4";
        let sql = if wanted.status.is_some() { OF_STATUS } else { ALL };
        let mut query = sqlx::query(sql)
            .bind(text(workflow))
            .bind(i64::from(task))
            .bind(wanted.after.map_or(-1, i64::from))
            .bind(page(wanted.limit));
        if let Some(status) = &wanted.status {
            query = query.bind(status);
        }
        self.all(query, item_of, |item| item.body.len()).await
    }

    pub async fn some_items(&mut self, workflow: Id, task: u32, items: &[u32]) -> Result<Vec<Item>, Failed> {
        let numbers = serde_json::json!(items).to_string();
        let query = sqlx::query(SOME_ITEMS).bind(text(workflow)).bind(i64::from(task)).bind(numbers);
        self.all(query, item_of, |item| item.body.len()).await
    }

    pub async fn cell(&mut self, workflow: Id, space: &str, key: &str) -> Result<Option<Cell>, Failed> {
        const SQL: &str = "SELECT key, body FROM cells WHERE workflow = $1 AND space = $2 AND key = $3";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(space).bind(key);
        Ok(self.cells_of(space, query).await?.pop())
    }

    pub async fn cells(
        &mut self,
        workflow: Id,
        space: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Cell>, Failed> {
        const SQL: &str = "SELECT key, body FROM cells
            WHERE workflow = $1 AND space = $2 AND (CAST($3 AS text) IS NULL OR key > $3) ORDER BY key LIMIT $4";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(space).bind(after).bind(page(limit));
        self.cells_of(space, query).await
    }

    async fn cells_of(&mut self, space: &str, query: Query<'_, Database, Arguments>) -> Result<Vec<Cell>, Failed> {
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let rows: Vec<(String, String)> = self.all(query, read, |(_, body): &(String, String)| body.len()).await?;
        Ok(rows.into_iter().map(|(key, body)| Cell { space: space.to_owned(), key, body }).collect())
    }

    pub async fn events(&mut self, workflow: Id, from: u64, limit: u32) -> Result<Vec<Event>, Failed> {
        const SQL: &str = "SELECT seq, at, kind, body FROM events WHERE workflow = $1 AND seq >= $2
            ORDER BY seq LIMIT $3";
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let query = sqlx::query(SQL).bind(text(workflow)).bind(from).bind(page(limit));
        let read = |row: &Row| {
            Ok(Event { seq: big(row, 0)?, at: time(row, 1)?, kind: row.try_get(2)?, body: row.try_get(3)? })
        };
        self.all(query, read, |event| event.body.len()).await
    }

    pub async fn inbox(&mut self, workflow: Id, limit: i64) -> Result<Vec<Received>, Failed> {
        const SQL: &str = "SELECT seq, source, attempt, kind, at, body FROM inbox
            WHERE workflow = $1 AND used IS NULL ORDER BY seq LIMIT $2";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(limit);
        self.all(query, received_of, |received| received.message.body.len()).await
    }

    pub async fn outbox(&mut self, workflow: Id, limit: u32) -> Result<Vec<TakenLaunch>, Failed> {
        const SQL: &str = "SELECT workflow, id, kind, due, tries, body FROM outbox WHERE workflow = $1
            ORDER BY id LIMIT $2";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(page(limit));
        self.all(query, taken_of, |taken| taken.launch.body.len()).await
    }

    pub async fn timers(&mut self, workflow: Id, after: Option<&str>, limit: u32) -> Result<Vec<Timer>, Failed> {
        const SQL: &str = "SELECT key, due, body FROM timers
            WHERE workflow = $1 AND (CAST($2 AS text) IS NULL OR key > $2) ORDER BY key LIMIT $3";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(after).bind(page(limit));
        self.all(query, timer_of, |timer| timer.body.len()).await
    }

    pub async fn due_timers(&mut self, workflow: Id, now: Timestamp, limit: u32) -> Result<Vec<Timer>, Failed> {
        const SQL: &str = "SELECT key, due, body FROM timers
            WHERE workflow = $1 AND due <= $2 ORDER BY due, key LIMIT $3";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(now.micros()).bind(page(limit));
        self.all(query, timer_of, |timer| timer.body.len()).await
    }

    pub async fn documents(
        &mut self,
        workflow: Id,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DocumentInfo>, Failed> {
        const SQL: &str = "SELECT key, size, hash FROM documents
            WHERE workflow = $1 AND (CAST($2 AS text) IS NULL OR key > $2) ORDER BY key LIMIT $3";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(after).bind(page(limit));
        self.all(query, info_of, |_| 0).await
    }

    pub async fn document_info(&mut self, workflow: Id, key: &str) -> Result<Option<DocumentInfo>, Failed> {
        const SQL: &str = "SELECT key, size, hash FROM documents WHERE workflow = $1 AND key = $2";
        Ok(self.all(sqlx::query(SQL).bind(text(workflow)).bind(key), info_of, |_| 0).await?.pop())
    }

    /// One statement, so that no half of a document that is being put anew is seen.
    pub async fn document(&mut self, workflow: Id, key: &str) -> Result<Option<Vec<u8>>, Failed> {
        const SQL: &str = "SELECT d.key, d.size, d.hash, c.data FROM documents d
            LEFT JOIN chunks c ON c.workflow = d.workflow AND c.key = d.key
            WHERE d.workflow = $1 AND d.key = $2 ORDER BY c.chunk";
        let query = sqlx::query(SQL).bind(text(workflow)).bind(key);
        let read = |row: &Row| Ok((info_of(row)?, row.try_get::<Option<Vec<u8>>, _>(3)?.unwrap_or_default()));
        let rows = self.all(query, read, |(_, chunk)| chunk.len()).await?;
        let Some((info, _)) = rows.first() else { return Ok(None) };
        let (size, hash) = (info.size, info.hash);
        let chunks = rows.into_iter().map(|(_, chunk)| chunk).collect();
        unpack(workflow, size, hash, chunks).await.map(Some).map_err(|error: StateError| Failed::State(error))
    }

    pub async fn next_due(&mut self) -> Result<Option<Timestamp>, Failed> {
        const SQL: &str = "SELECT min(at) FROM (
            SELECT min(due) AS at FROM workflows WHERE due IS NOT NULL
            UNION ALL SELECT min(at) AS at FROM outbox
        ) AS both_of_them";
        let read = |row: &Row| row.try_get::<Option<i64>, _>(0);
        let due = self.all(sqlx::query(SQL), read, |_| 0).await?.pop().flatten();
        Ok(due.map(Timestamp::from_micros))
    }
}
