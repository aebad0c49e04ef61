//! The tables: made and brought up to date at the start, by one node at a time.
//!
//! Migrations only add: nodes of the version before go on working while the newer ones start.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::failure::failure;
use super::options::PostgresOptions;
use crate::error::OpenError;

/// In order; the number of a format is its place, from 1.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

/// The format that this version writes.
pub const FORMAT: i64 = MIGRATIONS.len() as i64;

pub(super) async fn migrate(connection: &mut PgConnection, options: &PostgresOptions) -> Result<(), OpenError> {
    let sql = |error: sqlx::Error| OpenError::State(failure(&error));
    // Whoever comes second waits for the first; the statement timeout bounds it. Transactions are ended by hand:
    // after an error the connection is thrown away, and the transaction with it.
    sqlx::raw_sql("BEGIN; SET LOCAL lock_timeout = 0").execute(&mut *connection).await.map_err(sql)?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('squall workflow ' || $1, 0))")
        .bind(&options.schema)
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    let there = sqlx::query("SELECT 1 FROM pg_namespace WHERE nspname = $1")
        .bind(&options.schema)
        .fetch_optional(&mut *connection)
        .await
        .map_err(sql)?;
    if there.is_none() {
        let create = format!("CREATE SCHEMA \"{}\"", options.schema);
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await.map_err(sql)?;
    }
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS workflow_format (only_row boolean PRIMARY KEY CHECK (only_row), format bigint NOT NULL)")
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    let row = sqlx::query("SELECT format FROM workflow_format").fetch_optional(&mut *connection).await.map_err(sql)?;
    let found: i64 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(sql)?;
    if found > FORMAT {
        return Err(OpenError::Newer { found, known: FORMAT });
    }
    for (place, migration) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        tracing::info!(format = place + 1, schema = %options.schema, "migrating the workflow state");
        sqlx::raw_sql(*migration).execute(&mut *connection).await.map_err(sql)?;
    }
    sqlx::query(
        "INSERT INTO workflow_format VALUES (true, $1) ON CONFLICT (only_row) DO UPDATE SET format = excluded.format
        WHERE workflow_format.format < excluded.format",
    )
    .bind(FORMAT)
    .execute(&mut *connection)
    .await
    .map_err(sql)?;
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map_err(sql)?;
    Ok(())
}
