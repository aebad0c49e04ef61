//! The tables: made and brought up to date at the start. Migrations only add.

use sqlx::{Row as _, SqliteConnection};

use super::failure::failure;
use crate::error::OpenError;

/// In order; the number of a format is its place, from 1.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

/// The format that this version writes.
pub const FORMAT: i64 = MIGRATIONS.len() as i64;

pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let sql = |error: sqlx::Error| OpenError::State(failure(&error));
    sqlx::raw_sql("BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS workflow_format (format INTEGER NOT NULL) STRICT")
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    let row = sqlx::query("SELECT format FROM workflow_format").fetch_optional(&mut *connection).await.map_err(sql)?;
    let found: i64 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(sql)?;
    if found > FORMAT {
        return Err(OpenError::Newer { found, known: FORMAT });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        sqlx::raw_sql(*migration).execute(&mut *connection).await.map_err(sql)?;
    }
    sqlx::raw_sql("DELETE FROM workflow_format").execute(&mut *connection).await.map_err(sql)?;
    sqlx::query("INSERT INTO workflow_format VALUES ($1)").bind(FORMAT).execute(&mut *connection).await.map_err(sql)?;
    sqlx::raw_sql("COMMIT").execute(connection).await.map_err(sql)?;
    Ok(())
}
