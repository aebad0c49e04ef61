//! Reading: one execution, lists, actions, and events to many.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use model::{Action, Execution, Id, SystemClock, Timestamp};
use rand::seq::IndexedRandom;
use store::{Batch, Query, SqliteOptions, SqliteStore, Store, StoreExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Bench;
use super::executions::one;
use crate::client::Client;
use crate::server::PASSWORD;
use crate::stats::Samples;

const EXECUTIONS: usize = 100_000;
const ACTIONS: usize = 3_500;
const CLIENTS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);
const STREAMS: usize = 1_000;
const EVENTS: usize = 200;

/// Fills the store of a stopped node with copies of what it made, then asks it over HTTP.
pub async fn run(bench: &Bench) -> Result<()> {
    let server = bench.server().await?;
    let mut client = Client::login(&server.authority, PASSWORD).await?;
    one(&mut client, &Bytes::from_static(br#"{"action": "core.noop", "parameters": {}}"#)).await?;
    drop((client, server));
    let begin = Instant::now();
    let ids = fill(&bench.data.path().join("squall.db")).await?;
    println!("{EXECUTIONS} executions and {ACTIONS} actions stored in {:.1} s", begin.elapsed().as_secs_f64());

    let server = bench.server().await?;
    let client = Client::login(&server.authority, PASSWORD).await?;
    let access = (server.authority.as_str(), client.token.as_str());
    let ids: Arc<[Id]> = ids.into();
    let any = move || format!("/api/v1/executions/{}", ids.choose(&mut rand::rng()).copied().unwrap_or(ids[0]));
    requests("GET one execution", access, any).await?;
    requests("GET 50 executions", access, || "/api/v1/executions?limit=50".to_owned()).await?;
    requests("GET 100 actions", access, || "/api/v1/actions?limit=100".to_owned()).await?;
    requests("GET all actions (the default)", access, || "/api/v1/actions".to_owned()).await?;
    streams(access).await?;
    println!("resident: {:.0} MB", server.resident_mb());
    Ok(())
}

/// Ids of the executions.
async fn fill(path: &Path) -> Result<Vec<Id>> {
    // The node was killed: its lock goes with its process.
    let store = SqliteStore::open(SqliteOptions { durable: false, ..SqliteOptions::new(path) }).await?;
    let execution = store.first::<Execution>(&Query::all()).await?.context("an execution")?.doc;
    let mut ids = Vec::with_capacity(EXECUTIONS);
    let begin = execution.start_timestamp.micros();
    for chunk in 0..EXECUTIONS / 500 {
        let mut batch = Batch::new();
        for place in 0..500 {
            let before = i64::try_from(chunk * 500 + place + 1)?.saturating_mul(100_000);
            let mut copy = execution.clone();
            copy.start_timestamp = Timestamp::from_micros(begin - before);
            (copy.id, copy.liveaction_id) = (Id::fresh(copy.start_timestamp), Id::fresh(copy.start_timestamp));
            ids.push(copy.id);
            batch.insert(&copy);
        }
        store.commit(batch).await?;
    }
    let action = store.first::<Action>(&Query::eq("ref", "core.local")).await?.context("core.local")?.doc;
    let mut batch = Batch::new();
    for number in 0..ACTIONS {
        let mut copy = action.clone();
        copy.id = Id::fresh(model::Clock::now(&SystemClock));
        copy.pack = format!("pack{}", number % 50);
        copy.name = format!("action{number}");
        copy.reference = format!("{}.{}", copy.pack, copy.name);
        copy.uid = Action::uid_of(&copy.pack, &copy.name);
        batch.insert(&copy);
        if batch.writes.len() == 500 {
            store.commit(std::mem::take(&mut batch)).await?;
        }
    }
    store.close().await;
    Ok(ids)
}

/// Requests a second of some clients that ask one after another.
async fn requests(
    name: &str,
    (authority, token): (&str, &str),
    path: impl Fn() -> String + Clone + Send + 'static,
) -> Result<()> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + MEASURED;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (authority, token, path) = (authority.to_owned(), token.to_owned(), path.clone());
        clients.spawn(async move {
            let mut client = Client::connect(&authority, &token).await?;
            let mut samples = Samples::default();
            let mut bytes = 0;
            while Instant::now() < end {
                let asked = Instant::now();
                let answer = client.call(Method::GET, &path(), Bytes::new()).await?;
                if asked >= begin {
                    samples.add(asked.elapsed());
                    bytes = answer.len();
                }
            }
            anyhow::Ok((samples, bytes))
        });
    }
    let (mut all, mut size) = (Samples::default(), 0);
    while let Some(done) = clients.join_next().await {
        let (samples, bytes) = done??;
        all.merge(samples);
        size = bytes;
    }
    let rate = all.len() as f64 / MEASURED.as_secs_f64();
    println!("{name}: {rate:.0}/s, {size} bytes each, {}", all.summary());
    Ok(())
}

/// Tells when all streams have seen an event.
#[derive(Debug, Default)]
struct Arrivals {
    seen: AtomicUsize,
    all: Notify,
}

/// From the request until the last stream has the event of the execution that it made.
async fn streams((authority, token): (&str, &str)) -> Result<()> {
    let arrivals = Arc::new(Arrivals::default());
    let mut followers = JoinSet::new();
    for _ in 0..STREAMS {
        let stream = follow(authority, token).await?;
        followers.spawn(watch(stream, arrivals.clone()));
    }
    let mut client = Client::connect(authority, token).await?;
    let mut samples = Samples::default();
    for round in 0..=EVENTS {
        arrivals.seen.store(0, Ordering::SeqCst);
        let begin = Instant::now();
        let body = Bytes::from_static(br#"{"action": "core.noop", "parameters": {}}"#);
        client.call(Method::POST, "/api/v1/executions", body).await?;
        let waited = tokio::time::timeout(Duration::from_secs(20), arrivals.all.notified()).await;
        ensure!(waited.is_ok(), "{} of {STREAMS} streams got the event", arrivals.seen.load(Ordering::SeqCst));
        // The first one finds everything cold.
        if round > 0 {
            samples.add(begin.elapsed());
        }
        ensure!(followers.len() == STREAMS && followers.try_join_next().is_none(), "a stream has ended");
    }
    println!("POST to its event on the last of {STREAMS} streams: {}", samples.summary());
    followers.shutdown().await;
    Ok(())
}

/// An open stream of new executions, after the head of its answer.
async fn follow(authority: &str, token: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!(
        "GET /stream/v1/stream?events=st2.execution__create HTTP/1.1\r\nHost: {authority}\r\n\
         X-Auth-Token: {token}\r\nAccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut head).await? > 0, "the stream has ended");
    }
    ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

async fn watch(mut stream: TcpStream, arrivals: Arc<Arrivals>) -> Result<()> {
    const MARK: &[u8] = b"event: st2.execution__create";
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        while let Some(place) = buffer.windows(MARK.len()).position(|part| part == MARK) {
            buffer.drain(..place + MARK.len());
            if arrivals.seen.fetch_add(1, Ordering::SeqCst) + 1 == STREAMS {
                arrivals.all.notify_one();
            }
        }
        let keep = buffer.len().saturating_sub(MARK.len());
        buffer.drain(..keep);
    }
}
