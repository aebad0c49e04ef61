//! A [`Query`] as SQL over declared columns.

use std::fmt::Write as _;

use model::{Id, Key};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe};

use super::table::Table;
use crate::error::StoreError;
use crate::query::{Cond, Order, Query, after_prefix};

/// SQL text and what is bound to it.
#[derive(Debug)]
pub(super) struct Select {
    sql: String,
    arguments: SqliteArguments,
}

impl Select {
    /// The matching documents, in the query's order.
    pub(super) fn documents(table: &Table, query: &Query) -> Result<Self, StoreError> {
        let mut select = Self::start("SELECT id, rev, body", table, query)?;
        let mut order = String::new();
        for (place, by) in query.order.iter().enumerate() {
            let (field, direction) = match by {
                Order::Asc(field) => (field, "ASC"),
                Order::Desc(field) => (field, "DESC"),
            };
            let position = table.position(field)?;
            if place == 0 && table.is_always_indexed(position) {
                // Says nothing new, but lets the partial index serve the sort.
                let _ = write!(select.sql, " AND k_{field} IS NOT NULL");
            }
            let _ = write!(order, "k_{field} {direction}, ");
        }
        let _ = write!(select.sql, " ORDER BY {order}id");
        if query.limit.is_some() || query.offset > 0 {
            select.sql.push_str(" LIMIT ? OFFSET ?");
            select.bind(query.limit.map_or(-1, clamp))?;
            select.bind(clamp(query.offset))?;
        }
        Ok(select)
    }

    pub(super) fn count(table: &Table, query: &Query) -> Result<Self, StoreError> {
        if query.conds.is_empty() {
            // Without any condition, the pages of an index say how many entries they have.
            let sql = format!("SELECT count(*) FROM {}", table.collection.name);
            return Ok(Self { sql, arguments: SqliteArguments::default() });
        }
        Self::start("SELECT count(*)", table, query)
    }

    /// The values of a field among the matching documents.
    pub(super) fn distinct(table: &Table, field: &str, query: &Query, limit: u64) -> Result<Self, StoreError> {
        let position = table.position(field)?;
        let name = table.collection.name;
        if query.conds.is_empty() && table.leads_index(position) {
            // Steps from value to value in the index, instead of through every document.
            let sql = format!(
                "WITH RECURSIVE seen(v) AS (SELECT min(k_{field}) FROM {name} WHERE k_{field} IS NOT NULL UNION ALL \
                 SELECT (SELECT min(k_{field}) FROM {name} WHERE k_{field} > v) FROM seen WHERE v IS NOT NULL) \
                 SELECT v FROM seen WHERE v IS NOT NULL LIMIT ?"
            );
            let mut select = Self { sql, arguments: SqliteArguments::default() };
            select.bind(clamp(limit))?;
            return Ok(select);
        }
        let mut select = Self::start(&format!("SELECT DISTINCT k_{field}"), table, query)?;
        let _ = write!(select.sql, " AND k_{field} IS NOT NULL ORDER BY k_{field} LIMIT ?");
        select.bind(clamp(limit))?;
        Ok(select)
    }

    pub(super) fn into_query(self) -> sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments> {
        sqlx::query_with(AssertSqlSafe(self.sql), self.arguments)
    }

    fn start(what: &str, table: &Table, query: &Query) -> Result<Self, StoreError> {
        let sql = format!("{what} FROM {} WHERE 1", table.collection.name);
        let mut select = Self { sql, arguments: SqliteArguments::default() };
        for cond in &query.conds {
            select.condition(table, cond)?;
        }
        Ok(select)
    }

    fn condition(&mut self, table: &Table, cond: &Cond) -> Result<(), StoreError> {
        match cond {
            Cond::Eq(field, key) => self.compare(table, field, "=", key),
            Cond::Ne(field, key) => self.compare(table, field, "IS NOT", key),
            Cond::Lt(field, key) => self.compare(table, field, "<", key),
            Cond::Le(field, key) => self.compare(table, field, "<=", key),
            Cond::Gt(field, key) => self.compare(table, field, ">", key),
            Cond::Ge(field, key) => self.compare(table, field, ">=", key),
            Cond::In(field, keys) => self.one_of(table, field, keys),
            Cond::Prefix(field, prefix) => self.prefix(table, field, prefix),
            Cond::Absent(field) => self.presence(table, field, "IS NULL"),
            Cond::Present(field) => self.presence(table, field, "IS NOT NULL"),
            Cond::IdIn(ids) => self.id_in(ids),
            Cond::IdAfter(id) => {
                self.sql.push_str(" AND id > ?");
                self.bind_id(*id)
            }
        }
    }

    fn compare(&mut self, table: &Table, field: &str, operator: &str, key: &Key) -> Result<(), StoreError> {
        table.check_kind(table.position(field)?, key)?;
        let _ = write!(self.sql, " AND k_{field} {operator} ?");
        self.bind_key(key)
    }

    fn presence(&mut self, table: &Table, field: &str, test: &str) -> Result<(), StoreError> {
        table.position(field)?;
        let _ = write!(self.sql, " AND k_{field} {test}");
        Ok(())
    }

    /// Lists are bound as one JSON array: the statement stays the same for every length.
    fn one_of(&mut self, table: &Table, field: &str, keys: &[Key]) -> Result<(), StoreError> {
        if let [key] = keys {
            return self.compare(table, field, "=", key);
        }
        let position = table.position(field)?;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            table.check_kind(position, key)?;
            values.push(match key {
                Key::Text(text) => serde_json::Value::from(text.as_str()),
                Key::Int(number) => serde_json::Value::from(*number),
            });
        }
        let _ = write!(self.sql, " AND k_{field} IN (SELECT value FROM json_each(?))");
        self.bind(serde_json::Value::from(values).to_string())
    }

    fn id_in(&mut self, ids: &[Id]) -> Result<(), StoreError> {
        if let [id] = ids {
            self.sql.push_str(" AND id = ?");
            return self.bind_id(*id);
        }
        let hex: Vec<String> = ids.iter().map(Id::to_string).collect();
        self.sql.push_str(" AND id IN (SELECT unhex(value) FROM json_each(?))");
        self.bind(serde_json::Value::from(hex).to_string())
    }

    /// As a range, which an index serves; text is ordered by code point.
    fn prefix(&mut self, table: &Table, field: &str, prefix: &str) -> Result<(), StoreError> {
        table.check_kind(table.position(field)?, &Key::Text(String::new()))?;
        let _ = write!(self.sql, " AND k_{field} >= ?");
        self.bind(prefix.to_owned())?;
        if let Some(end) = after_prefix(prefix) {
            let _ = write!(self.sql, " AND k_{field} < ?");
            self.bind(end)?;
        }
        Ok(())
    }

    fn bind_key(&mut self, key: &Key) -> Result<(), StoreError> {
        match key {
            Key::Text(text) => self.bind(text.clone()),
            Key::Int(number) => self.bind(*number),
        }
    }

    fn bind_id(&mut self, id: Id) -> Result<(), StoreError> {
        self.bind(id.as_bytes().to_vec())
    }

    fn bind<'t, T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        value: T,
    ) -> Result<(), StoreError> {
        self.arguments.add(value).map_err(|error| StoreError::Misuse(error.to_string()))
    }
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
