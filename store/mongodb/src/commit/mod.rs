//! Commits: one operation for one write, a transaction for more, group commit under a fence.

mod abandoned;
mod grouped;
mod single;
mod transaction;

use std::sync::Arc;

use model::{Collection, Id, Keys};
use mongodb::bson::{Document as Fields, doc};
use store::batch::Write;
use store::limits::check_batch;
use store::{Applied, Batch, StoreError};
use tokio_util::task::TaskTracker;

use crate::documents::{name, value};
use crate::queries::holder;
use crate::schema::index_name;
use crate::store::Inner;
pub(crate) use abandoned::LastLook;
use grouped::Grouped;
pub(crate) use transaction::FENCES;

/// Where batches go in.
///
/// Each runs in a task of its own, so that a caller who gives up doesn't leave a transaction open: it would hold its
/// documents until the server's own timeout.
#[derive(Debug)]
pub(crate) struct Committer {
    inner: Arc<Inner>,
    grouped: Grouped,
    running: TaskTracker,
}

impl Committer {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { grouped: Grouped::new(inner.clone()), inner, running: TaskTracker::new() }
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<Vec<Applied>, StoreError> {
        check_batch(&batch)?;
        check_fields(&self.inner, &batch)?;
        if batch.fence.is_some() {
            return self.grouped.commit(batch).await;
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let inner = self.inner.clone();
        let task = self.running.spawn(async move {
            let commit = async {
                match &batch.writes[..] {
                    [write] => Ok(vec![single::commit(&inner, write).await?]),
                    _ => transaction::commit(&inner, &batch).await,
                }
            };
            abandoned::clearing(&inner, commit).await
        });
        task.await.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("a commit was cut short: {error}"))))
    }

    /// Waits for what is under way; each commit has its deadline.
    pub(crate) async fn close(&self) {
        self.grouped.close().await;
        self.running.close();
        self.running.wait().await;
    }
}

/// The caller's mistakes, before anything is sent.
fn check_fields(inner: &Inner, batch: &Batch) -> Result<(), StoreError> {
    for write in &batch.writes {
        let (collection, keys) = match write {
            Write::Insert { collection, keys, .. } | Write::Update { collection, keys, .. } => (collection, Some(keys)),
            Write::Delete { collection, .. } => (collection, None),
        };
        inner.collection(collection)?;
        for (field, key) in keys.into_iter().flatten() {
            name(collection, field, Some(key))?;
        }
    }
    Ok(())
}

/// The error for a write that the unique index of this name refused.
async fn duplicate(
    inner: &Inner,
    collection: &'static Collection,
    id: Id,
    keys: &Keys,
    index: &str,
) -> Result<StoreError, StoreError> {
    if index == "_id_" || index.is_empty() {
        return Ok(StoreError::Duplicate { collection: collection.name, fields: "id".to_owned(), existing: Some(id) });
    }
    let declared = collection.indexes.iter().find(|declared| index_name(declared) == index);
    let Some(declared) = declared else {
        return Ok(StoreError::Duplicate { collection: collection.name, fields: index.to_owned(), existing: None });
    };
    let mut filter = Fields::new();
    for field in declared.fields {
        if let Some((_, key)) = keys.iter().find(|(name, _)| name == field) {
            filter.insert(name(collection, field, Some(key))?, value(key));
        }
    }
    let existing = holder(inner, &inner.collection(collection)?, filter).await?;
    Ok(StoreError::Duplicate { collection: collection.name, fields: declared.fields.join(","), existing })
}

const fn stale(collection: &Collection, id: Id, rev: u64) -> StoreError {
    StoreError::Stale { collection: collection.name, id, expected: rev }
}

/// The condition under which an update or a delete takes effect.
fn at(id: Id, rev: i64) -> Fields {
    doc! {"_id": crate::documents::object_id(id), "rev": rev}
}
