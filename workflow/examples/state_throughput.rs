//! How fast the workflow state is: `cargo run --release -p workflow --example state_throughput --features contract`.
//!
//! SQLite in a temporary folder (or in `WORKFLOW_BENCH_DIR`), and PostgreSQL if `SQUALL_TEST_POSTGRES` names a
//! server. Prints drains per second of many small workflows, and items per second of one with-items workflow; both
//! without executions in between, so that this is what the state alone allows.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{Clock as _, Id, SystemClock};
use workflow::contract::toy;
use workflow::contract::{at, id};
use workflow::postgres::{PostgresOptions, PostgresState};
use workflow::sqlite::{SqliteOptions, SqliteState};
use workflow::{Claim, Claimed, Deletion, Launch, WorkflowState};

const ENGINES: usize = 8;

/// Launches end at once.
async fn carry_out(state: &dyn WorkflowState, workflow: Id, launches: &[Launch]) {
    if launches.is_empty() {
        return;
    }
    let results: Vec<_> = launches.iter().map(|launch| toy::result_of(launch, |_| false)).collect();
    let ids: Vec<_> = launches.iter().map(|launch| launch.id).collect();
    state.mark_launched(workflow, &ids).await.unwrap();
    state.deliver(workflow, &results).await.unwrap();
}

/// Drains what there is until all are finished; returns how many drains it took.
async fn work(state: &Arc<dyn WorkflowState>, finished: u64, items: u64, page: u32) -> u64 {
    let (drains, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let engines: Vec<_> = (0..ENGINES)
        .map(|_| {
            let (state, drains, done) = (Arc::clone(state), Arc::clone(&drains), Arc::clone(&done));
            tokio::spawn(async move {
                let mut wakes = state.wakes();
                let mut same = None;
                while done.load(Ordering::Relaxed) < finished * items {
                    // Whoever brings a workflow's results goes on with it; else, whatever waits.
                    let claim = Claim { workflow: same.take(), messages: page, ..Claim::next(at(1)) };
                    let Claimed::Drain(drain) = state.claim(&claim).await.unwrap() else {
                        if claim.workflow.is_none() {
                            let _ = tokio::time::timeout(Duration::from_millis(50), wakes.wait()).await;
                        }
                        continue;
                    };
                    let workflow = drain.state().id;
                    let used = drain.messages().len() as u64;
                    let (_, launches) = toy::advance(drain, at(1)).await.unwrap();
                    carry_out(&*state, workflow, &launches).await;
                    same = Some(workflow);
                    drains.fetch_add(1, Ordering::Relaxed);
                    done.fetch_add(used, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for engine in engines {
        engine.await.unwrap();
    }
    drains.load(Ordering::Relaxed)
}

async fn measure(name: &str, state: Arc<dyn WorkflowState>) {
    let workflows = 100;
    let began = Instant::now();
    for n in 0..workflows {
        let launches = toy::start(&*state, id(n), 10, 1).await.unwrap();
        carry_out(&*state, id(n), &launches).await;
    }
    let begun = began.elapsed();
    let began = Instant::now();
    let drains = work(&state, workflows, 10, 100).await;
    let rate = drains as f64 / began.elapsed().as_secs_f64();
    println!("{name}: {workflows} workflows begun in {begun:.0?}; of 10 tasks each, one at a time: {rate:.0} drains/s");
    for items in [1_000_u32, 10_000] {
        let workflow = id(1_000_000 + u64::from(items));
        let before = state.stats();
        let began = Instant::now();
        let launches = toy::start(&*state, workflow, items, 50).await.unwrap();
        carry_out(&*state, workflow, &launches).await;
        let drains = work(&state, 1, u64::from(items), 100).await;
        let (took, done) = (began.elapsed(), state.stats().since(before));
        println!(
            "{name}: with-items of {items}, 50 at a time: {:.0} items/s ({took:.0?}, {drains} drains, {:.1} statements and {} bytes written per item)",
            f64::from(items) / took.as_secs_f64(),
            done.statements as f64 / f64::from(items),
            done.bytes_written / u64::from(items),
        );
        while state.delete(workflow, 5_000).await.unwrap() != Deletion::Done {}
    }
    state.close().await;
}

#[tokio::main]
async fn main() {
    let folder = match std::env::var_os("WORKFLOW_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    for durable in [true, false] {
        let mut options = SqliteOptions::new(folder.path().join(format!("{durable}.db")));
        options.durable = durable;
        let name = if durable { "sqlite, synced" } else { "sqlite, not synced" };
        measure(name, Arc::new(SqliteState::open(options).await.unwrap())).await;
    }
    let Ok(url) = std::env::var("SQUALL_TEST_POSTGRES") else {
        println!("PostgreSQL: SQUALL_TEST_POSTGRES isn't set");
        return;
    };
    let mut options = PostgresOptions::new(&url);
    options.schema = format!("bench_{}", Id::fresh(SystemClock.now()));
    let schema = options.schema.clone();
    measure("postgres", Arc::new(PostgresState::open(options).await.unwrap())).await;
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let sql = format!("SET client_min_messages = error; DROP SCHEMA {schema} CASCADE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}
