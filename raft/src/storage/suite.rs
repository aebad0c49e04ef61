//! openraft's own test suite for storage, run on ours.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::{LogStore, Machine, Told, open_database};
use crate::identity::Identity;
use crate::types::TypeConfig;

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for OnDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::fresh(None);
        let log = LogStore::open(open_database(&dir.path().join("raft.redb"), 1 << 20, &identity).unwrap()).unwrap();
        let machine = Machine::open(log.clone(), Told::default()).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_storage_suite() {
    Suite::test_all(OnDisk).await.unwrap();
}
