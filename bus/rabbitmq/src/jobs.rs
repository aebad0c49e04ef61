//! The jobs of one queue that wait in this process: handed to consumers of the same process, or kept while the broker
//! is away. What nobody here takes soon goes to the broker ([`crate::spill`]).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bus::{BusError, Job, Queue};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::desk::Desk;

/// One queue's part in this process.
#[derive(Debug)]
pub(crate) struct JobQueue {
    pub queue: Queue,
    capacity: usize,
    state: Mutex<State>,
    /// Told once for each job that comes in; a consumer looks before it waits.
    pub ready: Notify,
    /// Consumers that are gone and still have messages to give back.
    leaving: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Waiting>,
    /// Jobs whose consumer dropped them: for the broker, which counts tries.
    returned: VecDeque<Job>,
    consumers: Vec<Weak<Desk>>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    since: Instant,
}

impl Waiting {
    fn now(job: Job) -> Self {
        Self { job, since: Instant::now() }
    }
}

impl JobQueue {
    pub fn new(queue: Queue, capacity: usize) -> Self {
        Self {
            queue,
            capacity: capacity.max(1),
            state: Mutex::default(),
            ready: Notify::new(),
            leaving: watch::Sender::new(0),
        }
    }

    /// Takes the job if a consumer of this process has room for it; otherwise gives it back.
    pub fn offer(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state.lock();
        let waiting = state.jobs.len();
        let mut room = 0;
        let has_room = !state.closed
            && state.consumers.iter().filter_map(Weak::upgrade).any(|desk| {
                room += desk.room();
                room > waiting
            });
        if !has_room {
            return Err(job);
        }
        state.jobs.push_back(Waiting::now(job));
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Keeps the job until the broker is back or a consumer of this process takes it; `why` it can't go there now.
    pub fn keep(&self, job: Job, why: &str) -> Result<(), BusError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(BusError::Closed);
        }
        if state.jobs.len() >= self.capacity {
            return Err(BusError::Unavailable(why.to_owned()));
        }
        state.jobs.push_back(Waiting::now(job));
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// A job that was in hand comes back without blame: it goes first, and whether or not there is room.
    pub fn restore(&self, job: Job) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.jobs.push_front(Waiting::now(job));
        drop(state);
        self.ready.notify_one();
    }

    /// A job that was dropped by its consumer.
    pub fn put_back(&self, job: Job) {
        let mut state = self.state.lock();
        if !state.closed {
            state.returned.push_back(job);
        }
    }

    /// The next job for a consumer, which counts it under the same lock.
    pub fn pop(&self, count: impl FnOnce()) -> Option<Job> {
        let mut state = self.state.lock();
        let waiting = state.jobs.pop_front()?;
        count();
        Some(waiting.job)
    }

    /// Up to `limit` jobs that were dropped or have waited for `age`: they are the caller's now.
    pub fn overdue(&self, age: Duration, limit: usize) -> Vec<Job> {
        let mut state = self.state.lock();
        let returned = state.returned.len().min(limit);
        let mut jobs: Vec<Job> = state.returned.drain(..returned).collect();
        while jobs.len() < limit && state.jobs.front().is_some_and(|waiting| waiting.since.elapsed() >= age) {
            jobs.extend(state.jobs.pop_front().map(|waiting| waiting.job));
        }
        jobs
    }

    pub fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.jobs.len() + state.returned.len()
    }

    pub fn join(&self, desk: &Arc<Desk>) -> Result<(), BusError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(BusError::Closed);
        }
        state.consumers.retain(|consumer| consumer.strong_count() > 0);
        state.consumers.push(Arc::downgrade(desk));
        Ok(())
    }

    pub fn leave(&self, desk: &Arc<Desk>) {
        let desk = Arc::downgrade(desk);
        self.state.lock().consumers.retain(|consumer| !consumer.ptr_eq(&desk));
        self.leaving.send_modify(|leaving| *leaving += 1);
        // It may have been woken for a job that it will not take.
        self.ready.notify_one();
    }

    /// One of those that are gone gave back everything.
    pub fn left(&self) {
        self.leaving.send_modify(|leaving| *leaving = leaving.saturating_sub(1));
    }

    /// Returns once nobody is leaving.
    pub async fn settled(&self) {
        // The sender is here, so that waiting can't fail.
        let _ = self.leaving.subscribe().wait_for(|leaving| *leaving == 0).await;
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Ends all consumers; what still waits is the caller's.
    pub fn close(&self) -> Vec<Job> {
        let mut state = self.state.lock();
        state.closed = true;
        let mut left: Vec<Job> = state.returned.drain(..).collect();
        left.extend(state.jobs.drain(..).map(|waiting| waiting.job));
        let consumers: Vec<Arc<Desk>> = state.consumers.drain(..).filter_map(|desk| desk.upgrade()).collect();
        drop(state);
        for desk in consumers {
            desk.close();
        }
        self.ready.notify_waiters();
        left
    }
}
