//! The port itself, and typed access over it.

use std::fmt::Debug;

use async_trait::async_trait;
use model::{Collection, Id, Key, Resource, Versioned};

use crate::batch::{Applied, Batch};
use crate::error::StoreError;
use crate::query::Query;

/// A stored document: its JSON text and revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub id: Id,
    pub rev: u64,
    pub body: String,
}

/// Durable documents.
///
/// To ensure correctness, an adapter guarantees:
/// * when [`commit`](Store::commit) returns `Ok`, all of the batch survives any crash, and readers see it at once;
/// * when it returns an error other than `Unavailable`, none of the batch took effect;
/// * after `Unavailable` the batch took effect as a whole or not at all;
/// * batches are linearizable; a query sees no half of a batch.
///
/// Cancel safety: dropping the future of `commit` leaves the outcome open, as `Unavailable` does.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    async fn commit(&self, batch: Batch) -> Result<Vec<Applied>, StoreError>;

    async fn get(&self, collection: &'static Collection, id: Id) -> Result<Option<Document>, StoreError>;

    async fn find(&self, collection: &'static Collection, query: &Query) -> Result<Vec<Document>, StoreError>;

    /// How many match, whatever the query's limit and offset.
    async fn count(&self, collection: &'static Collection, query: &Query) -> Result<u64, StoreError>;

    /// A number that is another one after each change of the collection: at the latest when `commit` returns, whoever
    /// called it. None where other processes may change it as well.
    fn changes(&self, collection: &'static Collection) -> Option<u64> {
        let _ = collection;
        None
    }

    /// Distinct values of a field among those that match, ascending, at most `limit`.
    async fn distinct(
        &self,
        collection: &'static Collection,
        field: &'static str,
        query: &Query,
        limit: u64,
    ) -> Result<Vec<Key>, StoreError>;

    /// Keeps bytes (compressed by the adapter) under an id; equal ids hold equal bytes, so repeating is harmless.
    async fn put_blob(&self, id: Id, bytes: Vec<u8>) -> Result<(), StoreError>;

    async fn get_blob(&self, id: Id) -> Result<Option<Vec<u8>>, StoreError>;

    async fn delete_blob(&self, id: Id) -> Result<(), StoreError>;

    /// Whether the store answers and takes writes, for readiness.
    async fn check(&self) -> Result<(), StoreError>;
}

/// Typed access; implemented for every store.
#[async_trait]
pub trait StoreExt: Store {
    async fn read<T: Resource>(&self, id: Id) -> Result<Option<Versioned<T>>, StoreError> {
        self.get(T::COLLECTION, id).await?.map(typed::<T>).transpose()
    }

    async fn search<T: Resource>(&self, query: &Query) -> Result<Vec<Versioned<T>>, StoreError> {
        self.find(T::COLLECTION, query).await?.into_iter().map(typed::<T>).collect()
    }

    /// The first match.
    async fn first<T: Resource>(&self, query: &Query) -> Result<Option<Versioned<T>>, StoreError> {
        Ok(self.search::<T>(&query.clone().limit(1)).await?.into_iter().next())
    }

    async fn total<T: Resource>(&self, query: &Query) -> Result<u64, StoreError> {
        self.count(T::COLLECTION, query).await
    }

    async fn insert<T: Resource>(&self, doc: &T) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.insert(doc);
        self.commit(batch).await.map(drop)
    }

    /// True if it was inserted, false if a document with this id was there.
    async fn insert_or_ignore<T: Resource>(&self, doc: &T) -> Result<bool, StoreError> {
        let mut batch = Batch::new();
        batch.insert_or_ignore(doc);
        Ok(self.commit(batch).await?.first() == Some(&Applied::Inserted))
    }

    /// Replaces the document at `doc.rev`; returns it with its new revision.
    async fn update<T: Resource>(&self, mut doc: Versioned<T>) -> Result<Versioned<T>, StoreError> {
        let mut batch = Batch::new();
        batch.update(&doc);
        self.commit(batch).await?;
        doc.rev += 1;
        Ok(doc)
    }

    /// True if it was there.
    async fn remove<T: Resource>(&self, id: Id) -> Result<bool, StoreError> {
        let mut batch = Batch::new();
        batch.delete::<T>(id, None);
        Ok(self.commit(batch).await?.first() == Some(&Applied::Deleted))
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

fn typed<T: Resource>(document: Document) -> Result<Versioned<T>, StoreError> {
    match serde_json::from_str(&document.body) {
        Ok(doc) => Ok(Versioned { rev: document.rev, doc }),
        Err(error) => {
            Err(StoreError::Corrupt { collection: T::COLLECTION.name, id: document.id, reason: error.to_string() })
        }
    }
}
