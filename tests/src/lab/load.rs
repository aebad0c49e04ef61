//! Work that goes on while things break, and a record of what was acknowledged.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Api;

/// The action under a concurrency policy that [`Load`] runs.
pub const LIMITED: &str = "default.limited";

/// How long a worker waits for an answer: it goes on to the next node then, as a load balancer would.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// One client for each node; workers go from one to the next when a call fails.
    pub clients: Vec<Api>,
    pub workers: usize,
    /// Every local action writes a line here when it starts.
    pub journal: PathBuf,
    /// Pause between two calls of a worker.
    pub pause: Duration,
    /// Also run [`LIMITED`], one call in so many (0: never).
    pub limited_every: u64,
    pub seed: u64,
}

/// What was acknowledged, and what wasn't.
#[derive(Debug, Default)]
pub struct History {
    pub executions: Vec<String>,
    /// Key → (last acknowledged value, values that may have got through since).
    pub keys: HashMap<String, (Option<u64>, Vec<u64>)>,
    /// Time since the start of the load, and what a call got instead of an acknowledgement.
    pub refused: Vec<(Duration, String)>,
    /// Answers that must not be: an acknowledged thing that was not found, an empty list (A1).
    pub lies: Vec<String>,
    pub calls: usize,
}

/// Running work.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    workers: JoinSet<()>,
    history: Arc<Mutex<History>>,
    acknowledged: Arc<AtomicUsize>,
}

struct Worker {
    options: LoadOptions,
    number: usize,
    at: usize,
    begin: Instant,
    random: StdRng,
    history: Arc<Mutex<History>>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    pub fn start(options: LoadOptions) -> Self {
        let (stop, history, acknowledged) = (CancellationToken::new(), Arc::default(), Arc::default());
        let mut workers = JoinSet::new();
        let begin = Instant::now();
        for number in 0..options.workers {
            let worker = Worker {
                random: StdRng::seed_from_u64(options.seed.wrapping_add(number as u64)),
                options: options.clone(),
                number,
                at: number,
                begin,
                history: Arc::clone(&history),
                acknowledged: Arc::clone(&acknowledged),
            };
            workers.spawn(worker.run(stop.clone()));
        }
        Self { stop, workers, history, acknowledged }
    }

    /// Executions acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the load; the record.
    pub async fn stop(mut self) -> History {
        self.stop.cancel();
        while self.workers.join_next().await.is_some() {}
        std::mem::take(&mut *self.history.lock().await)
    }
}

impl Worker {
    async fn run(mut self, stop: CancellationToken) {
        for step in 0u64.. {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.step(step) => {}
            }
            if !self.options.pause.is_zero() {
                tokio::time::sleep(self.options.pause).await;
            }
        }
    }

    fn api(&self) -> &Api {
        &self.options.clients[self.at % self.options.clients.len()]
    }

    async fn step(&mut self, step: u64) {
        let (action, parameters) = self.work(step);
        let requested = tokio::time::timeout(PATIENCE, self.api().run(&action, parameters)).await;
        let mut history = self.history.lock().await;
        history.calls += 1;
        match requested {
            Ok(Ok(id)) => {
                history.executions.push(id.clone());
                drop(history);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.look_back(&id, step).await;
            }
            Ok(Err(error)) => {
                history.refused.push((self.begin.elapsed(), error.to_string()));
                drop(history);
                self.next_node().await;
            }
            Err(_) => {
                history.refused.push((self.begin.elapsed(), "no answer in time".to_owned()));
                drop(history);
                self.next_node().await;
            }
        }
    }

    async fn next_node(&mut self) {
        self.at += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    fn work(&mut self, step: u64) -> (String, serde_json::Value) {
        let tag = format!("{}.{step}", self.number);
        let journal = self.options.journal.display();
        if self.options.limited_every > 0 && step.is_multiple_of(self.options.limited_every) {
            return (LIMITED.to_owned(), json!({"journal": format!("{journal}.limited")}));
        }
        match self.random.random_range(0..4) {
            0 => {
                let command = format!("echo start $ST2_ACTION_EXECUTION_ID {tag} >> {journal}");
                ("core.local".to_owned(), json!({"cmd": command}))
            }
            _ => ("core.noop".to_owned(), json!({})),
        }
    }

    /// Reads what was just acknowledged through another node, lists something that is never empty, writes a key.
    async fn look_back(&mut self, id: &str, step: u64) {
        let other = &self.options.clients[(self.at + 1) % self.options.clients.len()];
        let within = PATIENCE;
        if let Ok(Ok(reply)) =
            tokio::time::timeout(within, other.call(Method::GET, &format!("/v1/executions/{id}"), None)).await
            && reply.status == 404
        {
            self.history.lock().await.lies.push(format!("{id} was acknowledged and isn't found: {}", reply.text));
        }
        if step.is_multiple_of(8)
            && let Ok(Ok(reply)) =
                tokio::time::timeout(within, other.call(Method::GET, "/v1/actions?limit=1", None)).await
            && reply.status == 200
            && reply.json.as_array().is_none_or(Vec::is_empty)
        {
            self.history.lock().await.lies.push(format!("an empty list of actions with 200: {}", reply.text));
        }
        if step % 4 == 1 {
            self.write_key(step).await;
        }
    }

    async fn write_key(&mut self, step: u64) {
        let key = format!("lab{}", self.number);
        self.history.lock().await.keys.entry(key.clone()).or_default().1.push(step);
        let body = json!({"name": key, "value": step.to_string()});
        let path = format!("/v1/keys/{key}");
        let call = self.api().call(Method::PUT, &path, Some(&body));
        let written = tokio::time::timeout(PATIENCE, call).await;
        if matches!(written, Ok(Ok(reply)) if reply.status == 200) {
            self.history.lock().await.keys.insert(key, (Some(step), Vec::new()));
        }
    }
}
