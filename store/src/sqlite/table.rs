//! A collection as a table: names of columns and indexes, and the statements on single documents.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Collection, Key, KeyKind};

use super::prepared::Kind;
use crate::batch::Applied;
use crate::error::StoreError;

/// Most declared fields of a collection: they are numbered by the bits of a word.
const MAX_FIELDS: usize = 64;

/// One collection's table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) collection: &'static Collection,
    /// Its place among the tables of this store.
    pub(super) number: usize,
    insert: Arc<str>,
    /// Leaves a document of the same id alone.
    insert_or_ignore: Arc<str>,
    update: Arc<str>,
    delete: Arc<str>,
    delete_at: Arc<str>,
    pub(super) get: Arc<str>,
    /// Fields that come first in an index.
    leading: u64,
    /// Of those, the ones that some document has lacked at some time. An index leaves out documents that lack its
    /// first field, so only where none does may it serve a sort.
    lacking: AtomicU64,
    /// How many documents there are, kept by the writer: counting walks an index, which lists of many thousands of
    /// documents would do for every page. [`UNCOUNTED`] after a write whose outcome isn't known.
    rows: AtomicU64,
    /// How often the writer tried to change it.
    changes: AtomicU64,
}

const UNCOUNTED: u64 = u64::MAX;

impl Table {
    pub(super) fn new(collection: &'static Collection, number: usize) -> Result<Self, StoreError> {
        let name = collection.name;
        if collection.fields.len() > MAX_FIELDS {
            return Err(StoreError::Misuse(format!("{name} declares more than {MAX_FIELDS} fields")));
        }
        let columns: String = collection.fields.iter().fold(String::new(), |mut text, (field, _)| {
            let _ = write!(text, ", k_{field}");
            text
        });
        let assignments: String = collection.fields.iter().fold(String::new(), |mut text, (field, _)| {
            let _ = write!(text, ", k_{field} = ?");
            text
        });
        let marks = ", ?".repeat(collection.fields.len());
        let mut table = Self {
            collection,
            number,
            insert: format!("INSERT INTO {name} (id, rev{columns}, body) VALUES (?, 1{marks}, ?)").into(),
            insert_or_ignore: format!(
                "INSERT INTO {name} (id, rev{columns}, body) VALUES (?, 1{marks}, ?) ON CONFLICT (id) DO NOTHING"
            )
            .into(),
            update: format!("UPDATE {name} SET rev = rev + 1{assignments}, body = ? WHERE id = ? AND rev = ?").into(),
            delete: format!("DELETE FROM {name} WHERE id = ?").into(),
            delete_at: format!("DELETE FROM {name} WHERE id = ? AND rev = ?").into(),
            get: format!("SELECT id, rev, body FROM {name} WHERE id = ?").into(),
            leading: 0,
            lacking: AtomicU64::new(0),
            rows: AtomicU64::new(UNCOUNTED),
            changes: AtomicU64::new(0),
        };
        for index in collection.indexes {
            for (place, field) in index.fields.iter().enumerate() {
                let position = table.position(field)?;
                table.leading |= u64::from(place == 0) << position;
            }
        }
        Ok(table)
    }

    /// Where the field is declared; asking for another is the caller's mistake.
    pub(super) fn position(&self, field: &str) -> Result<usize, StoreError> {
        self.collection
            .fields
            .iter()
            .position(|(declared, _)| *declared == field)
            .ok_or_else(|| StoreError::Misuse(format!("{} declares no field {field}", self.collection.name)))
    }

    /// The field's kind agrees with the key's.
    pub(super) fn check_kind(&self, position: usize, key: &Key) -> Result<(), StoreError> {
        let (field, kind) = self.collection.fields[position];
        match (kind, key) {
            (KeyKind::Text, Key::Text(_)) | (KeyKind::Int, Key::Int(_)) => Ok(()),
            _ => Err(StoreError::Misuse(format!("{}.{field} is declared as {kind:?}", self.collection.name))),
        }
    }

    /// The statement of a write.
    pub(super) const fn statement(&self, kind: Kind) -> &Arc<str> {
        match kind {
            Kind::Insert => &self.insert,
            Kind::InsertOrIgnore => &self.insert_or_ignore,
            Kind::Update => &self.update,
            Kind::Delete => &self.delete,
            Kind::DeleteAt => &self.delete_at,
        }
    }

    /// Of the fields that a document lacks, the leading ones that were never lacking before; all as bits.
    pub(super) fn newly_lacking(&self, absent: u64) -> u64 {
        absent & self.leading & !self.lacking.load(Ordering::Acquire)
    }

    pub(super) fn note_lacking(&self, bits: u64) {
        self.lacking.fetch_or(bits, Ordering::AcqRel);
    }

    /// How many documents there are, if that is known.
    pub(super) fn rows(&self) -> Option<u64> {
        Some(self.rows.load(Ordering::Acquire)).filter(|rows| *rows != UNCOUNTED)
    }

    /// None: not known any more.
    pub(super) fn set_rows(&self, rows: Option<u64>) {
        self.rows.store(rows.unwrap_or(UNCOUNTED), Ordering::Release);
    }

    /// Counts what the writer did; only the writer calls it.
    pub(super) fn note(&self, applied: &Applied) {
        if let Some(rows) = self.rows() {
            match applied {
                Applied::Inserted => self.set_rows(Some(rows + 1)),
                Applied::Deleted => self.set_rows(rows.checked_sub(1)),
                _ => {}
            }
        }
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Only the writer calls it, between a commit and its answer.
    pub(super) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The names of the fields behind bits.
    pub(super) fn fields_of(&self, bits: u64) -> impl Iterator<Item = &'static str> {
        self.collection
            .fields
            .iter()
            .enumerate()
            .filter(move |(i, _)| bits & (1 << i) != 0)
            .map(|(_, (field, _))| *field)
    }

    /// Every document has this field, and an index begins with it.
    pub(super) fn is_always_indexed(&self, position: usize) -> bool {
        self.leading & !self.lacking.load(Ordering::Acquire) & (1 << position) != 0
    }

    /// An index begins with this field, so its values can be walked.
    pub(super) const fn leads_index(&self, position: usize) -> bool {
        self.leading & (1 << position) != 0
    }

    /// `CREATE TABLE`; keys come before the body, so that reading them never walks through a long body.
    pub(super) fn create(&self) -> String {
        let mut sql =
            format!("CREATE TABLE {} (id BLOB PRIMARY KEY NOT NULL, rev INTEGER NOT NULL", self.collection.name);
        for (field, kind) in self.collection.fields {
            let _ = write!(sql, ", k_{field} {}", column_type(*kind));
        }
        sql.push_str(", body TEXT NOT NULL) STRICT");
        sql
    }

    /// `ALTER TABLE` for a field that a newer version declares.
    pub(super) fn add_column(&self, position: usize) -> String {
        let (field, kind) = self.collection.fields[position];
        format!("ALTER TABLE {} ADD COLUMN k_{field} {}", self.collection.name, column_type(kind))
    }

    /// Names and statements of the declared indexes.
    pub(super) fn indexes(&self) -> impl Iterator<Item = (String, String)> {
        let name = self.collection.name;
        self.collection.indexes.iter().map(move |index| {
            let columns: Vec<String> = index.fields.iter().map(|field| format!("k_{field}")).collect();
            let (kind, prefix) = if index.unique { ("UNIQUE INDEX", "u") } else { ("INDEX", "i") };
            let index_name = format!("{prefix}_{name}__{}", index.fields.join("__"));
            let mut listed = columns.join(", ");
            if !index.unique {
                // Equal keys come out in the order that ties are broken by.
                listed.push_str(", id");
            }
            let sql = format!("CREATE {kind} {index_name} ON {name} ({listed}) WHERE {} IS NOT NULL", columns[0]);
            (index_name, sql)
        })
    }
}

const fn column_type(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Text => "TEXT",
        KeyKind::Int => "INTEGER",
    }
}

/// The tables by their collection's name.
#[derive(Debug)]
pub(super) struct Tables(HashMap<&'static str, Arc<Table>>);

impl Tables {
    pub(super) fn new(collections: &[&'static Collection]) -> Result<Self, StoreError> {
        let tables = collections
            .iter()
            .enumerate()
            .map(|(number, collection)| Ok((collection.name, Arc::new(Table::new(collection, number)?))));
        Ok(Self(tables.collect::<Result<_, StoreError>>()?))
    }

    pub(super) fn get(&self, collection: &'static Collection) -> Result<&Arc<Table>, StoreError> {
        self.0
            .get(collection.name)
            .ok_or_else(|| StoreError::Misuse(format!("the store was opened without {}", collection.name)))
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Table>> {
        self.0.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.0.values()
    }
}
