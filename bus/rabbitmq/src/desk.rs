//! One consumer's desk: what the broker sent it and nobody took up yet, and what is in hand.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Acknowledge, Delivery, Job, Queue};
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
    /// How long it may leave an accepted message unacknowledged.
    owed: Duration,
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
    /// Messages whose jobs are being worked on, by number in the order in which they were accepted.
    accepted: BTreeMap<u64, (Instant, Message)>,
    next: u64,
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

/// A node runs so much of its slots' number (one in so many) without asking who else has room.
const LOCAL_SHARE: usize = 4;

impl Desk {
    pub fn new(queue: Arc<JobQueue>, settler: Settler, prefetch: usize, owed: Duration) -> Self {
        let limit = prefetch.min(Semaphore::MAX_PERMITS);
        // Runs take long: a node that has many in hand shares the next ones with the others.
        let local = if queue.queue == Queue::Run { limit / LOCAL_SHARE } else { limit };
        let slots = Slots::new(limit, local);
        let permits = Arc::new(Semaphore::new(slots.limit()));
        let state =
            Mutex::new(State { slots, buffer: VecDeque::new(), accepted: BTreeMap::new(), next: 0, left: false });
        Self { queue, settler, owed, state, permits, arrived: Notify::new() }
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

    /// Messages are owed for too long.
    pub fn owes(&self) -> bool {
        let state = self.state.lock();
        state.accepted.first_key_value().is_some_and(|(_, (since, _))| since.elapsed() >= self.owed)
    }

    /// Acknowledges what is owed for long, while no window is open: the broker would fill it.
    pub fn pay(&self) {
        let mut state = self.state.lock();
        while let Some(first) = state.accepted.first_entry()
            && first.get().0.elapsed() >= self.owed / 2
        {
            let (_, message) = first.remove();
            state.slots.accept_remote(message.window);
            self.settler.settle(message.arrived.acker, message.channel, Fate::Done);
        }
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

    fn accept(self: Box<Self>) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(Accepted { desk: self.desk, number: None, _permit: self._permit }))
    }
}

/// A job that is being worked on; dropped at the end.
struct Accepted {
    desk: Arc<Desk>,
    /// Of its message, if it has one.
    number: Option<u64>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        let mut state = self.desk.state.lock();
        let Some(number) = self.number else { return state.slots.settle_local() };
        match state.accepted.remove(&number) {
            Some((_, message)) => {
                self.desk.settler.settle(message.arrived.acker, message.channel, Fate::Done);
                state.slots.settle_remote(message.window);
            }
            None => state.slots.leave_remote(),
        }
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

    fn accept(self: Box<Self>) -> Option<Box<dyn Any + Send>> {
        let Self { desk, message, _permit } = *self;
        let mut state = desk.state.lock();
        let number = state.next;
        state.next += 1;
        state.accepted.insert(number, (Instant::now(), message));
        drop(state);
        Some(Box::new(Accepted { desk, number: Some(number), _permit }))
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
