//! A batch made ready in the caller's task: checked, its keys in the order of the columns, its values shared so
//! that binding them, even twice, copies nothing.

use std::sync::Arc;

use model::{Id, Key, Keys};
use sqlx::Arguments as _;
use sqlx::sqlite::SqliteArguments;

use super::table::{Table, Tables};
use crate::batch::{Applied, Batch, Fence, Write};
use crate::error::StoreError;

/// What a statement does, and so which text it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Insert,
    InsertOrIgnore,
    Update,
    Delete,
    DeleteAt,
}

/// One write, ready to be bound.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) table: Arc<Table>,
    pub(super) kind: Kind,
    pub(super) id: Id,
    /// The revision that an update or a delete asks for.
    rev: u64,
    /// Empty for a delete.
    pub(super) keys: Vec<Bound>,
    body: Arc<str>,
    /// Fields that the document lacks, as bits.
    pub(super) absent: u64,
}

/// A value of a key column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Bound {
    Null,
    Text(Arc<str>),
    Int(i64),
}

/// A batch ready for the writer.
#[derive(Debug)]
pub(super) struct PreparedBatch {
    pub(super) writes: Vec<Prepared>,
    pub(super) fence: Option<Fence>,
}

impl PreparedBatch {
    pub(super) fn new(batch: Batch, tables: &Tables) -> Result<Self, StoreError> {
        let writes = batch.writes.into_iter().map(|write| Prepared::new(write, tables));
        Ok(Self { writes: writes.collect::<Result<_, _>>()?, fence: batch.fence })
    }
}

impl Prepared {
    fn new(write: Write, tables: &Tables) -> Result<Self, StoreError> {
        match write {
            Write::Insert { collection, id, body, keys, or_ignore } => {
                let kind = if or_ignore { Kind::InsertOrIgnore } else { Kind::Insert };
                Self::document(tables.get(collection)?, kind, id, 0, &body, keys)
            }
            Write::Update { collection, id, rev, body, keys } => {
                Self::document(tables.get(collection)?, Kind::Update, id, rev, &body, keys)
            }
            Write::Delete { collection, id, rev } => {
                let table = Arc::clone(tables.get(collection)?);
                let kind = if rev.is_some() { Kind::DeleteAt } else { Kind::Delete };
                let rev = rev.unwrap_or(0);
                Ok(Self { table, kind, id, rev, keys: Vec::new(), body: Arc::from(""), absent: 0 })
            }
        }
    }

    fn document(table: &Arc<Table>, kind: Kind, id: Id, rev: u64, body: &str, given: Keys) -> Result<Self, StoreError> {
        let mut keys = vec![Bound::Null; table.collection.fields.len()];
        let mut present = 0;
        for (field, key) in given {
            let position = table.position(field)?;
            table.check_kind(position, &key)?;
            present |= 1 << position;
            keys[position] = match key {
                Key::Text(text) => Bound::Text(text.into()),
                Key::Int(number) => Bound::Int(number),
            };
        }
        Ok(Self { table: Arc::clone(table), kind, id, rev, keys, body: body.into(), absent: !present })
    }

    /// The text of the statement.
    pub(super) fn sql(&self) -> &Arc<str> {
        self.table.statement(self.kind)
    }

    /// Whether it must have changed exactly one document, or else be refused.
    pub(super) const fn is_conditional(&self) -> bool {
        matches!(self.kind, Kind::Update | Kind::DeleteAt)
    }

    /// Appends the values of the statement's marks, in their order.
    pub(super) fn bind(&self, values: &mut Values) -> Result<(), StoreError> {
        match self.kind {
            Kind::Insert | Kind::InsertOrIgnore => {
                values.push_id(self.id)?;
                self.bind_document(values)
            }
            Kind::Update => {
                self.bind_document(values)?;
                values.push_id(self.id)?;
                values.push(revision(self.rev))
            }
            Kind::Delete => values.push_id(self.id),
            Kind::DeleteAt => {
                values.push_id(self.id)?;
                values.push(revision(self.rev))
            }
        }
    }

    fn bind_document(&self, values: &mut Values) -> Result<(), StoreError> {
        for key in &self.keys {
            values.push_bound(key)?;
        }
        values.push(Arc::clone(&self.body))
    }

    /// What the statement did, by the number of documents that it changed.
    pub(super) fn applied(&self, changed: u64) -> Result<Applied, StoreError> {
        match (self.kind, changed) {
            (Kind::Insert | Kind::InsertOrIgnore, 0) => Ok(Applied::Present),
            (Kind::Insert | Kind::InsertOrIgnore, _) => Ok(Applied::Inserted),
            (Kind::Update | Kind::DeleteAt, 0) => Err(self.stale()),
            (Kind::Update, _) => Ok(Applied::Updated { rev: self.rev + 1 }),
            (Kind::Delete, 0) => Ok(Applied::Absent),
            (Kind::Delete | Kind::DeleteAt, _) => Ok(Applied::Deleted),
        }
    }

    pub(super) fn stale(&self) -> StoreError {
        StoreError::Stale { collection: self.table.collection.name, id: self.id, expected: self.rev }
    }
}

pub(super) fn revision(rev: u64) -> i64 {
    i64::try_from(rev).unwrap_or(i64::MAX)
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

    pub(super) fn push_bound(&mut self, value: &Bound) -> Result<(), StoreError> {
        match value {
            Bound::Null => self.push(None::<i64>),
            Bound::Text(text) => self.push(Arc::clone(text)),
            Bound::Int(number) => self.push(*number),
        }
    }
}
