//! The in-process adapter: buffers behind short locks, each wake-up aimed at one task, nothing polled.

mod fanout;
mod queue;

pub use fanout::Fanout;

use std::sync::Arc;

use async_trait::async_trait;

use crate::message::{Event, Job, Queue, Topic};
use crate::port::{Bus, BusError, Consumer, Subscription};
use queue::JobQueue;

/// Bounds of a [`LocalBus`].
#[derive(Debug, Clone)]
pub struct LocalBusOptions {
    /// Events that one subscriber may be behind before it loses the oldest.
    pub subscriber_buffer: usize,
    /// Jobs that may wait in one queue.
    pub queue_capacity: usize,
}

impl Default for LocalBusOptions {
    fn default() -> Self {
        Self { subscriber_buffer: 4_096, queue_capacity: 16_384 }
    }
}

/// The bus of a single node. Clones share it.
#[derive(Debug, Clone)]
pub struct LocalBus {
    fanout: Arc<Fanout>,
    queues: [Arc<JobQueue>; Queue::ALL.len()],
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new(LocalBusOptions::default())
    }
}

impl LocalBus {
    pub fn new(options: LocalBusOptions) -> Self {
        Self {
            fanout: Arc::new(Fanout::new(options.subscriber_buffer.max(1))),
            queues: Queue::ALL.map(|queue| Arc::new(JobQueue::new(queue, options.queue_capacity))),
        }
    }

    /// Ends every subscription and consumer; later calls are refused. Jobs that still wait are dropped: the store
    /// has the work.
    pub fn close(&self) {
        self.fanout.close();
        for queue in &self.queues {
            queue.close();
        }
    }

    /// Jobs that wait for a consumer.
    pub fn waiting(&self, queue: Queue) -> usize {
        self.queue(queue).waiting()
    }

    const fn queue(&self, queue: Queue) -> &Arc<JobQueue> {
        &self.queues[queue as usize]
    }
}

#[async_trait]
impl Bus for LocalBus {
    fn announce(&self, event: Arc<Event>) {
        self.fanout.announce(&event);
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        Box::new(self.fanout.subscribe(topics))
    }

    async fn enqueue(&self, queue: Queue, job: Job) -> Result<(), BusError> {
        self.queue(queue).push(job)
    }

    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Box<dyn Consumer>, BusError> {
        Ok(Box::new(self.queue(queue).consume(prefetch)?))
    }

    async fn waiting(&self, queue: Queue) -> Result<usize, BusError> {
        Ok(self.queue(queue).waiting())
    }

    async fn check(&self) -> Result<(), BusError> {
        if self.fanout.is_closed() { Err(BusError::Closed) } else { Ok(()) }
    }
}
