//! The store itself: the port over the other modules.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use model::{Collection, Id, Key};
use mongodb::bson::{Document as Fields, doc};
use mongodb::{Client, Database};
use rand::Rng;
use store::{Applied, Batch, Document, Query, Store, StoreError};
use tokio::time::Instant;

use crate::commit::{Committer, LastLook};
use crate::documents::{document, object_id};
use crate::failure::{Failure, OpenError, classify};
use crate::options::{MongoOptions, majority};
use crate::{blobs, queries, schema};

/// How long `check` waits.
const CHECK: Duration = Duration::from_millis(900);
/// First and longest pause before an operation is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// What the modules need of an open store.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) prefix: String,
    pub(crate) deadline: Duration,
    pub(crate) last_look: LastLook,
    known: HashMap<&'static str, &'static Collection>,
}

/// See the crate.
pub struct MongoStore {
    pub(crate) inner: std::sync::Arc<Inner>,
    committer: Committer,
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { database, prefix, .. } = &*self.inner;
        f.debug_struct("MongoStore").field("database", &database.name()).field("prefix", prefix).finish_non_exhaustive()
    }
}

/// Repeats an operation while its errors pass, until the deadline.
pub(crate) struct Attempts {
    pub(crate) end: Instant,
    pause: Duration,
    /// An earlier attempt may have taken effect.
    pub(crate) open: bool,
}

impl Attempts {
    pub(crate) fn new(within: Duration) -> Self {
        Self { end: Instant::now() + within, pause: PAUSE.0, open: false }
    }

    /// Sleeps before the next attempt; the error to give up with if there is no time for one.
    pub(crate) async fn again(&mut self, why: String) -> Result<(), StoreError> {
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
        if Instant::now() + pause >= self.end {
            return Err(StoreError::Unavailable(why));
        }
        metrics::counter!("squall_store_retries_total").increment(1);
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        Ok(())
    }

    pub(crate) fn late(&self) -> StoreError {
        StoreError::Unavailable("no answer in time".to_owned())
    }
}

/// Does something that only reads, or may be repeated, until it works or the deadline has passed.
///
/// A macro and not a function with a closure: what an async closure borrows keeps futures from being `Send`.
macro_rules! reading {
    ($inner:expr, $read:expr) => {{
        let mut attempts = $crate::store::Attempts::new($inner.deadline);
        loop {
            let read = async { Ok::<_, mongodb::error::Error>($read) };
            let error = match tokio::time::timeout_at(attempts.end, read).await {
                Err(_) => break Err(attempts.late()),
                Ok(Ok(found)) => break Ok(found),
                Ok(Err(error)) => error,
            };
            match $crate::failure::classify(&error) {
                $crate::failure::Failure::Passing(text) | $crate::failure::Failure::Open(text) => {
                    if let Err(error) = attempts.again(text).await {
                        break Err(error);
                    }
                }
                $crate::failure::Failure::Final(error) => break Err(error),
                $crate::failure::Failure::Duplicate(text) => break Err(store::StoreError::Unavailable(text)),
            }
        }
    }};
}
pub(crate) use reading;

impl Inner {
    /// The stored collection; asking for one that isn't declared is the caller's mistake.
    pub(crate) fn collection(&self, collection: &Collection) -> Result<mongodb::Collection<Fields>, StoreError> {
        if !self.known.contains_key(collection.name) {
            return Err(StoreError::Misuse(format!("collection {} is not kept here", collection.name)));
        }
        Ok(self.database.collection(&self.full(collection.name)))
    }

    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(crate) fn own(&self, name: &str) -> mongodb::Collection<Fields> {
        self.database.collection(&self.full(name))
    }
}

impl MongoStore {
    /// Connects, and makes collections and indexes where they are missing.
    ///
    /// # Errors
    /// [`OpenError::is_retryable`] tells whether the servers are only away.
    pub async fn open(options: MongoOptions) -> Result<Self, OpenError> {
        let client =
            Client::with_options(options.client().await?).map_err(|error| OpenError::Uri(error.to_string()))?;
        let database = client.database(&options.database);
        let prepared = schema::prepare(&database, &options.prefix, &options.collections);
        match tokio::time::timeout(options.deadline * 3, prepared).await {
            Ok(prepared) => prepared?,
            Err(_) => return Err(StoreError::Unavailable("no answer in time".to_owned()).into()),
        }
        let known = options.collections.iter().map(|collection| (collection.name, *collection)).collect();
        let (prefix, deadline) = (options.prefix, options.deadline);
        let inner = Inner { client, database, prefix, deadline, last_look: LastLook::default(), known };
        let inner = std::sync::Arc::new(inner);
        blobs::remove_leftovers(&inner).await?;
        Ok(Self { committer: Committer::new(inner.clone()), inner })
    }

    /// Ends the connections; what is called afterwards is `Unavailable`.
    pub async fn close(&self) {
        self.committer.close().await;
        self.inner.client.clone().shutdown().immediate(true).await;
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn commit(&self, batch: Batch) -> Result<Vec<Applied>, StoreError> {
        self.committer.commit(batch).await
    }

    async fn get(&self, collection: &'static Collection, id: Id) -> Result<Option<Document>, StoreError> {
        let stored = self.inner.collection(collection)?;
        let found = reading!(self.inner, stored.find_one(doc! {"_id": object_id(id)}).await?)?;
        found.as_ref().map(document).transpose()
    }

    async fn find(&self, collection: &'static Collection, query: &Query) -> Result<Vec<Document>, StoreError> {
        queries::find(&self.inner, collection, query).await
    }

    async fn count(&self, collection: &'static Collection, query: &Query) -> Result<u64, StoreError> {
        queries::count(&self.inner, collection, query).await
    }

    async fn distinct(
        &self,
        collection: &'static Collection,
        field: &'static str,
        query: &Query,
        limit: u64,
    ) -> Result<Vec<Key>, StoreError> {
        queries::distinct(&self.inner, collection, field, query, limit).await
    }

    async fn put_blob(&self, id: Id, bytes: Vec<u8>) -> Result<(), StoreError> {
        blobs::put(&self.inner, id, bytes).await
    }

    async fn get_blob(&self, id: Id) -> Result<Option<Vec<u8>>, StoreError> {
        blobs::get(&self.inner, id).await
    }

    async fn delete_blob(&self, id: Id) -> Result<(), StoreError> {
        blobs::delete(&self.inner, id).await
    }

    /// A write that a majority confirms.
    async fn check(&self) -> Result<(), StoreError> {
        let health = self.inner.own("squall_health");
        let touch = health
            .update_one(doc! {"_id": "health"}, doc! {"$inc": {"n": 1_i64}})
            .upsert(true)
            .write_concern(majority(CHECK));
        match tokio::time::timeout(CHECK, async { touch.await }).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => match classify(&error) {
                // Another node made the document at the same moment: it works.
                Failure::Duplicate(_) => Ok(()),
                Failure::Final(error) => Err(error),
                Failure::Passing(text) | Failure::Open(text) => Err(StoreError::Unavailable(text)),
            },
            Err(_) => Err(StoreError::Unavailable(format!("no write is confirmed by a majority within {CHECK:?}"))),
        }
    }
}
