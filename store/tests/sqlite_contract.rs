//! The contract suite on SQLite.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use store::contract::{COLLECTIONS, Factory};
use store::{SqliteOptions, SqliteStore, Store};

struct Sqlite {
    folder: tempfile::TempDir,
    open: Mutex<HashMap<String, Arc<SqliteStore>>>,
}

impl Sqlite {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), open: Mutex::default() }
    }
}

#[async_trait]
impl Factory for Sqlite {
    async fn open(&self, name: &str) -> Arc<dyn Store> {
        let mut options = SqliteOptions::new(self.folder.path().join(name));
        options.collections = COLLECTIONS.to_vec();
        options.durable = false;
        let store = Arc::new(SqliteStore::open(options).await.unwrap());
        self.open.lock().insert(name.to_owned(), Arc::clone(&store));
        store
    }

    async fn close(&self, name: &str) {
        let store = self.open.lock().remove(name).unwrap();
        store.close().await;
    }
}

store::store_contract!(async { Sqlite::new() });
