//! What SQLite's adapter withstands: kill -9, a full disk, a second process, other versions' databases.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use model::resource::{Collection, KeyKind, index, unique};
use model::{Id, Key};
use store::contract::{COLLECTIONS, DOCS, all, batch, fenced, fresh, id, insert, text};
use store::{Cond, OpenError, Order, Query, SqliteOptions, SqliteStore, Store, StoreError};

/// Tells the test binary, run anew, to be the process that is killed.
const CHILD: &str = "STORE_TEST_CHILD_DATABASE";

fn options(path: &Path) -> SqliteOptions {
    let mut options = SqliteOptions::new(path);
    options.collections = COLLECTIONS.to_vec();
    options
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(options(path)).await.unwrap()
}

/// Not a test by itself: writes pairs of documents until it is killed, and prints the id of each acknowledged pair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(open(Path::new(&path)).await);
    let writers = (0..12_u64).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            loop {
                let pair = fresh();
                let half = |name: &str| {
                    let keys = vec![("tag", text(&pair.to_string())), ("rank", Key::Int(writer as i64))];
                    insert(fresh(), name, keys)
                };
                store.commit(batch([half("first"), half("second")])).await.unwrap();
                let _ = writeln!(std::io::stdout().lock(), "pair {pair}");
            }
        })
    });
    join_all(writers.collect::<Vec<_>>()).await;
}

fn spawn_child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child_that_writes_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("squall.db");
    let mut acknowledged = BTreeSet::new();
    for round in 0..8_u64 {
        let mut child = spawn_child(&path);
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok).filter_map(|line| {
            // The harness's own words may stand before the first.
            line.split_once("pair ").map(|(_, pair)| pair.to_owned())
        });
        // Killed after a different number of acknowledgements each time, in the middle of others.
        let before_kill = 5 + 61 * round as usize;
        acknowledged.extend(lines.by_ref().take(before_kill));
        child.kill().unwrap();
        child.wait().unwrap();
        // What was printed before the kill and not read yet; the last line may be torn.
        acknowledged.extend(lines.filter(|pair| pair.len() == 24));
        let store = open(&path).await;
        let mut halves = std::collections::BTreeMap::<_, usize>::new();
        for tag in store.distinct(DOCS, "tag", &Query::all(), u64::MAX).await.unwrap() {
            let count = store.count(DOCS, &Query::eq("tag", tag.clone())).await.unwrap();
            halves.insert(tag, count as usize);
        }
        assert!(halves.values().all(|count| *count == 2), "half a batch after round {round}");
        let missing: Vec<_> = acknowledged.iter().filter(|pair| !halves.contains_key(&text(pair))).collect();
        assert!(missing.is_empty(), "round {round}: acknowledged and lost: {missing:?}");
        store.close().await;
    }
    assert!(acknowledged.len() >= 1_700, "{}", acknowledged.len());
}

#[tokio::test]
async fn a_database_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("squall.db");
    let mut child = spawn_child(&path);
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.is_ok_and(|line| line.contains("pair "))));
    let refused = SqliteStore::open(options(&path)).await.unwrap_err();
    let OpenError::InUse { process, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*process, child.id().to_string());
    assert!(refused.to_string().contains(&format!("in use by process {}", child.id())), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    open(&path).await.close().await;
}

/// A small file system of its own; unmounted at the end.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let option = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self { folder }),
            other => {
                eprintln!("SKIPPED: a small file system can't be mounted here (needs root): {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).output();
    }
}

/// Writes documents until none is taken any more (a first refusal makes the store use the log's space again);
/// returns the acknowledged.
async fn fill(store: &SqliteStore) -> Vec<Id> {
    let mut acknowledged = Vec::new();
    let body = "x".repeat(4_000);
    let mut refused_in_a_row = 0;
    for _ in 0..100_000 {
        let ids: Vec<Id> = (0..8).map(|_| fresh()).collect();
        let outcomes = join_all(ids.iter().map(|id| store.commit(batch([insert(*id, &body, vec![])])))).await;
        let done = ids.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(id, _)| *id);
        let before = acknowledged.len();
        acknowledged.extend(done);
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(error, StoreError::Full(_)), "{error:?}");
            assert!(error.is_retryable());
        }
        refused_in_a_row = if acknowledged.len() == before { refused_in_a_row + 1 } else { 0 };
        if refused_in_a_row == 20 {
            return acknowledged;
        }
    }
    panic!("the disk never filled up");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let ballast = disk.folder.path().join("ballast");
    std::fs::write(&ballast, vec![0; 6 << 20]).unwrap();
    let path = disk.folder.path().join("squall.db");
    let store = open(&path).await;
    let mut acknowledged = fill(&store).await;
    // The log was moved into the database before giving up: a good part of the disk holds documents.
    assert!(acknowledged.len() * 4_000 > 2 << 20, "{} documents", acknowledged.len());
    // What is smaller may still fit; readiness tells one or the other.
    assert!(matches!(store.check().await, Ok(()) | Err(StoreError::Full(_))));
    // Reads go on.
    assert_eq!(all(&store).await.len(), acknowledged.len());
    let refused = store
        .put_blob(id(1), (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect())
        .await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    std::fs::remove_file(&ballast).unwrap();
    store.check().await.unwrap();
    let more = fresh();
    store.commit(batch([insert(more, "{}", vec![])])).await.unwrap();
    acknowledged.push(more);
    acknowledged.extend(fill(&store).await);
    store.close().await;
    let store = open(&path).await;
    let there: BTreeSet<Id> = all(&store).await.into_iter().map(|document| document.id).collect();
    assert_eq!(there, acknowledged.into_iter().collect());
    assert_eq!(store.get_blob(id(1)).await, Ok(None));
    store.close().await;
}

/// A later version declares more; what is there stays and is found under the rules of the new declaration.
#[tokio::test]
async fn newer_declarations_extend_the_tables() {
    const OLD: &Collection =
        &Collection { name: "things", fields: &[("name", KeyKind::Text)], indexes: &[index(&["name"])] };
    const NEW: &Collection = &Collection {
        name: "things",
        fields: &[("name", KeyKind::Text), ("size", KeyKind::Int), ("kind", KeyKind::Text)],
        indexes: &[unique(&["name"]), index(&["size"])],
    };
    let write =
        |collection, keys| store::Write::Insert { collection, id: fresh(), body: "{}".into(), keys, or_ignore: false };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("squall.db");
    let opened = |collection| {
        let mut options = SqliteOptions::new(&path);
        options.collections = vec![collection];
        SqliteStore::open(options)
    };
    let store = opened(OLD).await.unwrap();
    store.commit(batch([write(OLD, vec![("name", text("a"))])])).await.unwrap();
    store.close().await;
    let store = opened(NEW).await.unwrap();
    store.commit(batch([write(NEW, vec![("name", text("b")), ("size", Key::Int(3))])])).await.unwrap();
    let by_size = Query::all().order(Order::Desc("size"));
    assert_eq!(store.find(NEW, &by_size).await.unwrap().len(), 2);
    assert_eq!(store.count(NEW, &Query::filter(Cond::Absent("size"))).await, Ok(1));
    let again = store.commit(batch([write(NEW, vec![("name", text("a"))])])).await;
    assert!(matches!(again, Err(StoreError::Duplicate { .. })));
    store.close().await;
    // The older version still works with it, without the unique index that it doesn't know.
    let store = opened(OLD).await.unwrap();
    store.commit(batch([write(OLD, vec![("name", text("a"))])])).await.unwrap();
    assert_eq!(store.count(OLD, &Query::eq("name", "a")).await, Ok(2));
    store.close().await;
    // And the newer one says why it can't go on.
    let error = opened(NEW).await.unwrap_err();
    assert!(error.to_string().contains("things"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("squall.db");
    open(&path).await.close().await;
    let raise = async {
        use sqlx::{ConnectOptions as _, Connection as _};
        let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await?;
        sqlx::query("UPDATE squall_meta SET value = 99 WHERE name = 'format'").execute(&mut connection).await?;
        connection.close().await
    };
    raise.await.unwrap();
    let error = SqliteStore::open(options(&path)).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: 1 }));
    assert!(error.to_string().contains("format 99"), "{error}");
    // A folder that isn't there, and a file that isn't a database.
    assert!(matches!(SqliteStore::open(options(&folder.path().join("no/such.db"))).await, Err(OpenError::Io { .. })));
    let other = folder.path().join("text.db");
    std::fs::write(&other, "not a database, but long enough to look at it twice".repeat(100)).unwrap();
    assert!(matches!(SqliteStore::open(options(&other)).await, Err(OpenError::Store(_))));
}

/// The log starts anew while writing goes on without a pause: it doesn't grow with what is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_bounded_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("squall.db");
    let mut options = options(&path);
    options.durable = false;
    let store = SqliteStore::open(options).await.unwrap();
    let body = "y".repeat(60_000);
    let log = PathBuf::from(format!("{}-wal", path.display()));
    let mut largest = 0;
    let deadline = Instant::now() + Duration::from_secs(120);
    for _ in 0..300 {
        let writes = (0..16).map(|_| store.commit(batch([insert(fresh(), &body, vec![])])));
        assert!(join_all(writes).await.into_iter().all(|outcome| outcome.is_ok()));
        largest = largest.max(std::fs::metadata(&log).unwrap().len());
        assert!(Instant::now() < deadline);
    }
    // 288 MB were written.
    assert!(largest < 120 << 20, "{largest}");
    store.commit(fenced("f", 1, [])).await.unwrap();
    store.close().await;
    assert!(std::fs::metadata(&log).map_or(0, |log| log.len()) == 0);
}
