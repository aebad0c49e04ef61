//! Group commit of fenced batches.
//!
//! All batches under one fence write the fence's document, so they can only come one after the other: those that wait
//! share a transaction. If one of them is refused, each is run on its own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use store::batch::{Fence, Write};
use store::{Applied, Batch, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::abandoned::clearing;
use super::transaction;
use crate::store::Inner;

/// Batches that wait under one fence; beyond it callers wait to get in.
const QUEUE: usize = 1_024;
/// What one transaction takes.
const MAX_BATCHES: usize = 256;
const MAX_WRITES: usize = 2_000;
const MAX_BYTES: usize = 8 << 20;

type Outcome = Result<Vec<Applied>, StoreError>;

#[derive(Debug)]
struct Waiting {
    batch: Batch,
    fence: Fence,
    answer: oneshot::Sender<Outcome>,
}

#[derive(Debug)]
struct Worker {
    queue: mpsc::Sender<Waiting>,
    task: JoinHandle<()>,
}

/// A worker for each fence's name.
#[derive(Debug)]
pub(super) struct Grouped {
    inner: Arc<Inner>,
    workers: Mutex<HashMap<String, Worker>>,
}

impl Grouped {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, workers: Mutex::default() }
    }

    pub(super) async fn commit(&self, batch: Batch) -> Outcome {
        let Some(fence) = batch.fence.clone() else {
            return Err(StoreError::Misuse("a batch without a fence".to_owned()));
        };
        let queue = self.queue(&fence.name);
        let (answer, outcome) = oneshot::channel();
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        queue.send(Waiting { batch, fence, answer }).await.map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }

    fn queue(&self, name: &str) -> mpsc::Sender<Waiting> {
        let mut workers = self.workers.lock();
        if let Some(worker) = workers.get(name)
            && !worker.queue.is_closed()
        {
            return worker.queue.clone();
        }
        let (queue, waiting) = mpsc::channel(QUEUE);
        let task = tokio::spawn(work(self.inner.clone(), waiting));
        workers.insert(name.to_owned(), Worker { queue: queue.clone(), task });
        queue
    }

    pub(super) async fn close(&self) {
        let workers: Vec<Worker> = self.workers.lock().drain().map(|(_, worker)| worker).collect();
        for worker in workers {
            worker.task.abort();
            let _ = worker.task.await;
        }
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        for worker in self.workers.lock().values() {
            worker.task.abort();
        }
    }
}

async fn work(inner: Arc<Inner>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut group = vec![first];
        let (mut writes, mut bytes) = size(&group[0].batch);
        while group.len() < MAX_BATCHES
            && let Ok(more) = waiting.try_recv()
        {
            let (count, length) = size(&more.batch);
            writes += count;
            bytes += length;
            if more.fence != group[0].fence || writes > MAX_WRITES || bytes > MAX_BYTES {
                next = Some(more);
                break;
            }
            group.push(more);
        }
        clearing(&inner, run(&inner, group)).await;
    }
}

fn size(batch: &Batch) -> (usize, usize) {
    let bytes = batch.writes.iter().map(|write| match write {
        Write::Insert { body, .. } | Write::Update { body, .. } => body.len(),
        Write::Delete { .. } => 0,
    });
    (batch.writes.len(), bytes.sum())
}

async fn run(inner: &Inner, group: Vec<Waiting>) {
    if group.len() > 1 {
        let batches: Vec<&[Write]> = group.iter().map(|one| &one.batch.writes[..]).collect();
        match transaction::run(inner, Some(&group[0].fence), &batches).await {
            Ok(all) => {
                for (one, applied) in group.into_iter().zip(all) {
                    // The caller may have gone: the outcome stands.
                    let _ = one.answer.send(Ok(applied));
                }
                return;
            }
            // Whether it took effect isn't known: running them again could say "duplicate" of their own work.
            Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => {
                for one in group {
                    let _ = one.answer.send(Err(error.clone()));
                }
                return;
            }
            Err(_) => {}
        }
    }
    for one in group {
        let outcome = transaction::commit(inner, &one.batch).await;
        let _ = one.answer.send(outcome);
    }
}
