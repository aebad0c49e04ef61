//! What callers hand to the writer, and single statements.

use model::Id;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Executor as _, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::failure::failure;
use super::prepared::{Bound, Kind, Prepared, PreparedBatch, Values};
use crate::batch::Applied;
use crate::error::StoreError;

/// What the caller gets: what each write did, or why none of it happened.
pub(super) type Outcome = Result<Vec<Applied>, StoreError>;

/// One request to the writer.
#[derive(Debug)]
pub(super) enum Work {
    Commit(PreparedBatch),
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
    /// Removes the chunks of an upload that failed.
    DropUpload(i64),
    DeleteBlob(Id),
    /// Proves that writes are possible.
    Probe,
}

/// A request, who waits for it, and its share of the memory for what waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Outcome>,
    pub(super) bytes: usize,
    pub(super) memory: OwnedSemaphorePermit,
}

/// Runs one statement without values, kept prepared.
pub(super) async fn run_fixed(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    run_bound(connection, sql, Values::default()).await.map(drop)
}

/// Runs one statement, kept prepared; returns how many rows it changed.
pub(super) async fn run_bound(
    connection: &mut SqliteConnection,
    sql: &'static str,
    values: Values,
) -> Result<u64, StoreError> {
    let done = connection.execute(sqlx::query_with::<sqlx::Sqlite, SqliteArguments>(sql, values.0)).await;
    done.map(|done| done.rows_affected()).map_err(|error| failure(&error))
}

/// Remembers, in the same transaction and before the document can be seen, that leading fields may be lacking.
pub(super) async fn note_lacking(connection: &mut SqliteConnection, write: &Prepared) -> Result<(), StoreError> {
    let bits = write.table.newly_lacking(write.absent);
    if bits == 0 {
        return Ok(());
    }
    for field in write.table.fields_of(bits) {
        let mut values = Values::default();
        values.push(write.table.collection.name)?;
        values.push(field)?;
        run_bound(connection, "INSERT OR IGNORE INTO squall_lacking (collection, field) VALUES (?, ?)", values).await?;
    }
    write.table.note_lacking(bits);
    Ok(())
}

/// Finds out which key of a refused write is taken, and by whom.
pub(super) async fn find_duplicate(
    connection: &mut SqliteConnection,
    write: &Prepared,
) -> Result<StoreError, StoreError> {
    let collection = write.table.collection;
    let mut candidates = Vec::new();
    if matches!(write.kind, Kind::Insert) {
        let mut values = Values::default();
        values.push_id(write.id)?;
        candidates.push(("id".to_owned(), "id = ?".to_owned(), values));
    }
    for index in collection.indexes.iter().filter(|index| index.unique) {
        let mut values = Values::default();
        let mut tests = Vec::new();
        for field in index.fields {
            let key = &write.keys[write.table.position(field)?];
            if *key != Bound::Null {
                tests.push(format!("k_{field} = ?"));
                values.push_bound(key)?;
            }
        }
        if tests.len() == index.fields.len() {
            tests.push("id <> ?".to_owned());
            values.push_id(write.id)?;
            candidates.push((index.fields.join(","), tests.join(" AND "), values));
        }
    }
    for (fields, test, values) in candidates {
        let sql = format!("SELECT id FROM {} WHERE {test}", collection.name);
        let found: Option<Vec<u8>> = sqlx::query_scalar_with(AssertSqlSafe(sql), values.0)
            .persistent(false)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| failure(&error))?;
        if let Some(bytes) = found {
            let existing = <[u8; 12]>::try_from(bytes).ok().map(Id::from_bytes);
            return Ok(StoreError::Duplicate { collection: collection.name, fields, existing });
        }
    }
    Ok(StoreError::Duplicate { collection: collection.name, fields: "a unique key".to_owned(), existing: None })
}
