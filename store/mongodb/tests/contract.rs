//! The contract suite on MongoDB.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use servers::shared;
use store::Store;
use store::contract::{COLLECTIONS, Factory};
use store_mongodb::{MongoOptions, MongoStore};

/// Stores in a database of this test's own, removed in the end.
struct Mongo {
    uri: String,
    database: String,
    open: Mutex<HashMap<String, Arc<MongoStore>>>,
}

impl Mongo {
    fn new(uri: String) -> Self {
        Self { uri, database: format!("squall_test_{:016x}", rand::random::<u64>()), open: Mutex::default() }
    }
}

impl Drop for Mongo {
    fn drop(&mut self) {
        let (uri, database) = (self.uri.clone(), self.database.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
                client.database(&database).drop().await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}

#[async_trait]
impl Factory for Mongo {
    async fn open(&self, name: &str) -> Arc<dyn Store> {
        let mut options = MongoOptions::new(&self.uri);
        options.database.clone_from(&self.database);
        options.prefix = name.to_owned();
        options.collections = COLLECTIONS.to_vec();
        options.deadline = Duration::from_secs(30);
        let store = Arc::new(MongoStore::open(options).await.unwrap());
        self.open.lock().insert(name.to_owned(), Arc::clone(&store));
        store
    }

    async fn close(&self, name: &str) {
        let store = self.open.lock().remove(name).unwrap();
        store.close().await;
    }
}

store::store_contract!(maybe async { shared::address(shared::MONGODB).map(Mongo::new) });
