//! Jobs to one consumer each.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::message::{Job, Queue};
use crate::port::{Acknowledge, BusError, Consumer, Delivery};

/// One bounded queue.
#[derive(Debug)]
pub(super) struct JobQueue {
    queue: Queue,
    capacity: usize,
    state: Mutex<State>,
    /// Told once for each job that comes in. A consumer looks before it waits, and one that is dropped while it is
    /// being woken passes the word on.
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    /// The slots of each consumer: closing them wakes one that waits for a slot.
    consumers: Vec<Weak<Semaphore>>,
}

impl JobQueue {
    pub(super) fn new(queue: Queue, capacity: usize) -> Self {
        Self { queue, capacity, state: Mutex::default(), ready: Notify::new() }
    }

    pub(super) fn push(&self, job: Job) -> Result<(), BusError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(BusError::Closed);
        }
        if state.jobs.len() >= self.capacity {
            return Err(BusError::Full(self.queue.as_str()));
        }
        state.jobs.push_back(job);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// A job that was in hand comes back; it goes first, and whether or not the queue is full.
    fn put_back(&self, job: Job) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.jobs.push_front(job);
        drop(state);
        self.ready.notify_one();
    }

    pub(super) fn waiting(&self) -> usize {
        self.state.lock().jobs.len()
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.jobs = VecDeque::new();
        for slots in state.consumers.drain(..).filter_map(|slots| slots.upgrade()) {
            slots.close();
        }
        drop(state);
        self.ready.notify_waiters();
    }

    pub(super) fn consume(self: &Arc<Self>, prefetch: usize) -> Result<LocalConsumer, BusError> {
        let slots = Arc::new(Semaphore::new(prefetch.clamp(1, Semaphore::MAX_PERMITS)));
        let mut state = self.state.lock();
        if state.closed {
            return Err(BusError::Closed);
        }
        state.consumers.retain(|consumer| consumer.strong_count() > 0);
        state.consumers.push(Arc::downgrade(&slots));
        drop(state);
        Ok(LocalConsumer { queue: Arc::clone(self), slots })
    }
}

/// Takes jobs, as many at a time as it has slots.
#[derive(Debug)]
pub(super) struct LocalConsumer {
    queue: Arc<JobQueue>,
    slots: Arc<Semaphore>,
}

#[async_trait]
impl Consumer for LocalConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        loop {
            // Made before looking, so that a close in between is not missed.
            let ready = self.queue.ready.notified();
            let job = {
                let mut state = self.queue.state.lock();
                if state.closed {
                    return None;
                }
                state.jobs.pop_front()
            };
            if let Some(job) = job {
                let held = Held { queue: Arc::clone(&self.queue), job: job.clone(), _slot: slot };
                return Some(Delivery::new(job, Box::new(held)));
            }
            ready.await;
        }
    }
}

/// The other half of a delivery.
#[derive(Debug)]
struct Held {
    queue: Arc<JobQueue>,
    job: Job,
    _slot: OwnedSemaphorePermit,
}

impl Acknowledge for Held {
    fn settle(self: Box<Self>, done: bool) {
        if !done {
            self.queue.put_back(self.job);
        }
    }
}
