//! What callers hand to the writer, and the one-hop statements that carry it out.

use model::{Id, Key, Keys};
use sqlx::sqlite::{SqliteArguments, SqliteQueryResult};
use sqlx::{Arguments as _, AssertSqlSafe, Executor as _, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use std::sync::Arc;

use super::failure::{failure, is_duplicate};
use super::table::{Table, Tables};
use crate::batch::{Applied, Batch, Write};
use crate::error::StoreError;

/// What the caller gets: what each write did, or why none of it happened.
pub(super) type Outcome = Result<Vec<Applied>, StoreError>;

/// One request to the writer.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Batch),
    /// A compressed piece of a blob that is not visible yet.
    BlobChunk {
        upload: i64,
        seq: i64,
        data: Vec<u8>,
    },
    /// Makes a blob visible, with its last chunk; if it is there already, drops the upload instead.
    BlobHead {
        id: Id,
        upload: i64,
        size: i64,
        seq: i64,
        data: Vec<u8>,
    },
    DeleteBlob(Id),
    /// Proves that writes are possible.
    Probe,
}

/// A request, who waits for it, and its share of the writer's memory.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Outcome>,
    pub(super) bytes: usize,
    pub(super) _memory: OwnedSemaphorePermit,
}

/// A refused write leaves no trace and the transaction goes on; a failure ends the transaction.
#[derive(Debug)]
pub(super) enum Trouble {
    Refused(StoreError),
    Failed(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// Runs one statement, kept prepared.
pub(super) async fn run(
    connection: &mut SqliteConnection,
    sql: &Arc<str>,
    arguments: SqliteArguments,
) -> Result<SqliteQueryResult, sqlx::Error> {
    connection.execute(sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), arguments)).await
}

/// Runs one fixed statement.
pub(super) async fn run_fixed(
    connection: &mut SqliteConnection,
    sql: &'static str,
    arguments: SqliteArguments,
) -> Result<SqliteQueryResult, Trouble> {
    connection.execute(sqlx::query_with(sql, arguments)).await.map_err(|error| Trouble::Failed(failure(&error)))
}

/// Collects bound values; the types bound here always encode.
#[derive(Debug, Default)]
pub(super) struct Values(pub(super) SqliteArguments);

impl Values {
    pub(super) fn push<'t, T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        value: T,
    ) -> Result<(), StoreError> {
        self.0.add(value).map_err(|error| StoreError::Misuse(error.to_string()))
    }

    pub(super) fn push_id(&mut self, id: Id) -> Result<(), StoreError> {
        self.push(id.as_bytes().to_vec())
    }

    pub(super) fn push_key(&mut self, key: Option<Key>) -> Result<(), StoreError> {
        match key {
            Some(Key::Text(text)) => self.push(text),
            Some(Key::Int(number)) => self.push(number),
            None => self.push(None::<i64>),
        }
    }
}

pub(super) fn revision(rev: u64) -> i64 {
    i64::try_from(rev).unwrap_or(i64::MAX)
}

/// Carries out one write inside whatever transaction is open.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    tables: &Tables,
    write: Write,
) -> Result<Applied, Trouble> {
    match write {
        Write::Insert { collection, id, body, keys, or_ignore } => {
            let table = tables.get(collection)?;
            insert(connection, table, id, body, &keys, or_ignore).await
        }
        Write::Update { collection, id, rev, body, keys } => {
            let table = tables.get(collection)?;
            update(connection, table, id, rev, body, &keys).await
        }
        Write::Delete { collection, id, rev } => {
            let table = tables.get(collection)?;
            delete(connection, table, id, rev).await
        }
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    table: &Table,
    id: Id,
    body: String,
    keys: &Keys,
    or_ignore: bool,
) -> Result<Applied, Trouble> {
    let arranged = table.arrange(keys)?;
    note_lacking(connection, table, &arranged).await?;
    let mut values = Values::default();
    values.push_id(id)?;
    for key in arranged {
        values.push_key(key)?;
    }
    values.push(body)?;
    let sql = if or_ignore { &table.insert_or_ignore } else { &table.insert };
    match run(connection, sql, values.0).await {
        Ok(done) if done.rows_affected() == 0 => Ok(Applied::Present),
        Ok(_) => Ok(Applied::Inserted),
        Err(error) if is_duplicate(&error) => Err(duplicate(connection, table, id, keys, true).await),
        Err(error) => Err(Trouble::Failed(failure(&error))),
    }
}

async fn update(
    connection: &mut SqliteConnection,
    table: &Table,
    id: Id,
    rev: u64,
    body: String,
    keys: &Keys,
) -> Result<Applied, Trouble> {
    let arranged = table.arrange(keys)?;
    note_lacking(connection, table, &arranged).await?;
    let mut values = Values::default();
    for key in arranged {
        values.push_key(key)?;
    }
    values.push(body)?;
    values.push_id(id)?;
    values.push(revision(rev))?;
    match run(connection, &table.update, values.0).await {
        Ok(done) if done.rows_affected() == 0 => Err(stale(table, id, rev).into()),
        Ok(_) => Ok(Applied::Updated { rev: rev + 1 }),
        Err(error) if is_duplicate(&error) => Err(duplicate(connection, table, id, keys, false).await),
        Err(error) => Err(Trouble::Failed(failure(&error))),
    }
}

async fn delete(
    connection: &mut SqliteConnection,
    table: &Table,
    id: Id,
    rev: Option<u64>,
) -> Result<Applied, Trouble> {
    let mut values = Values::default();
    values.push_id(id)?;
    let sql = match rev {
        Some(rev) => {
            values.push(revision(rev))?;
            &table.delete_at
        }
        None => &table.delete,
    };
    match (run(connection, sql, values.0).await, rev) {
        (Ok(done), Some(rev)) if done.rows_affected() == 0 => Err(stale(table, id, rev).into()),
        (Ok(done), None) if done.rows_affected() == 0 => Ok(Applied::Absent),
        (Ok(_), _) => Ok(Applied::Deleted),
        (Err(error), _) => Err(Trouble::Failed(failure(&error))),
    }
}

pub(super) const fn stale(table: &Table, id: Id, expected: u64) -> StoreError {
    StoreError::Stale { collection: table.collection.name, id, expected }
}

/// Remembers, in the same transaction and before the document can be seen, that a leading field may be lacking.
async fn note_lacking(
    connection: &mut SqliteConnection,
    table: &Table,
    arranged: &[Option<Key>],
) -> Result<(), Trouble> {
    let bits = table.newly_lacking(arranged);
    if bits == 0 {
        return Ok(());
    }
    for field in table.fields_of(bits) {
        let mut values = Values::default();
        values.push(table.collection.name)?;
        values.push(field)?;
        run_fixed(connection, "INSERT OR IGNORE INTO squall_lacking (collection, field) VALUES (?, ?)", values.0)
            .await?;
    }
    table.note_lacking(bits);
    Ok(())
}

/// Finds out which key is taken, and by whom.
async fn duplicate(connection: &mut SqliteConnection, table: &Table, id: Id, keys: &Keys, inserting: bool) -> Trouble {
    match find_duplicate(connection, table, id, keys, inserting).await {
        Ok((fields, existing)) => {
            Trouble::Refused(StoreError::Duplicate { collection: table.collection.name, fields, existing })
        }
        Err(error) => Trouble::Failed(error),
    }
}

async fn find_duplicate(
    connection: &mut SqliteConnection,
    table: &Table,
    id: Id,
    keys: &Keys,
    inserting: bool,
) -> Result<(String, Option<Id>), StoreError> {
    let name = table.collection.name;
    let mut candidates = Vec::new();
    if inserting {
        let mut values = Values::default();
        values.push_id(id)?;
        candidates.push(("id".to_owned(), "id = ?".to_owned(), values));
    }
    for index in table.collection.indexes.iter().filter(|index| index.unique) {
        let mut values = Values::default();
        let mut tests = Vec::new();
        for field in index.fields {
            if let Some((_, key)) = keys.iter().find(|(given, _)| given == field) {
                tests.push(format!("k_{field} = ?"));
                values.push_key(Some(key.clone()))?;
            }
        }
        if tests.len() == index.fields.len() {
            tests.push("id <> ?".to_owned());
            values.push_id(id)?;
            candidates.push((index.fields.join(","), tests.join(" AND "), values));
        }
    }
    for (fields, test, values) in candidates {
        let sql = format!("SELECT id FROM {name} WHERE {test}");
        let found: Option<Vec<u8>> = sqlx::query_scalar_with(AssertSqlSafe(sql), values.0)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| failure(&error))?;
        if let Some(bytes) = found {
            return Ok((fields, <[u8; 12]>::try_from(bytes).ok().map(Id::from_bytes)));
        }
    }
    Ok(("a unique key".to_owned(), None))
}
