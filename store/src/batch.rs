//! Atomic changes.

use model::{Collection, Id, Keys, Resource, Versioned};

/// One write of a batch.
#[derive(Debug, Clone)]
pub enum Write {
    /// Adds a document with revision 1. With `or_ignore`, a document that is there under the same **id** is left as
    /// it is ([`Applied::Present`]); without, it is [`crate::StoreError::Duplicate`]. Unique keys always are.
    Insert { collection: &'static Collection, id: Id, body: String, keys: Keys, or_ignore: bool },
    /// Replaces the document if it is at revision `rev`, which then goes up by one; else `Stale`.
    Update { collection: &'static Collection, id: Id, rev: u64, body: String, keys: Keys },
    /// Removes the document if it is at `rev` (any, if none is given). One that isn't there: `Stale` with a given
    /// revision, [`Applied::Absent`] without.
    Delete { collection: &'static Collection, id: Id, rev: Option<u64> },
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Inserted,
    /// It was there already.
    Present,
    Updated {
        rev: u64,
    },
    Deleted,
    Absent,
}

/// A duty's epoch: a batch that carries an older one than the store has seen is refused (invariant K2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub name: String,
    pub epoch: u64,
}

/// Writes that take effect together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub writes: Vec<Write>,
    pub fence: Option<Fence>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries the epoch of the duty under which the writes are made.
    pub fn under(fence: Fence) -> Self {
        Self { writes: Vec::new(), fence: Some(fence) }
    }

    pub fn insert<T: Resource>(&mut self, doc: &T) -> &mut Self {
        self.push_insert(doc, false)
    }

    /// For derived ids: repeating the step changes nothing.
    pub fn insert_or_ignore<T: Resource>(&mut self, doc: &T) -> &mut Self {
        self.push_insert(doc, true)
    }

    fn push_insert<T: Resource>(&mut self, doc: &T, or_ignore: bool) -> &mut Self {
        self.writes.push(Write::Insert {
            collection: T::COLLECTION,
            id: doc.id(),
            body: body_of(doc),
            keys: doc.keys(),
            or_ignore,
        });
        self
    }

    /// Replaces the document, provided it is still at the revision of `doc`.
    pub fn update<T: Resource>(&mut self, doc: &Versioned<T>) -> &mut Self {
        self.writes.push(Write::Update {
            collection: T::COLLECTION,
            id: doc.doc.id(),
            rev: doc.rev,
            body: body_of(&doc.doc),
            keys: doc.doc.keys(),
        });
        self
    }

    pub fn delete<T: Resource>(&mut self, id: Id, rev: Option<u64>) -> &mut Self {
        self.writes.push(Write::Delete { collection: T::COLLECTION, id, rev });
        self
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// Resources are structs of JSON-able fields: serialising them can't fail.
fn body_of<T: Resource>(doc: &T) -> String {
    serde_json::to_string(doc).unwrap_or_default()
}
