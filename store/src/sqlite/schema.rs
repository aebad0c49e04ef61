//! Makes and extends the tables at start.

use std::collections::HashSet;
use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::OpenError;
use super::failure::failure;
use super::table::{Table, Tables};
use crate::error::StoreError;

/// The layout that this version writes. Raise it when an older version could no longer read or write correctly;
/// new collections, fields and indexes don't need it.
pub(super) const FORMAT: i64 = 1;

const FIXED: &str = "
    CREATE TABLE IF NOT EXISTS squall_meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS squall_fences (name TEXT PRIMARY KEY NOT NULL, epoch INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS squall_guard (ok INTEGER CHECK (ok)) STRICT;
    CREATE TABLE IF NOT EXISTS squall_lacking (
        collection TEXT NOT NULL, field TEXT NOT NULL, PRIMARY KEY (collection, field)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS squall_blobs (
        id BLOB PRIMARY KEY NOT NULL, upload INTEGER NOT NULL UNIQUE,
        size INTEGER NOT NULL, chunks INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS squall_blob_chunks (
        upload INTEGER NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (upload, seq)) STRICT;
";

/// Brings the database to this version's tables, in one transaction.
pub(super) async fn prepare(connection: &mut SqliteConnection, tables: &Tables) -> Result<(), OpenError> {
    run(connection, "BEGIN IMMEDIATE".to_owned()).await?;
    // Left open by an error, the transaction ends with the connection.
    prepare_within(connection, tables).await?;
    run(connection, "COMMIT".to_owned()).await?;
    Ok(())
}

async fn prepare_within(connection: &mut SqliteConnection, tables: &Tables) -> Result<(), OpenError> {
    run(connection, FIXED.to_owned()).await?;
    check_format(connection).await?;
    let present = names(connection, "table").await?;
    let indexed = names(connection, "index").await?;
    // One text: each statement by itself would cost a hop to the connection's thread.
    let mut changes = String::new();
    for table in tables.iter() {
        if present.contains(table.collection.name) {
            extend(connection, table, &mut changes).await?;
        } else {
            changes.push_str(&table.create());
            changes.push(';');
        }
        let mut wanted = HashSet::new();
        for (name, sql) in table.indexes() {
            if !indexed.contains(&name) {
                changes.push_str(&sql);
                changes.push(';');
            }
            wanted.insert(name);
        }
        drop_undeclared(table, &indexed, &wanted, &mut changes);
    }
    if !changes.is_empty() {
        run(connection, changes).await?;
    }
    load_lacking(connection, tables).await?;
    count_rows(connection, tables).await?;
    // Chunks of an upload that a crash cut short: nothing names them.
    run(connection, "DELETE FROM squall_blob_chunks WHERE upload NOT IN (SELECT upload FROM squall_blobs)".to_owned())
        .await?;
    Ok(())
}

async fn check_format(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT value FROM squall_meta WHERE name = 'format'")
        .fetch_optional(&mut *connection)
        .await
        .map_err(|e| failure(&e))?;
    match found {
        Some(found) if found > FORMAT => Err(OpenError::Newer { found, known: FORMAT }),
        Some(FORMAT) => Ok(()),
        _ => {
            let sql = format!("INSERT OR REPLACE INTO squall_meta (name, value) VALUES ('format', {FORMAT})");
            Ok(run(connection, sql).await?)
        }
    }
}

/// Adds the columns that this version declares and the table lacks.
async fn extend(connection: &mut SqliteConnection, table: &Table, changes: &mut String) -> Result<(), OpenError> {
    let name = table.collection.name;
    let rows = sqlx::query(AssertSqlSafe(format!("PRAGMA table_info({name})")))
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(|e| failure(&e))?;
    let columns: HashSet<String> =
        rows.iter().map(|row| row.try_get("name")).collect::<Result<_, _>>().map_err(|e| failure(&e))?;
    for (position, (field, _)) in table.collection.fields.iter().enumerate() {
        if !columns.contains(&format!("k_{field}")) {
            // Documents written before don't have it, until they are written again.
            let _ = write!(
                changes,
                "{}; INSERT OR IGNORE INTO squall_lacking SELECT '{name}', '{field}' WHERE EXISTS (SELECT 1 FROM {name});",
                table.add_column(position)
            );
        }
    }
    Ok(())
}

/// How many documents each table has; from then on the writer counts.
async fn count_rows(connection: &mut SqliteConnection, tables: &Tables) -> Result<(), OpenError> {
    for table in tables.iter() {
        let sql = format!("SELECT count(*) FROM {}", table.collection.name);
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| failure(&error))?;
        table.set_rows(u64::try_from(rows).ok());
    }
    Ok(())
}

/// Indexes that this version doesn't declare would only cost, and a unique one might refuse what is allowed now.
fn drop_undeclared(table: &Table, indexed: &HashSet<String>, wanted: &HashSet<String>, changes: &mut String) {
    let name = table.collection.name;
    let ours = |index: &&String| index.starts_with(&format!("i_{name}__")) || index.starts_with(&format!("u_{name}__"));
    for index in indexed.iter().filter(ours).filter(|index| !wanted.contains(*index)) {
        let _ = write!(changes, "DROP INDEX {index};");
    }
}

async fn load_lacking(connection: &mut SqliteConnection, tables: &Tables) -> Result<(), OpenError> {
    let rows = sqlx::query_as::<_, (String, String)>("SELECT collection, field FROM squall_lacking")
        .fetch_all(&mut *connection)
        .await
        .map_err(|e| failure(&e))?;
    for (collection, field) in rows {
        if let Some(table) = tables.by_name(&collection)
            && let Ok(position) = table.position(&field)
        {
            table.note_lacking(1 << position);
        }
    }
    Ok(())
}

async fn names(connection: &mut SqliteConnection, kind: &'static str) -> Result<HashSet<String>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = ?")
        .bind(kind)
        .fetch_all(&mut *connection)
        .await
        .map_err(|e| failure(&e))?;
    Ok(names.into_iter().collect())
}

async fn run(connection: &mut SqliteConnection, sql: String) -> Result<(), StoreError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.map_err(|e| failure(&e))?;
    Ok(())
}
