//! Giving permits back to the coordinator, in the background.

use std::sync::Arc;
use std::time::Duration;

use coordinator::Coordinator;
use model::Id;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Releases that may be queued; what comes on top is left to the schedulers' and recovery's looks.
const QUEUE: usize = 10_000;
/// Releases on their way at a time.
const AT_ONCE: usize = 32;
const TRIES: u32 = 4;
const DEADLINE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Release {
    execution: Id,
    keys: Vec<String>,
}

/// Takes word of executions that need their permits (or wishes for some) no more. Best effort: what gets lost here is
/// found by [`super::reconcile`].
///
/// The task that does it belongs to this value and ends with it.
#[derive(Debug)]
pub struct Releases {
    sender: mpsc::Sender<Release>,
    worker: Mutex<Worker>,
}

#[derive(Debug)]
enum Worker {
    Idle(mpsc::Receiver<Release>, Arc<dyn Coordinator>),
    Working(AbortHandle),
    Stopped,
}

impl Releases {
    pub fn new(coordinator: Arc<dyn Coordinator>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, worker: Mutex::new(Worker::Idle(receiver, coordinator)) }
    }

    /// Gives back what the execution holds or waits for of these keys. Called from async code; doesn't wait.
    pub fn give_back(&self, execution: Id, keys: Vec<String>) {
        if keys.is_empty() {
            return;
        }
        self.start();
        if self.sender.try_send(Release { execution, keys }).is_err() {
            tracing::debug!(%execution, "too many permits are on their way back; left to a later look");
        }
    }

    fn start(&self) {
        let mut worker = self.worker.lock();
        if let Worker::Idle(..) = *worker
            && let Worker::Idle(receiver, coordinator) = std::mem::replace(&mut *worker, Worker::Stopped)
        {
            *worker = Worker::Working(tokio::spawn(work(receiver, coordinator)).abort_handle());
        }
    }
}

impl Drop for Releases {
    fn drop(&mut self) {
        if let Worker::Working(task) = &*self.worker.lock() {
            task.abort();
        }
    }
}

async fn work(mut queue: mpsc::Receiver<Release>, coordinator: Arc<dyn Coordinator>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            release = queue.recv(), if tasks.len() < AT_ONCE => match release {
                Some(release) => { tasks.spawn(give(coordinator.clone(), release)); }
                None => return,
            },
        }
    }
}

async fn give(coordinator: Arc<dyn Coordinator>, release: Release) {
    let request = release.execution.to_string();
    for key in &release.keys {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            match tokio::time::timeout(DEADLINE, coordinator.release(key, &request)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) if !error.is_retryable() || attempt == TRIES => {
                    tracing::debug!(execution = %request, key, %error, "a permit was not given back; left to a later look");
                    break;
                }
                _ => tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await,
            }
            pause *= 3;
        }
    }
}
