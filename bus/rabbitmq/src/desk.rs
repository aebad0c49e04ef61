//! One consumer's desk: what the broker sent it and nobody took up yet, and what is in hand.

use std::collections::VecDeque;
use std::sync::Arc;

use bus::{Acknowledge, Delivery, Job};
use lapin::Channel;
use lapin::message::Delivery as Arrived;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::jobs::JobQueue;
use crate::settle::{Fate, Settler};
use crate::slots::Slots;

#[derive(Debug)]
pub(crate) struct Desk {
    pub queue: Arc<JobQueue>,
    settler: Settler,
    state: Mutex<State>,
    /// One permit for each slot.
    pub permits: Arc<Semaphore>,
    /// A message was put on the desk.
    pub arrived: Notify,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    buffer: VecDeque<Message>,
    /// The consumer is gone; jobs in hand may still be settled.
    left: bool,
}

/// A message of the broker that holds a job.
#[derive(Debug)]
pub(crate) struct Message {
    pub job: Job,
    pub arrived: Arrived,
    pub channel: Arc<Channel>,
    window: u64,
}

impl Desk {
    pub fn new(queue: Arc<JobQueue>, settler: Settler, prefetch: usize) -> Self {
        let slots = Slots::new(prefetch.min(Semaphore::MAX_PERMITS));
        let permits = Arc::new(Semaphore::new(slots.limit()));
        let state = Mutex::new(State { slots, buffer: VecDeque::new(), left: false });
        Self { queue, settler, state, permits, arrived: Notify::new() }
    }

    pub fn limit(&self) -> usize {
        self.state.lock().slots.limit()
    }

    /// Local jobs that it could take now.
    pub fn room(&self) -> usize {
        let state = self.state.lock();
        if state.left { 0 } else { state.slots.room() }
    }

    /// The next job, if there is one: those of this process first.
    pub fn take(self: &Arc<Self>, permit: &mut Option<OwnedSemaphorePermit>) -> Option<Delivery> {
        if let Some(job) = self.queue.pop(|| self.state.lock().slots.take_local()) {
            let held = Local { desk: self.clone(), job: job.clone(), _permit: permit.take() };
            metrics::counter!("squall_bus_local_deliveries_total", "queue" => self.queue.queue.as_str()).increment(1);
            return Some(Delivery::new(job, Box::new(held)));
        }
        let mut state = self.state.lock();
        let message = state.buffer.pop_front()?;
        state.slots.take_remote();
        drop(state);
        let job = message.job.clone();
        Some(Delivery::new(job, Box::new(Remote { desk: self.clone(), message, _permit: permit.take() })))
    }

    /// Puts a message on the desk.
    pub fn put(&self, job: Job, arrived: Arrived, channel: Arc<Channel>) {
        let mut state = self.state.lock();
        let window = state.slots.buffer();
        state.buffer.push_back(Message { job, arrived, channel, window });
        drop(state);
        self.arrived.notify_one();
    }

    pub fn open_window(&self, window: usize) {
        self.state.lock().slots.open_window(window);
    }

    /// Whether a window as wide as what is free would be better than the current one.
    pub fn better_window(&self, stalled: bool) -> bool {
        self.state.lock().slots.better_window(stalled).is_some()
    }

    pub fn free(&self) -> usize {
        self.state.lock().slots.free()
    }

    pub fn is_stalled(&self) -> bool {
        self.state.lock().slots.is_stalled()
    }

    /// Nothing of the current window is here.
    pub fn is_idle(&self) -> bool {
        self.state.lock().slots.is_idle()
    }

    /// Clears what nobody took up; no window is open after it.
    pub fn clear(&self) -> Vec<Message> {
        let mut state = self.state.lock();
        state.slots.open_window(0);
        state.buffer.drain(..).collect()
    }

    pub fn leave(&self) {
        self.state.lock().left = true;
    }

    /// Wakes the consumer for good.
    pub fn close(&self) {
        self.permits.close();
        self.arrived.notify_one();
    }
}

/// A job of this process in hand.
#[derive(Debug)]
struct Local {
    desk: Arc<Desk>,
    job: Job,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Acknowledge for Local {
    fn settle(self: Box<Self>, done: bool) {
        self.desk.state.lock().slots.settle_local();
        if !done {
            self.desk.queue.put_back(self.job);
        }
    }

    fn release(self: Box<Self>) {
        self.desk.state.lock().slots.settle_local();
        self.desk.queue.restore(self.job);
    }
}

/// A message in hand.
#[derive(Debug)]
struct Remote {
    desk: Arc<Desk>,
    message: Message,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Acknowledge for Remote {
    fn settle(self: Box<Self>, done: bool) {
        let Self { desk, message, _permit } = *self;
        let fate = if done { Fate::Done } else { Fate::Again };
        desk.settler.settle(message.arrived.acker, message.channel, fate);
        desk.state.lock().slots.settle_remote(message.window);
    }

    /// It stays with this consumer: giving it back to the broker would count.
    fn release(self: Box<Self>) {
        let Self { desk, message, _permit } = *self;
        let mut state = desk.state.lock();
        if state.left {
            desk.settler.settle(message.arrived.acker, message.channel, Fate::Again);
            return state.slots.settle_remote(message.window);
        }
        if !message.channel.status().connected() {
            // Dead: it comes again by itself.
            return state.slots.settle_remote(message.window);
        }
        state.slots.rebuffer();
        state.buffer.push_front(message);
        drop(state);
        desk.arrived.notify_one();
    }
}
