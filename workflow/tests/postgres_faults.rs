//! What the PostgreSQL adapter withstands: sessions killed, the server restarted, stopped and without connections,
//! other versions' tables, nodes that start together.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use servers::Postgres;
use sqlx::{Connection as _, Row as _};
use support::postgres::Schema;
use workflow::contract::{Factory as _, HOLD, begin, drain_of, id, message, using_all};
use workflow::postgres::{FORMAT, PostgresOptions, PostgresState};
use workflow::{Claim, Claimed, Delivered, OpenError, StateError, WorkflowState, contract};

fn claim(n: u64) -> Claim {
    Claim::one(id(n), contract::at(0))
}

/// Repeats until it is there.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_killed_session_loses_its_lock_and_commits_nothing() {
    let Some(schema) = Schema::shared().await else { return };
    let (here, there) = (schema.open(0).await, schema.open(1).await);
    begin(&*here, id(1)).await;
    here.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&*here, &claim(1)).await;
    eventually("no session to kill", async || (schema.kill(1.0).await > 0).then_some(())).await;
    // Another node goes on at once, and the one that lost it can't get in between.
    let other = drain_of(&*there, &claim(1)).await;
    let mut change = using_all(&*drain);
    change.event("lost", "1");
    let lost = drain.commit(change, HOLD).await;
    assert!(matches!(lost, Err(StateError::Unavailable(_))), "{lost:?}");
    let mut change = using_all(&*other);
    change.event("kept", "1");
    other.commit(change, HOLD).await.unwrap();
    let events = there.events(id(1), 0, 10).await.unwrap();
    assert_eq!(events.iter().map(|event| &*event.kind).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(here.head(id(1)).await.unwrap().unwrap().rev, 2);
    schema.clean().await;
}

/// A drain that sits idle for too long is ended by the server: a node that hangs doesn't keep a workflow.
#[tokio::test]
async fn an_idle_drain_is_ended() {
    let Some(schema) = Schema::shared().await else { return };
    let mut options = schema.options();
    options.drain_timeout = Duration::from_millis(200);
    let slow = PostgresState::open(options).await.unwrap();
    let other = schema.open(1).await;
    begin(&slow, id(1)).await;
    slow.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&slow, &claim(1)).await;
    let second = drain_of(&*other, &claim(1)).await;
    let change = using_all(&*drain);
    assert!(drain.commit(change, HOLD).await.is_err_and(|error| error.is_retryable()));
    second.release().await;
    slow.close().await;
    schema.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_make_the_tables_once() {
    let Some(schema) = Schema::shared().await else { return };
    let opened = futures::future::join_all((0..6).map(|_| PostgresState::open(schema.options()))).await;
    for state in &opened {
        state.as_ref().unwrap().check().await.unwrap();
    }
    let mut connection = schema.connect().await;
    let row = sqlx::query("SELECT format, (SELECT count(*) FROM workflow_format) FROM workflow_format");
    let row = row.fetch_one(&mut connection).await.unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (FORMAT, 1));
    for state in opened {
        state.unwrap().close().await;
    }
    // A newer version's tables are left alone, with a word to the operator.
    sqlx::query("UPDATE workflow_format SET format = 99").execute(&mut connection).await.unwrap();
    let error = PostgresState::open(schema.options()).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: FORMAT }), "{error}");
    assert!(error.to_string().contains("format 99"), "{error}");
    schema.clean().await;
}

#[tokio::test]
async fn schemas_are_apart() {
    let (Some(one), Some(two)) = (Schema::shared().await, Schema::shared().await) else { return };
    let (first, second) = (one.open(0).await, two.open(0).await);
    begin(&*first, id(1)).await;
    assert_eq!(second.head(id(1)).await.unwrap(), None);
    assert_eq!(second.deliver(id(1), &[message(1)]).await, Ok(Delivered::Unknown));
    one.clean().await;
    two.clean().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut options = PostgresOptions::new("postgres://me:geheim@127.0.0.1:1/none");
    options.timeout = Duration::from_millis(300);
    let error = PostgresState::open(options).await.unwrap_err();
    assert!(matches!(&error, OpenError::State(StateError::Unavailable(_))), "{error}");
    assert!(!format!("{error} {error:?}").contains("geheim"));
    // Neither does a wrong database show the password.
    let Some(schema) = Schema::shared().await else { return };
    let url = schema.url.replace("squall@", "squall:geheim@").replace("/squall", "/no_such_database");
    let error = PostgresState::open(PostgresOptions::new(url)).await.unwrap_err();
    assert!(error.to_string().contains("no_such_database"), "{error}");
    assert!(!format!("{error} {error:?}").contains("geheim"));
}

/// A private server, or None if there is no PostgreSQL here.
fn private() -> Option<Postgres> {
    match Postgres::private() {
        Ok(server) => Some(server),
        Err(error) => {
            assert!(std::env::var("SQUALL_TEST_REQUIRE_SERVERS").is_err(), "{error:#}");
            eprintln!("SKIPPED: PostgreSQL can't be started here: {error:#}");
            None
        }
    }
}

/// Stops all of a server's processes, as a machine that hangs, or lets them go on.
fn stop_or_go(server: &Postgres, signal: &str) {
    let pid = server.process.pid().unwrap().to_string();
    let signal = format!("-{signal}");
    let children = std::process::Command::new("pkill").args([&signal, "-P", &pid]).status().unwrap();
    let itself = std::process::Command::new("kill").args([&signal, &pid]).status().unwrap();
    assert!(children.success() && itself.success());
}

/// Messages go in, and are used, as fast as they can, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    used: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(state: &Arc<dyn WorkflowState>) -> Self {
        let (stop, acknowledged, used) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for n in 0..3_u64 {
            let (state, stop, acknowledged) = (Arc::clone(state), Arc::clone(&stop), Arc::clone(&acknowledged));
            tasks.push(tokio::spawn(async move {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let one = message(n * 1_000_000 + sent);
                    match state.deliver(id(1), &[one]).await {
                        Ok(Delivered::Known(_)) => {
                            sent += 1;
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Delivered::Unknown) => panic!("the workflow is gone"),
                        // The same again: its outcome is open.
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                }
            }));
        }
        for _ in 0..3 {
            let (state, stop, used) = (Arc::clone(state), Arc::clone(&stop), Arc::clone(&used));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match state.claim(&Claim::next(contract::at(0))).await {
                        Ok(Claimed::Drain(drain)) => {
                            let mut change = using_all(&*drain);
                            for received in drain.messages() {
                                change.event("used", received.message.source.to_string());
                            }
                            let count = change.used.len() as u64;
                            match drain.commit(change, HOLD).await {
                                Ok(_) => drop(used.fetch_add(count, Ordering::Relaxed)),
                                Err(error) => assert!(error.is_retryable(), "{error:?}"),
                            }
                        }
                        Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                }
            }));
        }
        Self { stop, acknowledged, used, tasks }
    }

    /// Waits until work went on since now.
    async fn goes_on(&self) {
        let (acknowledged, used) = (self.acknowledged.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed));
        eventually("work doesn't go on", async || {
            let more = self.acknowledged.load(Ordering::Relaxed) > acknowledged + 20;
            (more && self.used.load(Ordering::Relaxed) > used + 20).then_some(())
        })
        .await;
    }

    /// Stops, and checks that every acknowledged message is in the log once.
    async fn finish(self, state: &dyn WorkflowState) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let head = state.head(id(1)).await.unwrap().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let mut from = 0;
        while from < head.events {
            for event in state.events(id(1), from, 1_000).await.unwrap() {
                assert_eq!(event.seq, from);
                from += 1;
                assert!(seen.insert(event.body.clone()), "{} was used twice", event.body);
            }
        }
        let waiting = state.inbox(id(1), 10_000).await.unwrap().len() as u64;
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        // A delivery whose acknowledgement was lost may be there as well.
        let known = seen.len() as u64 + waiting;
        assert!((acknowledged..=acknowledged + 3).contains(&known), "{acknowledged} acknowledged, {known} there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_delay_and_lose_nothing() {
    let Some(mut server) = private() else { return };
    let schema = Schema::on(&server.url());
    let mut options = schema.options();
    options.timeout = Duration::from_secs(2);
    let state: Arc<dyn WorkflowState> = Arc::new(PostgresState::open(options).await.unwrap());
    begin(&*state, id(1)).await;
    let load = Load::start(&state);
    load.goes_on().await;
    for kind in ["fast", "kill", "sessions", "pause"] {
        match kind {
            "fast" => server.stop_fast().unwrap(),
            "kill" => server.process.kill().unwrap(),
            "sessions" => drop(schema.kill(1.0).await),
            _ => stop_or_go(&server, "STOP"),
        }
        if kind == "sessions" {
            load.goes_on().await;
            continue;
        }
        let began = Instant::now();
        let down = state.check().await.unwrap_err();
        assert!(down.is_retryable() && began.elapsed() < Duration::from_secs(1), "{kind}: {down:?}");
        if kind == "pause" {
            stop_or_go(&server, "CONT");
        } else {
            // Calls end by themselves meanwhile, with an error that says why.
            let error = state.deliver(id(1), &[message(77_777_777)]).await.unwrap_err();
            assert!(matches!(error, StateError::Unavailable(_)), "{kind}: {error:?}");
            server.start().unwrap();
        }
        eventually(kind, async || state.check().await.ok()).await;
        load.goes_on().await;
    }
    load.finish(&*state).await;
    state.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_free_connections_is_waited_for() {
    let Some(server) = private() else { return };
    let schema = Schema::on(&server.url());
    let mut options = schema.options();
    options.timeout = Duration::from_secs(1);
    let state: Arc<dyn WorkflowState> = Arc::new(PostgresState::open(options).await.unwrap());
    begin(&*state, id(1)).await;
    let mut others = vec![schema.connect().await];
    let error = eventually("connections are left", async || {
        // Everybody else takes all there are, those that the state had included.
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'squall %'";
        sqlx::query(sql).execute(&mut others[0]).await.unwrap();
        while let Ok(connection) = sqlx::PgConnection::connect(&server.url()).await {
            others.push(connection);
        }
        state.head(id(1)).await.err()
    })
    .await;
    assert!(others.len() > 50);
    assert!(matches!(&error, StateError::Unavailable(text) if text.contains("53300")), "{error:?}");
    assert!(state.check().await.is_err_and(|error| error.is_retryable()));
    drop(others);
    eventually("it doesn't recover", async || state.check().await.ok()).await;
    assert_eq!(state.deliver(id(1), &[message(1)]).await, Ok(Delivered::Known(vec![true])));
    state.close().await;
}

/// What the server itself writes: its log grows with the items, not with their square.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_log_grows_with_the_items() {
    let Some(server) = private() else { return };
    let schema = Schema::on(&server.url());
    let state = schema.open(0).await;
    let mut connection = schema.connect().await;
    let mut position = async || {
        let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
        sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get::<i64, _>(0)
    };
    let mut per_item = Vec::new();
    for (n, items) in [(1, 100_u32), (2, 600)] {
        let before = position().await;
        let mut launches = contract::toy::start(&*state, id(n), items, 10).await.unwrap();
        while !launches.is_empty() {
            let results: Vec<_> = launches.iter().map(|one| contract::toy::result_of(one, |_| false)).collect();
            state.mark_launched(id(n), &launches.drain(..).map(|one| one.id).collect::<Vec<_>>()).await.unwrap();
            state.deliver(id(n), &results).await.unwrap();
            while let Claimed::Drain(drain) = state.claim(&Claim { messages: 5, ..claim(n) }).await.unwrap() {
                let (_, more) = contract::toy::advance(drain, contract::at(1)).await.unwrap();
                launches.extend(more);
            }
        }
        per_item.push((position().await - before) / i64::from(items));
    }
    eprintln!("bytes of log per item, of 100 and of 600: {per_item:?}");
    // Without a checkpoint in between, page images count for few items more than for many.
    assert!(per_item[1] <= per_item[0] * 13 / 10 + 200, "{per_item:?}");
    schema.clean().await;
}
