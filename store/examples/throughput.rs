//! Prints how many durable writes and reads a second one SQLite store does, and how long each takes.
//!
//!     cargo run --release -p store --example throughput [FOLDER] [SCALE]
//!
//! FOLDER should be on the disk in question (default: the current folder); its database is removed afterwards. SCALE
//! multiplies the number of operations; NOT_DURABLE=1 leaves out the syncs, to see what the processor does.

#![expect(clippy::unwrap_used, reason = "an example: what fails ends it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Collection, Id, Key, Keys, Resource as _, Timestamp};
use store::{Batch, Query, SqliteOptions, SqliteStore, Store, Write};

const EXECUTIONS: &Collection = model::Execution::COLLECTION;
const INSTANCES: &Collection = model::TriggerInstance::COLLECTION;

fn keys(n: u64, status: &str, end: bool) -> Keys {
    let id = Id::derive("liveaction", Timestamp::from_micros(1_700_000_000_000_000), &[&n.to_string()]);
    let mut keys: Keys = vec![
        ("status", status.into()),
        ("action", "core.noop".into()),
        ("runner", "noop".into()),
        ("liveaction", id.into()),
        ("start_timestamp", Key::Int(1_700_000_000_000_000 + n as i64)),
        ("user", "st2admin".into()),
    ];
    if end {
        keys.push(("end_timestamp", Key::Int(1_700_000_000_000_900 + n as i64)));
    }
    keys
}

fn id(n: u64) -> Id {
    Id::derive("execution", Timestamp::from_micros((1_700_000_000_000 + n as i64) * 1_000), &[&n.to_string()])
}

fn body(n: u64) -> String {
    format!("{{\"n\":{n},\"parameters\":\"{}\"}}", "x".repeat(870))
}

fn insert(n: u64) -> Batch {
    let write = Write::Insert {
        collection: EXECUTIONS,
        id: id(n),
        body: body(n),
        keys: keys(n, "requested", false),
        or_ignore: true,
    };
    Batch { writes: vec![write], fence: None }
}

fn update(n: u64, rev: u64) -> Batch {
    let (status, end) = if rev == 1 { ("running", false) } else { ("succeeded", true) };
    let write = Write::Update { collection: EXECUTIONS, id: id(n), rev, body: body(n), keys: keys(n, status, end) };
    Batch { writes: vec![write], fence: None }
}

/// An execution and the trigger instance that caused it.
fn pair(n: u64) -> Batch {
    let mut batch = insert(n);
    let keys: Keys =
        vec![("trigger", "core.timer".into()), ("occurrence_time", Key::Int(n as i64)), ("status", "processed".into())];
    batch.writes.push(Write::Insert { collection: INSTANCES, id: id(n), body: body(n), keys, or_ignore: true });
    batch
}

/// Runs `op` from as many tasks as `callers` and prints the rate and the latencies.
async fn measure<F, R>(name: &str, callers: u64, first: u64, count: u64, op: F)
where
    F: Fn(u64) -> R + Send + Sync + Clone + 'static,
    R: Future<Output = ()> + Send,
{
    let (started, busy) = (Instant::now(), cpu_time());
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let op = op.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut n = caller;
                while n < count {
                    let began = Instant::now();
                    op(first + n).await;
                    took.push(began.elapsed());
                    n += callers;
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let (elapsed, busy) = (started.elapsed(), cpu_time() - busy);
    took.sort_unstable();
    let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "{name:<34} {callers:>4} callers {:>9.0}/s   p50 {:>7.3} ms   p99 {:>7.3} ms   max {:>7.1} ms   cpu {:>6.1} us",
        count as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
        busy.as_secs_f64() * 1e6 / count as f64
    );
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder: PathBuf = arguments.next().unwrap_or_else(|| ".".into()).into();
    let scale: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = tempfile::tempdir_in(folder).unwrap();
    let mut options = SqliteOptions::new(folder.path().join("squall.db"));
    options.durable = std::env::var_os("NOT_DURABLE").is_none();
    let began = Instant::now();
    let store = Arc::new(SqliteStore::open(options.clone()).await.unwrap());
    println!("opened, with every table made, in {:?}", began.elapsed());
    let mut next = 0;
    for (callers, count) in [(1, 3_000), (16, 20_000), (128, 60_000)] {
        let count = count * scale;
        let first = next;
        next += count;
        let commit = |batch: fn(u64) -> Batch| {
            let store = Arc::clone(&store);
            move |n| {
                let store = Arc::clone(&store);
                async move { drop(store.commit(batch(n)).await.unwrap()) }
            }
        };
        measure("insert", callers, first, count, commit(insert)).await;
        measure("update (compare-and-set)", callers, first, count, commit(|n| update(n, 1))).await;
        measure("update again", callers, first, count, commit(|n| update(n, 2))).await;
        let first = next;
        next += count / 2;
        measure("batch of two inserts", callers, first, count / 2, commit(pair)).await;
        let reads = Arc::clone(&store);
        measure("read by id", callers, first, count / 2, move |n| {
            let store = Arc::clone(&reads);
            async move { drop(store.get(EXECUTIONS, id(n)).await.unwrap().unwrap()) }
        })
        .await;
        report_memory();
    }
    let listed = Instant::now();
    let query = Query::all().order(store::Order::Desc("start_timestamp")).limit(50);
    let found = store.find(EXECUTIONS, &query).await.unwrap().len();
    println!("list of the last {found} of {next}: {:?}", listed.elapsed());
    tokio::time::sleep(Duration::from_millis(300)).await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        println!("{:>12} bytes {}", entry.metadata().unwrap().len(), entry.file_name().display());
    }
    report_memory();
    let began = Instant::now();
    store.close().await;
    println!("closed in {:?}", began.elapsed());
    let began = Instant::now();
    let store = SqliteStore::open(options).await.unwrap();
    println!("opened again in {:?}", began.elapsed());
    store.close().await;
}

/// What this process has used of the processors, to 10 ms: a figure that other load on the machine doesn't change much.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn report_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
    println!("memory: {}", resident.collect::<Vec<_>>().join(", "));
}
